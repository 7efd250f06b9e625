"""Lists that are added to in parts, and a log of their latest changes, so that readers need not read them whole.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the tables; of what was there before nothing is logged."""
    op.create_table(
        "list_parts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("list_id", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger),
        sa.Column("touched", sa.DateTime(timezone=True), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("list_parts_by_list", "list_parts", ["list_id"])
    op.create_table(
        "list_changes",
        sa.Column("list_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        sa.Column("present", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.add_column("lists", sa.Column("logged_since", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("lists", sa.Column("logged", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE lists SET logged_since = revision")


def downgrade() -> None:
    """Put the entries of all parts where they were, and drop the rest."""
    op.execute(
        "INSERT INTO list_entries (list_id, hash) SELECT list_parts.list_id, list_entries.hash FROM list_entries "
        "JOIN list_parts ON list_entries.list_id = -list_parts.id WHERE list_parts.revision IS NOT NULL "
        "ON CONFLICT DO NOTHING"
    )
    op.execute("DELETE FROM list_entries WHERE list_id < 0")
    op.drop_column("lists", "logged")
    op.drop_column("lists", "logged_since")
    op.drop_table("list_changes")
    op.drop_table("list_parts")
