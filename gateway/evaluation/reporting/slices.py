"""Figures by slice, and which slices differ for real."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from gateway.evaluation.intervals import SEED, Bools, Interval, share
from gateway.evaluation.judged import JudgedSet
from gateway.evaluation.metrics import Measure, group_numbers, measures
from gateway.evaluation.reporting.wording import NOTHING, listed, percent, percent_range, plural, rate
from gateway.evaluation.section import Section, Table

ALPHA = 0.05
"""Of slices that are said to differ at most this share does not (Benjamini and Hochberg 1995)."""

HOW = (
    "Each slice is tested against the rest of its column: by Fisher's exact test, or where images belong together by a "
    "permutation test. The p values are corrected for {looks} after Benjamini and Hochberg: at most {share} of such "
    "findings are chance."
)

MOST_VALUES = 20  # of a column that get a row; the rarer ones are counted
SLICED = ("right", "caught", "harmless_flagged")  # each further measure is a look more to correct for
RESAMPLES = 9999  # of a permutation test


@dataclass(frozen=True, slots=True)
class Slice:
    """A measure in one slice.

    Attributes:
        column, value: of the slice.
        measure: what is told.
        wanted: whether more of it is better.
        count: images that it is a share of.
        inside, outside: the share in the slice and in the rest of the column.
        p: of a test that both are alike; 1 where one side is empty.
        corrected: p after correction for all the looks of the report.
    """

    column: str
    value: str
    measure: str
    wanted: bool
    count: int
    inside: Interval
    outside: Interval
    p: float
    corrected: float = 1.0

    @property
    def differs(self) -> bool:
        """Whether the difference is real at ALPHA."""
        return self.corrected <= ALPHA

    @property
    def worse(self) -> bool:
        """Whether the slice is on the worse side of the difference."""
        return ((self.inside.value or 0.0) < (self.outside.value or 0.0)) == self.wanted

    @property
    def words(self) -> str:
        """What differs."""
        return (
            f"{self.column} = {self.value} ({percent(self.inside.value)} of {self.measure}, against "
            f"{percent(self.outside.value)} elsewhere)"
        )

    @property
    def json(self) -> dict[str, Any]:
        """As ``report.json`` has it."""
        return {
            "column": self.column,
            "value": self.value,
            "measure": self.measure,
            "pictures": self.count,
            "share": self.inside.json,
            "elsewhere": self.outside.value,
            "p": self.p,
            "p_corrected": self.corrected,
            "differs": self.differs,
        }


def slices(judged: JudgedSet) -> list[Slice]:
    """Return each measure in each slice with a corrected p value."""
    groups = group_numbers(judged)
    columns = sorted({column for entry in judged.images for column in entry.image.slices})
    found = []
    for column in columns:
        values = np.array([entry.image.slices.get(column, "") for entry in judged.images], dtype=str)
        common = [value for value, _ in Counter(values[values != ""].tolist()).most_common(MOST_VALUES)]
        for measure in (entry for entry in measures(judged) if entry.key in SLICED):
            found += _column(column, values, common, measure, groups)
    if not found:
        return []
    corrected = stats.false_discovery_control([entry.p for entry in found], method="bh")
    return [replace(entry, corrected=float(p)) for entry, p in zip(found, corrected, strict=True)]


def section(judged: JudgedSet) -> Section | None:
    """Return the slices as a part of the report; None where the table of images names none."""
    found = slices(judged)
    if not found:
        return None
    columns = list(dict.fromkeys(entry.column for entry in found))
    return Section(
        "slices",
        "By slice",
        paragraphs=(said(found), HOW.format(looks=plural(len(found), "look"), share=rate(ALPHA))),
        tables=[_table(column, [entry for entry in found if entry.column == column]) for column in columns],
        values={"slices": [entry.json for entry in found], "alpha": ALPHA},
    )


def said(found: list[Slice]) -> str:
    """Return which slices are worse than the rest, in one sentence."""
    real = sorted((entry for entry in found if entry.differs), key=lambda entry: entry.p)
    worse = [entry.words for entry in real if entry.worse]
    if worse:
        return f"Worse than the rest for real: {listed(worse)}."
    if real:
        return f"Better than the rest for real: {listed([entry.words for entry in real])}."
    return "No slice can be told from the rest on this number of images: what differs may be chance."


def p_value(found: Bools, inside: Bools, groups: npt.NDArray[np.intp]) -> float:
    """Return how likely a difference as large is by chance, if the slice is like the rest.

    Fisher's exact test; where images belong together, a permutation test of the groups' means, as Fisher's would take
    copies for evidence.

    Args:
        found: [n] what is counted.
        inside: [n] images of the slice.
        groups: [n] numbers of the groups.
    """
    if not inside.any() or inside.all():
        return 1.0
    if len(np.unique(groups)) == len(groups):
        table = [[int((found & side).sum()), int((~found & side).sum())] for side in (inside, ~inside)]
        return float(stats.fisher_exact(table).pvalue)
    sides = []
    for side in (inside, ~inside):
        _, numbers = np.unique(groups[side], return_inverse=True)
        sides.append(np.bincount(numbers, weights=found[side]) / np.bincount(numbers))
    if min(map(len, sides)) == 1 or np.ptp(np.concatenate(sides)) == 0:
        return 1.0

    def difference(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], axis: int) -> Any:  # noqa: ANN401
        return first.mean(axis=axis) - second.mean(axis=axis)

    tested = stats.permutation_test(
        sides, difference, vectorized=True, n_resamples=RESAMPLES, batch=500, rng=SEED, axis=0
    )
    return float(tested.pvalue)


def _column(
    column: str,
    values: npt.NDArray[np.str_],
    common: list[str],
    measure: Measure,
    groups: npt.NDArray[np.intp],
) -> list[Slice]:
    within = measure.among & (values != "")
    found, numbers, here = measure.found[within], groups[within], values[within]
    rows = []
    for value in common:
        inside = here == value
        rows.append(
            Slice(
                column,
                value,
                measure.name,
                measure.wanted,
                int(inside.sum()),
                share(found[inside], numbers[inside]),
                share(found[~inside], numbers[~inside]),
                p_value(found, inside, numbers),
            )
        )
    return rows


def _table(column: str, found: list[Slice]) -> Table:
    names = list(dict.fromkeys(entry.measure for entry in found))
    rows = []
    for value in dict.fromkeys(entry.value for entry in found):
        cells = {entry.measure: entry for entry in found if entry.value == value}
        rows.append([value, *(_cell(cells[name]) for name in names)])
    return Table(
        f"By {column}: share with its 95 % interval, images; ▲▼ marks a real difference", [column, *names], rows
    )


def _cell(entry: Slice) -> str:
    if entry.inside.value is None:
        return NOTHING
    mark = ""
    if entry.differs:
        mark = "▲ " if entry.inside.value > (entry.outside.value or 0.0) else "▼ "
    return f"{mark}{percent_range(entry.inside)} of {entry.count:,}"
