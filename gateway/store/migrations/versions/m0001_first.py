"""Everything of the first release: versions, decisions, lists, audit.

Revision: 0001. A migration says what the tables were then: it imports nothing from ``gateway.store.schema``.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the tables, and the one row that counts changes."""
    words = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    moment = sa.DateTime(timezone=True)
    row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

    revisions = op.create_table(
        "revisions",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.Column("lists", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(revisions, [{"id": 1, "value": 0, "lists": 0}])

    op.create_table(
        "resources",
        sa.Column("kind", words, primary_key=True),
        sa.Column("name", words, primary_key=True),
        sa.Column("active", sa.Integer),
        sa.Column("latest", sa.Integer, nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column("kind", words, primary_key=True),
        sa.Column("name", words, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("pins", sa.JSON, nullable=False),
        sa.Column("bundle_id", words),
        sa.Column("digest", words, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.ForeignKeyConstraint(["kind", "name"], ["resources.kind", "resources.name"], name="versions_of_a_resource"),
    )

    op.create_table(
        "decisions",
        sa.Column("id", words, primary_key=True),
        sa.Column("at", moment, nullable=False),
        sa.Column("request_id", words, nullable=False),
        sa.Column("external_id", words),
        sa.Column("image_sha256", words, nullable=False),
        sa.Column("image_pdq", words),
        sa.Column("policy", words, nullable=False),
        sa.Column("policy_version", sa.Integer, nullable=False),
        sa.Column("bundle_id", words, nullable=False),
        sa.Column("decision", words, nullable=False),
        sa.Column("categories", sa.JSON, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("vectors", sa.LargeBinary),
    )
    op.create_index("decisions_by_time", "decisions", ["at", "id"])
    op.create_index("decisions_by_policy", "decisions", ["policy", "at", "id"])
    op.create_index("decisions_by_decision", "decisions", ["decision", "at", "id"])
    for name, columns, condition in (
        ("decisions_by_external_id", ["external_id", "at", "id"], sa.text("external_id IS NOT NULL")),
        ("decisions_with_vectors", ["at", "id"], sa.text("vectors IS NOT NULL")),
    ):
        op.create_index(name, "decisions", columns, sqlite_where=condition, postgresql_where=condition)
    op.create_table(
        "fired_categories",
        sa.Column("category", words, primary_key=True),
        sa.Column("at", moment, primary_key=True),
        sa.Column("decision_id", words, primary_key=True),
        sa.ForeignKeyConstraint(["decision_id"], ["decisions.id"], name="fired_in_a_decision", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_index("fired_categories_by_decision", "fired_categories", ["decision_id"])
    op.create_table(
        "feedback",
        sa.Column("id", row_number, primary_key=True),
        sa.Column("decision_id", words, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("decision", words, nullable=False),
        sa.Column("categories", sa.JSON, nullable=False),
        sa.Column("note", words, nullable=False),
        sa.ForeignKeyConstraint(["decision_id"], ["decisions.id"], name="feedback_on_a_decision", ondelete="CASCADE"),
    )
    op.create_index("feedback_by_decision", "feedback", ["decision_id", "at", "id"])

    op.create_table(
        "lists",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", words, nullable=False),
        sa.Column("action", words, nullable=False),
        sa.Column("kind", words, nullable=False),
        sa.Column("max_distance", sa.Integer, nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("lists_by_name", "lists", ["name"], unique=True)
    op.create_table(
        "list_entries",
        sa.Column("list_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        sqlite_with_rowid=False,
    )

    op.create_table(
        "audit",
        sa.Column("id", row_number, primary_key=True),
        sa.Column("at", moment, nullable=False),
        sa.Column("actor", words, nullable=False),
        sa.Column("action", words, nullable=False),
        sa.Column("kind", words, nullable=False),
        sa.Column("name", words, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("detail", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    """Drop everything."""
    for table in (
        "audit",
        "list_entries",
        "lists",
        "feedback",
        "fired_categories",
        "decisions",
        "versions",
        "resources",
        "revisions",
    ):
        op.drop_table(table)
