"""What a running job is to those who do its work: progress to tell, files to keep for a further attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.store.jobs.jobs import Job, JobFile, Jobs, Taken


class JobLost(Exception):
    """The job was cancelled, or its lease ended and another worker has it."""


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a job: JSON values, and files."""

    result: dict[str, Any]
    files: tuple[JobFile, ...]


@dataclass(slots=True)
class HeldJob:
    """A job under a lease.

    Attributes:
        jobs: where it is kept.
        taken: the job and the token of the lease.
        progress: as the next heartbeat tells it.
    """

    jobs: Jobs
    taken: Taken
    progress: dict[str, Any] = field(default_factory=dict)

    @property
    def job(self) -> Job:
        """As it was when it was taken."""
        return self.taken.job

    def tell(self, step: str, done: int, total: int) -> None:
        """Tell how far the work is; images in both numbers."""
        self.progress = {"step": step, "done": done, "total": total}

    async def keep(self, name: str, data: bytes) -> None:
        """Keep bytes that a further attempt goes on from.

        Raises:
            JobLost: nothing is kept.
            StoreUnavailable: the store is away.
        """
        if not await self.jobs.keep(self.taken, JobFile(name, "application/octet-stream", data)):
            raise JobLost

    async def kept(self, name: str) -> bytes | None:
        """Return what an earlier attempt kept; None where it kept nothing.

        Raises:
            StoreUnavailable: the store is away.
        """
        file = await self.jobs.file(self.job.id, name)
        return None if file is None else file.data
