"""A part of a report, as any step of an evaluation may add one: plain values that the report draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        caption: one sentence.
        head: names of the columns.
        rows: cells as people read them.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing.

    Attributes:
        name: of its PNG file, without the ending.
        caption: one sentence; also what a screen reader reads.
        svg: the drawing.
        png: the same in pixels; empty where only the SVG was drawn, which is then written beside the report.
    """

    name: str
    caption: str
    svg: str = field(repr=False)
    png: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report.

    Attributes:
        key: its name in ``report.json``.
        title: its heading.
        paragraphs: plain text.
        tables, figures: in this order, below the text.
        values: JSON values that ``report.json`` holds under the key.
    """

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    values: dict[str, Any] = field(default_factory=dict)
