"""Two runs on the same images: which differences are real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from gateway.evaluation.intervals import CELLS, CONFIDENCE, SEED, Bools, Floats, Interval, curve_areas, strata_of
from gateway.evaluation.judged import JudgedSet, read_judged
from gateway.evaluation.metrics import Measure, measures, right, scored
from gateway.evaluation.report import write_page
from gateway.evaluation.reporting.summary import asked
from gateway.evaluation.reporting.wording import percent, plural, rate
from gateway.evaluation.section import Section, Table

ALPHA = 0.05
"""Of differences that are called real at most this share is chance (Benjamini and Hochberg 1995)."""

RESAMPLES = 2000
JUDGED = "judged.jsonl"


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of both runs on the same images.

    Attributes:
        name: of the figure.
        count: images that it is of.
        first, second: the figure of each run, 0 to 1.
        interval: second minus first, with its 95 % interval; the ends are None where only a test was made.
        p: that both are alike.
        corrected: p after correction for all figures that were compared.
    """

    name: str
    count: int
    first: float
    second: float
    interval: Interval
    p: float
    corrected: float = 1.0

    @property
    def real(self) -> bool:
        """Whether it is real at ALPHA."""
        return self.corrected <= ALPHA

    @property
    def json(self) -> dict[str, Any]:
        """As ``compare.json`` has it."""
        return {
            "name": self.name,
            "pictures": self.count,
            "first": self.first,
            "second": self.second,
            "difference": self.interval.json,
            "p": self.p,
            "p_corrected": self.corrected,
            "real": self.real,
        }


def compare_reports(first: Path, second: Path, out: Path) -> dict[str, Any]:
    """Compare two runs on the images that both judged, and write ``compare.html`` and ``compare.json``.

    Where either policy says that it was tuned, or has a trained head, the images are those of the ``test`` part.

    Args:
        first: folder of a report, with its ``judged.jsonl``.
        second: another one.
        out: folder; made where it is missing.

    Returns:
        What ``compare.json`` holds.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a table is none, or no image is in both.
    """
    one, two, notes = paired(read_judged(first / JUDGED), read_judged(second / JUDGED))
    found = differences(one, two)
    real = [entry for entry in found if entry.real]
    names = (asked(one), asked(two))
    values: dict[str, Any] = {
        "pictures": len(one.images),
        "first": {"asked": names[0], "model": dict(one.run.model), "at": one.run.at},
        "second": {"asked": names[1], "model": dict(two.run.model), "at": two.run.at},
        "notes": notes,
        "alpha": ALPHA,
        "differences": [entry.json for entry in found],
        "real": [entry.name for entry in real],
    }
    same = plural(len(one.images), "image")
    said = [
        f"On the same {same}: first {names[0]}, of {one.run.at}; second {names[1]}, of {two.run.at}.",
        *(_sentence(entry) for entry in real),
    ]
    if not real:
        said.append("No difference can be told from chance on this number of images.")
    page = {
        "title": "Two runs on the same images: which differences are real?",
        "summary": said,
        "sections": [_section(found, notes)],
    }
    write_page(out, "compare", page, values, [])
    return values


def paired(first: JudgedSet, second: JudgedSet) -> tuple[JudgedSet, JudgedSet, list[str]]:
    """Return both sets with the same images in the same order, and what was left out, in sentences.

    Raises:
        ValueError: no image is in both.
    """
    tuned = any((run.policy_body or {}).get("tuned_on") or run.learned for run in (first.run, second.run))
    sides = [
        {entry.sha256: entry for entry in (side.of("test") if tuned else side).images if entry.sha256}
        for side in (first, second)
    ]
    both = [sha256 for sha256 in sides[0] if sha256 in sides[1]]
    same = [sha256 for sha256 in both if sides[0][sha256].image.labels == sides[1][sha256].image.labels]
    if not same:
        raise ValueError("no image is in both tables with the same labels: there is nothing to compare")
    notes = ["Only images of the test part: something was tuned or learned on the others."] if tuned else []
    alone = [len(side) - len(both) for side in sides]
    if any(alone):
        notes.append(f"Judged in one run alone: {alone[0]:,} in the first, {alone[1]:,} in the second.")
    if len(same) < len(both):
        notes.append(f"{plural(len(both) - len(same), 'image')} with other labels in the two tables are left out.")
    rows = [tuple(side[sha256] for sha256 in same) for side in sides]
    return replace(first, images=rows[0], failed=()), replace(second, images=rows[1], failed=()), notes


