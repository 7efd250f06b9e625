"""The tables of jobs: jobs, their files, labelled sets."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table

from gateway.store.schema import CodePointText, UtcDateTime, metadata

# ``token`` is of the worker that has it until ``held_until``, and of nobody else, not of the same worker later either.
jobs = Table(
    "jobs",
    metadata,
    Column("id", CodePointText, primary_key=True),
    Column("kind", CodePointText, nullable=False),
    Column("state", CodePointText, nullable=False),
    Column("bundle_id", CodePointText, nullable=False),
    Column("request", JSON, nullable=False),
    Column("progress", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", CodePointText),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("attempts", Integer, nullable=False),
    Column("token", CodePointText),
    Column("held_until", UtcDateTime),
    Column("error", JSON),
    Column("result", JSON),
)
Index("jobs_by_state", jobs.c.state, jobs.c.id)

# What a job made; while it runs, what a further attempt goes on from.
job_files = Table(
    "job_files",
    metadata,
    Column("job_id", CodePointText, ForeignKey("jobs.id", ondelete="CASCADE", name="file_of_a_job"), primary_key=True),
    Column("name", CodePointText, primary_key=True),
    Column("content_type", CodePointText, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

labelled_sets = Table(
    "labelled_sets",
    metadata,
    Column("name", CodePointText, primary_key=True),
    Column("description", CodePointText, nullable=False),
    Column("bundle_id", CodePointText),
    Column("created_at", UtcDateTime, nullable=False),
)

# Never an image. Vectors last, as in the decision log.
labelled_images = Table(
    "labelled_images",
    metadata,
    Column(
        "set_name",
        CodePointText,
        ForeignKey("labelled_sets.name", ondelete="CASCADE", name="image_of_a_set"),
        primary_key=True,
    ),
    Column("sha256", CodePointText, primary_key=True),
    Column("labels", JSON, nullable=False),
    Column("group", CodePointText),
    Column("slices", JSON, nullable=False),
    Column("added_at", UtcDateTime, nullable=False),
    Column("places", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("vectors", LargeBinary, nullable=False),
)
