"""The tables of the first release, where every later migration starts.

Revision: 0.1.0. An empty database never runs migrations: it gets the newest tables at once (``migrations/env.py``).
"""

from __future__ import annotations

from alembic import op

from gateway.store.all_tables import metadata

revision = "0.1.0"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Do nothing: no release came before."""


def downgrade() -> None:
    """Drop everything."""
    metadata.drop_all(op.get_bind())
