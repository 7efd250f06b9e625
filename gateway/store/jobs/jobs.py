"""Jobs: work that takes longer than a request. A worker has one under a lease; whose lease ends, another goes on."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import and_, delete, func, insert, or_, select, update

from gateway.store import audit
from gateway.store.audit import Actor
from gateway.store.database import Repository, Transaction, reads, writes
from gateway.store.jobs.tables import job_files, jobs

State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "done", "failed", "cancelled")
OPEN: tuple[State, ...] = ("queued", "running")


class TooManyJobs(Exception):
    """As many jobs as allowed wait or run."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job.

    Attributes:
        id: sorts by time.
        kind: what is done.
        bundle_id: of the gateways that may do it.
        request: as it was asked for, JSON values.
        created_at: UTC; as are ``started_at``, of the latest attempt, and ``ended_at``.
        created_by: name of the API key, or None.
        state: see ``State``.
        progress: ``done``, ``total`` and ``step``.
        attempts: begun.
        error: a problem document of one that failed.
        result: of one that is done, JSON values.
    """

    id: str
    kind: str
    bundle_id: str
    request: dict[str, Any]
    created_at: datetime
    created_by: str | None = None
    state: State = "queued"
    progress: dict[str, Any] = field(default_factory=dict)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: int = 0
    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of a job: bytes that were made by it."""

    name: str
    content_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file without its content."""

    name: str
    content_type: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A job that a worker has, and the token that says so."""

    job: Job
    token: str


COLUMNS = tuple(jobs.c[entry.name] for entry in fields(Job))


