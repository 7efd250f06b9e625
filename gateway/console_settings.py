"""The settings of review, its console, webhooks and jobs; ``settings.py`` has the others."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings


class ConsoleSettings(BaseSettings):
    """What people who review and tune work with."""

    console: bool = Field(default=True, description="Serve /console, the pages for people.")

    max_labelled_sets: int = Field(50, ge=1, le=10_000, description="Labelled sets that are kept.")
    max_labelled_images: int = Field(
        10_000, ge=1, le=1_000_000, description="Images of a labelled set, and reviewed decisions of an evaluation."
    )
    jobs_at_a_time: int = Field(1, ge=1, le=16, description="Jobs that one gateway does side by side.")
    max_open_jobs: int = Field(100, ge=1, le=10_000, description="Jobs that wait or run, on all gateways together.")
    job_lease_s: float = Field(
        15.0, ge=1, le=3600, description="After so long without a sign of life a job is another gateway's."
    )
    job_timeout_s: float = Field(900.0, gt=0, le=86_400, description="How long one attempt at a job may take.")
    job_memory_mib: int = Field(2048, ge=16, description="Memory of the process that makes a job's report, MiB.")
    job_files_mib: int = Field(64, ge=1, le=1024, description="Files that a job keeps, MiB.")
    job_retention_days: int = Field(
        30, ge=0, le=36_500, description="Days a job that ended is kept with its files; 0 means for ever."
    )
