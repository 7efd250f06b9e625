"""What a section of the benchmarks gives, how it is kept, and how docs/benchmarks.md is composed of what was kept.

A section is measured in one run and kept as JSON with its date and machine, so that one section can be measured again
without the others; what stands side by side in a table was always measured side by side.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.bench.machine import machine
from scripts.bench.plan import Plan

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "reports" / "bench"
INTRODUCTION = """# Benchmarks

Written by `make bench`; do not edit. What stands in one table was measured in one run, the sides taking turns, and the
figures are medians of the rounds. Ratios carry over to other machines, absolute figures do not. Nothing here is
asserted in a test.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header; every cell is text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return it as a Markdown table."""
        return "\n".join(_line(row) for row in (self.header, ("---",) * len(self.header), *self.rows))


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that was to be reached.

    Attributes:
        name: of what is measured, such as ``REST of what the cores allow``.
        asked: the bound in words, such as ``at least 97 %``.
        measured: the figure with its unit.
        met: whether it was reached; None where nothing could be measured.
    """

    name: str
    asked: str
    measured: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the benchmarks.

    Attributes:
        title: its heading.
        targets: what was to be reached.
        tables: all that was measured.
        notes: paragraphs: how it was measured, and why a target is missed.
        figures: numbers that other sections read, by name, such as throughput for the table of costs.
    """

    title: str
    targets: tuple[Target, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    figures: dict[str, float] = dataclasses.field(default_factory=dict)

    def markdown(self) -> str:
        """Return it as Markdown, without a heading."""
        parts = []
        if self.targets:
            rows = tuple((target.name, target.asked, target.measured, _verdict(target)) for target in self.targets)
            parts.append(Table(("to reach", "asked", "measured", ""), rows).markdown())
        parts += [table.markdown() for table in self.tables]
        return "\n\n".join([*parts, *self.notes])


@dataclass(frozen=True, slots=True)
class Kept:
    """A section as it was kept: with when, where and how it was measured."""

    name: str
    section: Section
    date: str
    machine: str
    plan: str


def keep(name: str, section: Section, plan: Plan, stolen: float) -> Kept:
    """Keep what was measured now, in ``reports/bench/<name>.json``.

    Args:
        name: of the section.
        section: what was measured.
        plan: how.
        stolen: part of the processors' time that the machine's host took meanwhile.
    """
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    on = f"{machine()}, of whose time the host took {stolen:.1%}" if stolen else machine()
    kept = Kept(name, section, today, on, plan.words())
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(dataclasses.asdict(kept), indent=1) + "\n", encoding="utf-8")
    return kept


def load(name: str) -> Kept | None:
    """Return a section as it was kept last; None if it never was."""
    try:
        read = json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    given = read.pop("section")
    section = Section(
        given["title"],
        tuple(Target(**target) for target in given["targets"]),
        tuple(Table(tuple(table["header"]), tuple(tuple(row) for row in table["rows"])) for table in given["tables"]),
        tuple(given["notes"]),
        given["figures"],
    )
    return Kept(section=section, **read)


def compose(sections: Iterable[Kept]) -> str:
    """Return the text of docs/benchmarks.md: all targets in one table first, then section by section."""
    kept = list(sections)
    rows = tuple(
        (f"[{one.section.title}](#{_anchor(one.section.title)})", target.name, target.asked, target.measured,
         _verdict(target))
        for one in kept
        for target in one.section.targets
    )  # fmt: skip
    parts = [INTRODUCTION, Table(("section", "to reach", "asked", "measured", ""), rows).markdown()]
    for one in kept:
        where = f"{one.date}; {one.machine}; {one.plan}. `python -m scripts.bench {one.name}`"
        parts += [f"## {one.section.title}", where, one.section.markdown()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _verdict(target: Target) -> str:
    return {True: "met", False: "**missed**", None: "not measured"}[target.met]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _anchor(title: str) -> str:
    """Return a heading's anchor as GitHub makes it."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")
