"""The tables of review: cases, who skipped them, legal holds, kept images, what is still to be told to webhooks."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Double, ForeignKey, Index, Integer, Table
from sqlalchemy.sql.elements import ColumnElement

from gateway.store.schema import CodePointText, UtcDateTime, metadata

# What waits for a person, at most one row a decision. ``closed_at`` is set while nothing waits. A claim is ``token``,
# and in force until ``claimed_until``; it stays in the row behind that, so that a late verdict counts if nobody else
# has claimed the case since.
review_cases = Table(
    "review_cases",
    metadata,
    Column(
        "decision_id",
        CodePointText,
        ForeignKey("decisions.id", ondelete="CASCADE", name="case_of_a_decision"),
        primary_key=True,
    ),
    Column("reason", CodePointText, nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("risk", Double, nullable=False),
    Column("margin", Double, nullable=False),
    Column("policy", CodePointText, nullable=False),
    Column("key", CodePointText),
    Column("claimed_by", CodePointText),
    Column("claimed_at", UtcDateTime),
    Column("claimed_until", UtcDateTime),
    Column("token", CodePointText),
)


def _index_of_open(name: str, *columns: ColumnElement[object] | Column[object]) -> None:
    is_open = review_cases.c.closed_at.is_(None)
    Index(name, *columns, sqlite_where=is_open, postgresql_where=is_open)


# One index an order, so that the next case is its first row that nobody has: claimed ones are few.
_index_of_open("review_cases_oldest", review_cases.c.opened_at, review_cases.c.decision_id)
_index_of_open("review_cases_riskiest", review_cases.c.risk.desc(), review_cases.c.decision_id)
_index_of_open("review_cases_uncertain", review_cases.c.margin, review_cases.c.decision_id)
_index_of_open("review_cases_by_reason", review_cases.c.reason, review_cases.c.opened_at, review_cases.c.decision_id)
_index_of_open("review_cases_by_claim", review_cases.c.claimed_by, review_cases.c.claimed_until)
Index(
    "review_cases_closed",
    review_cases.c.closed_at,
    review_cases.c.decision_id,
    sqlite_where=review_cases.c.closed_at.is_not(None),
    postgresql_where=review_cases.c.closed_at.is_not(None),
)

# Who does not want a case for a while; rows go when it is closed.
review_skips = Table(
    "review_skips",
    metadata,
    Column(
        "decision_id",
        CodePointText,
        ForeignKey("review_cases.decision_id", ondelete="CASCADE", name="skip_of_a_case"),
        primary_key=True,
    ),
    Column("reviewer", CodePointText, primary_key=True),
    Column("until", UtcDateTime, nullable=False),
)

# What stands under a legal hold: neither its decisions nor its images are deleted.
legal_holds = Table(
    "legal_holds",
    metadata,
    Column("external_id", CodePointText, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("reason", CodePointText, nullable=False),
    Column("key", CodePointText),
)

# One row for each decision whose stills are kept, written before the first of them: without ``kept_at`` they may be
# there in part, with ``deleted_at`` no more. No foreign key: the row outlives its decision until its stills are gone.
review_images = Table(
    "review_images",
    metadata,
    Column("decision_id", CodePointText, primary_key=True),
    Column("external_id", CodePointText),
    Column("at", UtcDateTime, nullable=False),
    Column("kept_at", UtcDateTime),
    Column("deleted_at", UtcDateTime),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("stills", JSON, nullable=False),
)
Index("review_images_by_external_id", review_images.c.external_id)
Index("review_images_by_time", review_images.c.at)