def differences(first: JudgedSet, second: JudgedSet) -> list[Difference]:
    """Return every figure that both runs have, with corrected p values.

    Args:
        first: as ``paired`` returns it.
        second: the other one, with the same images in the same order.
    """
    names = first.groups()
    groups = np.unique(np.asarray(names, dtype=str), return_inverse=True)[1].astype(np.intp)
    found = []
    theirs = {measure.key: measure for measure in (right(second), *measures(second))}
    seen = {measure.key: measure for measure in (right(first), *measures(first))}
    for key, measure in seen.items():
        if key in theirs and measure.among.any():
            found.append(_share(measure, theirs[key], groups))
    for category in scored(first):
        truth = first.truth(category)
        if category in scored(second) and 0 < truth.sum() < len(truth):
            found += _areas(category, first.scores(category), second.scores(category), truth, names)
    if not found:
        return []
    corrected = stats.false_discovery_control([entry.p for entry in found], method="bh")
    return [replace(entry, corrected=float(p)) for entry, p in zip(found, corrected, strict=True)]


def mcnemar(first: Bools, second: Bools) -> float:
    """Return the exact p value of McNemar's test (1947): of what differs, half is expected either way."""
    better, worse = int((second & ~first).sum()), int((first & ~second).sum())
    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def _share(first: Measure, second: Measure, groups: npt.NDArray[np.intp]) -> Difference:
    here = first.among & second.among
    one, two, numbers = first.found[here], second.found[here], groups[here]
    if len(np.unique(numbers)) == len(numbers):
        p = mcnemar(one, two)
    else:  # images that belong together change together: groups change their sign, not images
        sums = np.bincount(np.unique(numbers, return_inverse=True)[1], weights=two.astype(float) - one).astype(float)
        p = _sign_flips(sums)
    gap = Interval(float(two.mean() - one.mean()))
    return Difference(first.name, int(here.sum()), float(one.mean()), float(two.mean()), gap, p)


def _sign_flips(sums: Floats) -> float:
    if not sums.any():
        return 1.0
    tested = stats.permutation_test(
        (sums[sums != 0],),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        batch=1000,
        rng=SEED,
    )
    return float(tested.pvalue)


def _areas(category: str, first: Floats, second: Floats, truth: Bools, names: Sequence[str]) -> list[Difference]:
    """Return the differences of ROC AUC and average precision, by a bootstrap that draws both runs' images alike."""
    strata, rng = strata_of(truth, names), np.random.default_rng(SEED)
    if not all(len(ids) for ids in strata.strata):
        return []
    step = max(1, CELLS // len(truth))
    gaps = []
    for start in range(0, RESAMPLES, step):
        many = min(step, RESAMPLES - start)
        weights = strata.weights([rng.choice(ids, (many, len(ids))) for ids in strata.strata])
        gaps.append(np.subtract(curve_areas(second, truth, weights), curve_areas(first, truth, weights)))
    drawn = np.concatenate(gaps, axis=1)
    whole = np.ones((1, len(truth)))
    values = np.stack([curve_areas(side, truth, whole) for side in (first, second)])[:, :, 0]
    found = []
    for number, figure in enumerate(("ROC AUC", "average precision")):
        below, above = (int(side.sum()) for side in (drawn[number] <= 0, drawn[number] >= 0))
        p = min(1.0, 2 * (1 + min(below, above)) / (1 + RESAMPLES))  # never 0: Davison and Hinkley 1997, 4.2
        low, high = np.quantile(drawn[number], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        one, two = map(float, values[:, number])
        gap = Interval(two - one, float(low), float(high))
        found.append(Difference(f"{figure} of {category}", len(truth), one, two, gap, p))
    return found


def _sentence(entry: Difference) -> str:
    if entry.interval.low is None:
        return f"Real: {entry.name}, {percent(entry.first)} in the first and {percent(entry.second)} in the second."
    return f"Real: {entry.name}, {entry.first:.3f} in the first and {entry.second:.3f} in the second."


def _section(found: Sequence[Difference], notes: Sequence[str]) -> Section:
    rows = [
        [
            entry.name,
            f"{entry.count:,}",
            f"{entry.first:.3f}",
            f"{entry.second:.3f}",
            _gap(entry.interval),
            f"{entry.corrected:.3f}" if entry.corrected >= 0.001 else "< 0.001",  # noqa: PLR2004 -- three digits
            "yes" if entry.real else "no",
        ]
        for entry in found
    ]
    how = (
        f"Shares are compared by McNemar's exact test (by permuting whole groups, where images belong together), areas "
        f"by a paired bootstrap over groups. The p values are corrected for {plural(len(found), 'look')} after "
        f"Benjamini and Hochberg: at most {rate(ALPHA)} of the differences called real are chance."
    )
    head = ["figure", "images", "first", "second", "second minus first", "p, corrected", "real"]
    return Section("differences", "All figures", [*notes, how], [Table("Figures of both runs", head, rows)])


def _gap(interval: Interval) -> str:
    value = f"{interval.value or 0.0:+.3f}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} ({interval.low:+.3f} to {interval.high:+.3f})"
