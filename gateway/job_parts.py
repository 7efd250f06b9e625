"""The parts of jobs and labelled sets, as the settings describe them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.inference.bundle import Manifest
from gateway.jobs.evaluate import KIND, EvaluationLimits, Evaluations
from gateway.jobs.services import JobServices
from gateway.jobs.worker import JobRules, JobWorker
from gateway.moderation.catalog import Catalog
from gateway.observability.metrics import Metrics
from gateway.settings import MIB, Settings
from gateway.store.database import Database
from gateway.store.decisions import Decisions
from gateway.store.jobs.jobs import Jobs
from gateway.store.jobs.labelled_sets import LabelledSets
from gateway.store.versions import Versions


@dataclass(frozen=True, slots=True)
class Parts:
    """Of the application, which jobs work with."""

    catalog: Catalog
    versions: Versions
    decisions: Decisions
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class JobParts:
    """What routes use, what does the jobs, and what deletes those whose time is over."""

    services: JobServices
    worker: JobWorker
    expire: Callable[[], Awaitable[object]]


def make_jobs(settings: Settings, database: Database, manifest: Manifest, parts: Parts) -> JobParts:
    """Return the parts of jobs."""
    jobs, sets = Jobs(database), LabelledSets(database)
    limits = EvaluationLimits(
        timeout_s=settings.job_timeout_s,
        memory_bytes=settings.job_memory_mib * MIB,
        file_bytes=settings.job_files_mib * MIB,
        max_images=settings.max_labelled_images,
    )
    evaluations = Evaluations(parts.catalog, parts.versions, sets, parts.decisions, manifest, limits)
    rules = JobRules(settings.job_lease_s, settings.job_timeout_s, settings.jobs_at_a_time, settings.max_open_jobs)
    worker = JobWorker(jobs, {KIND: evaluations.run}, manifest.bundle_id, rules, parts.metrics)
    services = JobServices(jobs, sets, settings.max_labelled_sets, settings.max_labelled_images, settings.max_open_jobs)
    days = settings.job_retention_days

    async def expire() -> int:
        return await jobs.expire(datetime.now(UTC) - timedelta(days=days)) if days else 0

    return JobParts(services, worker, expire)