class Jobs(Repository):
    """Jobs and their files."""

    @writes
    async def add(self, tx: Transaction, job: Job, most_open: int, *, actor: Actor) -> None:
        """Put a job into the queue.

        Raises:
            TooManyJobs: ``most_open`` wait or run already.
        """
        await audit.lock_revision(tx)
        waiting = select(func.count()).select_from(jobs).where(jobs.c.state.in_(OPEN))
        if (await tx.execute(waiting)).scalar_one() >= most_open:
            raise TooManyJobs
        await tx.execute(insert(jobs).values(**asdict(job)))
        detail = {"kind": job.kind}
        await audit.note(tx, actor=actor, action="create", kind="job", name=job.id, detail=detail)

    @reads
    async def latest(
        self,
        tx: Transaction,
        limit: int,
        *,
        kind: str | None = None,
        state: str | None = None,
        before: str | None = None,
    ) -> list[Job]:
        """Return jobs, newest first; those with ids below ``before``."""
        asked = select(*COLUMNS).order_by(jobs.c.id.desc()).limit(limit)
        equal = {"kind": kind, "state": state}
        conditions = [jobs.c[name] == value for name, value in equal.items() if value is not None]
        if before is not None:
            conditions.append(jobs.c.id < before)
        return [Job(**row) for row in (await tx.execute(asked.where(*conditions))).mappings()]

    @reads
    async def read(self, tx: Transaction, job_id: str) -> Job | None:
        """Return a job; None if there is none."""
        return await _read(tx, job_id)

    @reads
    async def files(self, tx: Transaction, job_ids: Sequence[str]) -> dict[str, list[FileEntry]]:
        """Return the files of jobs by job, without their content, by name."""
        columns = (job_files.c.job_id, job_files.c.name, job_files.c.content_type, job_files.c.bytes)
        found: dict[str, list[FileEntry]] = {}
        for row in await tx.execute(select(*columns).where(job_files.c.job_id.in_(job_ids)).order_by(job_files.c.name)):
            found.setdefault(row.job_id, []).append(FileEntry(row.name, row.content_type, row.bytes))
        return found

    @reads
    async def file(self, tx: Transaction, job_id: str, name: str) -> JobFile | None:
        """Return a file; None if there is none."""
        asked = select(job_files.c.name, job_files.c.content_type, job_files.c.data)
        row = (await tx.execute(asked.where(job_files.c.job_id == job_id, job_files.c.name == name))).one_or_none()
        return None if row is None else JobFile(row.name, row.content_type, row.data)

    @reads
    async def counts(self, tx: Transaction) -> dict[State, int]:
        """Return how many jobs there are in each state."""
        rows = await tx.execute(select(jobs.c.state, func.count().label("jobs")).group_by(jobs.c.state))
        found = {row.state: row.jobs for row in rows}
        return {state: found.get(state, 0) for state in STATES}

    @reads
    async def is_due(self, tx: Transaction, bundle_id: str) -> bool:
        """Return whether a job waits for a worker with this bundle."""
        due = select(jobs.c.id).where(_due(bundle_id, datetime.now(UTC))).limit(1)
        return (await tx.execute(due)).first() is not None

    @writes
    async def take(
        self, tx: Transaction, bundle_id: str, *, lease_s: float, most_attempts: int, given_up: dict[str, Any]
    ) -> Taken | None:
        """Take the oldest job that waits or whose worker's lease has ended; None without any.

        Args:
            tx: the transaction.
            bundle_id: of the worker's gateway.
            lease_s: seconds that it is taken for.
            most_attempts: one that was begun so many times fails instead.
            given_up: the problem that it fails with.
        """
        now = datetime.now(UTC)
        due = select(*COLUMNS).where(_due(bundle_id, now)).order_by(jobs.c.id).limit(1)
        while (row := (await tx.execute(due.with_for_update(skip_locked=True))).mappings().one_or_none()) is not None:
            job = Job(**row)
            mine = update(jobs).where(jobs.c.id == job.id)
            if job.attempts >= most_attempts:
                ended = {"state": "failed", "error": given_up, "ended_at": now, "token": None, "held_until": None}
                await tx.execute(mine.values(**ended))
                continue
            token = secrets.token_hex(8)
            held = {"token": token, "held_until": now + timedelta(seconds=lease_s)}
            begun: dict[str, Any] = {"state": "running", "attempts": job.attempts + 1, "started_at": now}
            await tx.execute(mine.values(**begun, **held))
            return Taken(Job(**{**row, **begun}), token)
        return None

    @writes
    async def beat(self, tx: Transaction, taken: Taken, progress: dict[str, Any], *, lease_s: float) -> bool:
        """Extend a lease and tell the progress; False where the job was cancelled, or another worker has it."""
        until = datetime.now(UTC) + timedelta(seconds=lease_s)
        return (await tx.execute(_mine(taken).values(held_until=until, progress=progress))).rowcount == 1

    @writes
    async def keep(self, tx: Transaction, taken: Taken, file: JobFile) -> bool:
        """Keep a file that a further attempt goes on from; False as ``beat``."""
        if (await tx.execute(_mine(taken).values(token=taken.token))).rowcount != 1:
            return False
        await _keep(tx, taken.job.id, [file])
        return True

    @writes
    async def end(
        self,
        tx: Transaction,
        taken: Taken,
        state: State,
        *,
        error: dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
        files: Sequence[JobFile] = (),
    ) -> bool:
        """End a job, with these files in the place of those so far; False as ``beat``."""
        ended = {"state": state, "error": error, "result": result, "ended_at": datetime.now(UTC)}
        if (await tx.execute(_mine(taken).values(**ended, token=None, held_until=None))).rowcount != 1:
            return False
        await tx.execute(delete(job_files).where(job_files.c.job_id == taken.job.id))
        await _keep(tx, taken.job.id, files)
        return True

    @writes
    async def release(self, tx: Transaction, taken: Taken) -> None:
        """Give a job back to the queue, as a gateway that ends does; the attempt does not count."""
        back = {"state": "queued", "attempts": taken.job.attempts - 1, "token": None, "held_until": None}
        await tx.execute(_mine(taken).values(**back))

    @writes
    async def cancel(self, tx: Transaction, job_id: str, *, actor: Actor) -> Job | None:
        """Cancel a job that has not ended, and return it as it is now; None if there is none."""
        ended = {"state": "cancelled", "ended_at": datetime.now(UTC), "token": None, "held_until": None}
        cancelled = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(OPEN)).values(**ended)
        if (await tx.execute(cancelled)).rowcount:
            await tx.execute(delete(job_files).where(job_files.c.job_id == job_id))
            await audit.note(tx, actor=actor, action="cancel", kind="job", name=job_id, detail={})
        return await _read(tx, job_id)

    @writes
    async def expire(self, tx: Transaction, before: datetime) -> int:
        """Delete jobs that ended before, with their files; return how many."""
        return (await tx.execute(delete(jobs).where(jobs.c.ended_at < before))).rowcount


async def _read(tx: Transaction, job_id: str) -> Job | None:
    row = (await tx.execute(select(*COLUMNS).where(jobs.c.id == job_id))).mappings().one_or_none()
    return None if row is None else Job(**row)


async def _keep(tx: Transaction, job_id: str, files: Sequence[JobFile]) -> None:
    for file in files:
        await tx.execute(delete(job_files).where(job_files.c.job_id == job_id, job_files.c.name == file.name))
        await tx.execute(insert(job_files).values(job_id=job_id, **asdict(file), bytes=len(file.data)))


def _due(bundle_id: str, now: datetime) -> Any:  # noqa: ANN401 - a condition
    left = and_(jobs.c.state == "running", jobs.c.held_until <= now)
    return and_(jobs.c.bundle_id == bundle_id, or_(jobs.c.state == "queued", left))


def _mine(taken: Taken) -> Any:  # noqa: ANN401 - an UPDATE
    return update(jobs).where(jobs.c.id == taken.job.id, jobs.c.state == "running", jobs.c.token == taken.token)
