"""Versions are activated for each bundle, and label vectors are kept with them.

Revision: 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the tables; what is active stays so: a policy for its own bundle, a classifier for all that policies name.

    Where no policy names one, a classifier is active for a bundle without a name: others then take it over.
    """
    words = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    op.create_table(
        "activations",
        sa.Column("kind", words, primary_key=True),
        sa.Column("name", words, primary_key=True),
        sa.Column("bundle_id", words, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["kind", "name", "version"],
            ["versions.kind", "versions.name", "versions.number"],
            name="activation_of_a_version",
            ondelete="CASCADE",
        ),
    )
    op.execute(
        "INSERT INTO activations (kind, name, bundle_id, version, revision) "
        "SELECT versions.kind, versions.name, versions.bundle_id, versions.number, revisions.value "
        "FROM resources JOIN versions ON versions.kind = resources.kind AND versions.name = resources.name "
        "AND versions.number = resources.active CROSS JOIN revisions "
        "WHERE versions.kind = 'policy' AND versions.bundle_id IS NOT NULL"
    )
    op.execute(
        "INSERT INTO activations (kind, name, bundle_id, version, revision) "
        "SELECT resources.kind, resources.name, bundles.bundle_id, resources.active, revisions.value "
        "FROM resources CROSS JOIN revisions CROSS JOIN ("
        "SELECT DISTINCT bundle_id FROM versions WHERE kind = 'policy' AND bundle_id IS NOT NULL UNION ALL "
        "SELECT '' WHERE NOT EXISTS (SELECT 1 FROM versions WHERE kind = 'policy' AND bundle_id IS NOT NULL)"
        ") AS bundles WHERE resources.kind = 'classifier' AND resources.active IS NOT NULL"
    )
    op.drop_column("resources", "active")
    op.create_table(
        "label_vectors",
        sa.Column("kind", words, primary_key=True),
        sa.Column("name", words, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("text_checksum", words, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(
            ["kind", "name", "number"],
            ["versions.kind", "versions.name", "versions.number"],
            name="label_vectors_of_a_version",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    """Leave active, for all bundles, what was activated last for any of them."""
    op.add_column("resources", sa.Column("active", sa.Integer))
    op.execute(
        "UPDATE resources SET active = (SELECT version FROM activations WHERE activations.kind = resources.kind "
        "AND activations.name = resources.name ORDER BY activations.revision DESC, version DESC LIMIT 1)"
    )
    op.drop_table("label_vectors")
    op.drop_table("activations")
