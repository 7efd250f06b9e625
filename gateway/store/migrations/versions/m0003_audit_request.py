"""The audit names the request of each change.

Revision: 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the column; what was there stays without."""
    words = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    op.add_column("audit", sa.Column("request_id", words))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("audit", "request_id")
