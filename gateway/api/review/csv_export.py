"""Decisions as rows of CSV (RFC 4180) that a spreadsheet opens without taking a cell for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

import orjson

from gateway.moderation.sampling import standing_verdict
from gateway.store.decisions import DecisionRecord, Feedback, fired_in

COLUMNS = (
    *("id", "at", "external_id", "image_sha256", "policy", "version", "decision", "outcome", "categories", "scores"),
    *("reviewer", "note"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with, as OWASP's page on CSV injection lists it; the last four are full-width forms."""


def head() -> bytes:
    """Return the line of column names."""
    return csv_lines([COLUMNS])


def csv_of(records: Sequence[DecisionRecord], feedback: Iterable[Feedback]) -> bytes:
    """Return a line a decision, with the reviewer and note of the verdict that holds."""
    given: dict[str, list[Feedback]] = {}
    for one in feedback:
        given.setdefault(one.decision_id, []).append(one)
    return csv_lines(_cells(record, standing_verdict(record, given.get(record.id, ()))) for record in records)


def csv_lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Return rows as CSV in UTF-8; a cell that would be a formula is prefixed by an apostrophe."""
    text = io.StringIO()
    csv.writer(text).writerows([plain(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def plain(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _cells(record: DecisionRecord, verdict: Feedback | None) -> tuple[str, ...]:
    return (
        record.id,
        record.at.isoformat(),
        record.external_id or "",
        record.image_sha256,
        record.policy,
        str(record.policy_version),
        record.decision,
        record.outcome,
        "; ".join(sorted(fired_in(record))),
        orjson.dumps(record.categories).decode(),
        record.reviewer or record.reviewed_by or "",
        "" if verdict is None else verdict.note,
    )
