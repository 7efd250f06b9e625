"""The tables of review: cases, kept images, legal holds, what is still to be told to webhooks."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, Integer, Table

from gateway.store.schema import CodePointText, UtcDateTime, metadata

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
