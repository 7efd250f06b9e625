"""The tables, and the column types that make SQLite and PostgreSQL keep the same values.

An empty database gets them as they are here. Those of earlier releases are migrated, so a change here needs a migration
beside it in ``migrations/versions``; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    false,
)
from sqlalchemy.dialects import postgresql


class UtcDateTime(TypeDecorator[datetime]):
    """A time to the microsecond, with a zone when written and in UTC when read.

    SQLite has no zones: it keeps the time in UTC as text, which sorts by time.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC.

        Raises:
            ValueError: the time has no zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be kept")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Add the zone UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class CodePointText(TypeDecorator[str]):
    """Text that sorts by code point in either database, whatever the server's locale.

    PostgreSQL cannot keep U+0000 in text, so neither may.
    """

    impl = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the text unchanged.

        Raises:
            ValueError: it holds a NUL.
        """
        if value is not None and "\0" in value:
            raise ValueError("text that holds a NUL cannot be kept")
        return value


# The row number of tables that only grow: 64 bits; SQLite counts by itself only in a column of type INTEGER.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

# One row: ``value`` is bumped in the transaction of each change of a classifier, policy or list, ``lists`` is the value
# at the latest change of a list. Its lock is also what puts the writers of versions in a queue.
revisions = Table(
    "revisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
    Column("lists", BigInteger, nullable=False),
)

# A deleted resource keeps its row, so that its numbers are never given out again.
resources = Table(
    "resources",
    metadata,
    Column("kind", CodePointText, primary_key=True),
    Column("name", CodePointText, primary_key=True),
    Column("latest", Integer, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("kind", CodePointText, primary_key=True),
    Column("name", CodePointText, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("body", JSON, nullable=False),
    Column("pins", JSON, nullable=False),
    Column("bundle_id", CodePointText),
    Column("digest", CodePointText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["kind", "name"], ["resources.kind", "resources.name"], name="versions_of_a_resource"),
)


def _of_a_version(number: str, name: str) -> ForeignKeyConstraint:
    key = ["versions.kind", "versions.name", "versions.number"]
    return ForeignKeyConstraint(["kind", "name", number], key, name=name, ondelete="CASCADE")


# Which version is in force for a bundle, and the revision at which it was activated there.
activations = Table(
    "activations",
    metadata,
    Column("kind", CodePointText, primary_key=True),
    Column("name", CodePointText, primary_key=True),
    Column("bundle_id", CodePointText, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    _of_a_version("version", "activation_of_a_version"),
)

# What runs beside a policy's active version for a bundle, until another version is activated there.
rollouts = Table(
    "rollouts",
    metadata,
    Column("name", CodePointText, primary_key=True),
    Column("bundle_id", CodePointText, primary_key=True),
    Column("shadow", CodePointText),
    Column("candidate", Integer),
    Column("share", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

# What the labels of a classifier's version are to a text tower; ``inference/label_matrix.py`` says what the bytes hold.
label_vectors = Table(
    "label_vectors",
    metadata,
    Column("kind", CodePointText, primary_key=True),
    Column("name", CodePointText, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("text_checksum", CodePointText, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    _of_a_version("number", "label_vectors_of_a_version"),
)


def _of_a_decision(name: str) -> ForeignKey:
    return ForeignKey("decisions.id", ondelete="CASCADE", name=name)


def _index_where_present(column: Column[Any], name: str, *first: Column[Any]) -> None:
    present = column.is_not(None)
    Index(name, *first, decisions.c.at, decisions.c.id, sqlite_where=present, postgresql_where=present)


# Vectors last: SQLite then reads the other columns without touching them.
decisions = Table(
    "decisions",
    metadata,
    Column("id", CodePointText, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("request_id", CodePointText, nullable=False),
    Column("external_id", CodePointText),
    Column("image_sha256", CodePointText, nullable=False),
    Column("image_pdq", CodePointText),
    Column("policy", CodePointText, nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("bundle_id", CodePointText, nullable=False),
    Column("decision", CodePointText, nullable=False),
    Column("outcome", CodePointText, nullable=False),
    Column("reviewed_at", UtcDateTime),
    Column("reviewed_by", CodePointText),
    Column("reviewer", CodePointText),
    Column("shadow_differs", Boolean),
    Column("categories", JSON, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("vectors", LargeBinary),
)
Index("decisions_by_time", decisions.c.at, decisions.c.id)
Index("decisions_by_policy", decisions.c.policy, decisions.c.at, decisions.c.id)
Index("decisions_by_decision", decisions.c.decision, decisions.c.at, decisions.c.id)
Index("decisions_by_outcome", decisions.c.outcome, decisions.c.at, decisions.c.id)
Index("decisions_by_image", decisions.c.image_sha256, decisions.c.at, decisions.c.id)
_index_where_present(decisions.c.external_id, "decisions_by_external_id", decisions.c.external_id)
_index_where_present(decisions.c.reviewed_at, "decisions_reviewed")
_index_where_present(decisions.c.shadow_differs, "decisions_with_a_shadow", decisions.c.shadow_differs)
_index_where_present(decisions.c.vectors, "decisions_with_vectors")

# The categories that fired in a decision, in the order in which a page of them is read.
fired_categories = Table(
    "fired_categories",
    metadata,
    Column("category", CodePointText, primary_key=True),
    Column("at", UtcDateTime, primary_key=True),
    Column("decision_id", CodePointText, _of_a_decision("fired_in_a_decision"), primary_key=True),
    sqlite_with_rowid=False,
)
Index("fired_categories_by_decision", fired_categories.c.decision_id)

# Verdicts, appeals and verdicts taken back. ``token`` is the claim under which a verdict was given, so that a repeated
# one is known; ``before`` is what it changed, so that it can be taken back.
feedback = Table(
    "feedback",
    metadata,
    Column("id", RowNumber, primary_key=True),
    Column("decision_id", CodePointText, _of_a_decision("feedback_on_a_decision"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", CodePointText, nullable=False),
    Column("decision", CodePointText),
    Column("categories", JSON, nullable=False),
    Column("note", CodePointText, nullable=False),
    Column("reason", CodePointText, nullable=False),
    Column("key", CodePointText),
    Column("reviewer", CodePointText),
    Column("list", CodePointText),
    Column("undone", Boolean, nullable=False),
    Column("token", CodePointText),
    Column("before", JSON),
)
Index("feedback_by_decision", feedback.c.decision_id, feedback.c.at, feedback.c.id)

lists = Table(
    "lists",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", CodePointText, nullable=False),
    Column("action", CodePointText, nullable=False),
    Column("kind", CodePointText, nullable=False),
    Column("max_distance", Integer, nullable=False),
    Column("withhold", Boolean, nullable=False, server_default=false()),
    Column("entries", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("logged_since", BigInteger, nullable=False, server_default="0"),
    Column("logged", Integer, nullable=False, server_default="0"),
)
Index("lists_by_name", lists.c.name, unique=True)

# A long import is written as a part of its own, in many transactions, and its revision, set by the last of them, makes
# it belong to the list: until then nobody reads it. ``touched`` tells an import under way from one that was cut off.
list_parts = Table(
    "list_parts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("list_id", Integer, nullable=False),
    Column("revision", BigInteger),
    Column("touched", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,  # the number of a part that is gone is never given out again
)
Index("list_parts_by_list", list_parts.c.list_id)

# What was added to a list and removed from it after the list's ``logged_since``: ``logged`` rows, at most so many. Who
# has read the list at that revision or a later one needs only these.
list_changes = Table(
    "list_changes",
    metadata,
    Column("list_id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, primary_key=True),
    Column("present", Boolean, nullable=False),
    sqlite_with_rowid=False,
)

# Raw bytes: half of the hex, and the same order. ``list_id`` is the list's id, or of a part its id with a minus sign.
# No foreign key: the list's row is locked by whoever adds entries, and PostgreSQL's check of each of a million rows
# doubles the time of an import.
list_entries = Table(
    "list_entries",
    metadata,
    Column("list_id", Integer, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, primary_key=True),
    sqlite_with_rowid=False,
)

# One row for each kind of work that is done once for all gateways.
leases = Table(
    "leases",
    metadata,
    Column("work", CodePointText, primary_key=True),
    Column("owner", CodePointText, nullable=False),
    Column("held_until", UtcDateTime, nullable=False),
)

# What requests that decide were answered, by their idempotency keys; ``until`` is when a key is free again.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", CodePointText, primary_key=True),
    Column("key", CodePointText, primary_key=True),
    Column("fingerprint", CodePointText, nullable=False),
    Column("token", CodePointText, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("external_ids", CodePointText),
    Column("answer", LargeBinary),
)
Index("idempotency_keys_by_time", idempotency_keys.c.until)

# One row, made by the first gateway: what choices are derived from that nobody outside may foresee.
installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("secret", LargeBinary, nullable=False),
)

# Only appended to: nothing here deletes or changes a row.
audit = Table(
    "audit",
    metadata,
    Column("id", RowNumber, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", CodePointText, nullable=False),
    Column("action", CodePointText, nullable=False),
    Column("kind", CodePointText, nullable=False),
    Column("name", CodePointText, nullable=False),
    Column("version", Integer),
    Column("detail", JSON, nullable=False),
    Column("request_id", CodePointText),
)
