"""Does jobs: a watch on every replica takes what waits in the store, or whose worker left, a few at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.errors import GatewayError, InternalError, JobGivenUp, JobTooLarge
from gateway.jobs.held import HeldJob, JobLost, Made
from gateway.observability.metrics import Metrics
from gateway.store.jobs.jobs import Jobs, Taken
from gateway.store.outages import StoreUnavailable

POLL_S = 1.0
BEATS = 4
"""In the time of a lease, so that three may fail before another worker takes the job."""
LONGEST_BEAT_S = 2.0
MOST_ATTEMPTS = 3

Work = Callable[[HeldJob], Awaitable[Made]]
"""Does a job. Raises GatewayError where it cannot be done."""


@dataclass(frozen=True, slots=True)
class JobRules:
    """Limits of jobs.

    Attributes:
        lease_s: seconds after which a job whose worker gives no sign is another's.
        timeout_s: for an attempt.
        at_a_time: jobs that this gateway does side by side.
        most_open: jobs that may wait or run, on all gateways.
    """

    lease_s: float
    timeout_s: float
    at_a_time: int
    most_open: int


class JobWorker:
    """Takes jobs and does them.

    Args:
        jobs: where they are kept.
        work: by kind of job.
        bundle_id: of this gateway; it does jobs that were made for this bundle.
        rules: limits.
        metrics: where jobs are counted.
    """

    def __init__(self, jobs: Jobs, work: dict[str, Work], bundle_id: str, rules: JobRules, metrics: Metrics) -> None:
        self._jobs = jobs
        self._work = work
        self._bundle_id = bundle_id
        self._rules = rules
        self._metrics = metrics
        self._running: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("jobs")

    async def watch(self) -> None:
        """Take jobs and do them, for ever; runs as a task of the application's lifespan.

        Jobs that run when it ends go back to the queue.
        """
        try:
            while True:
                try:
                    await self._look()
                except StoreUnavailable:
                    self._log.debug("no jobs taken: the store is away")
                await asyncio.sleep(POLL_S)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _look(self) -> None:
        self._metrics.set_jobs(await self._jobs.counts())
        given_up = problem_of(JobGivenUp(f"It was begun {MOST_ATTEMPTS} times, and each time its gateway ended."))
        while len(self._running) < self._rules.at_a_time and await self._jobs.is_due(self._bundle_id):
            taken = await self._jobs.take(
                self._bundle_id, lease_s=self._rules.lease_s, most_attempts=MOST_ATTEMPTS, given_up=given_up
            )
            if taken is None:
                return
            task = asyncio.create_task(self._do(taken))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _do(self, taken: Taken) -> None:
        held = HeldJob(self._jobs, taken, dict(taken.job.progress))
        work = asyncio.create_task(self._outcome(held))
        try:
            if await self._hold(held, work):
                made = work.result()
                if isinstance(made, Made):
                    ended = await self._jobs.end(taken, "done", result=made.result, files=made.files)
                else:
                    ended = await self._jobs.end(taken, "failed", error=problem_of(made))
                self._log.info("job ended" if ended else "job lost", job=taken.job.id)
        except (StoreUnavailable, JobLost):  # another attempt, here or elsewhere, once the lease has ended
            self._log.warning("job not finished: the store is away, or another has it", job=taken.job.id)
        except asyncio.CancelledError:
            await self._stop(work)
            await self._give_back(taken)
            raise
        except Exception:  # noqa: BLE001 - a bug in one job must not end the watch
            self._log.exception("job not finished", job=taken.job.id)
        finally:
            await self._stop(work)

    async def _hold(self, held: HeldJob, work: asyncio.Task[Made | GatewayError]) -> bool:
        """Keep the lease while the work goes on; return whether it was kept to the end of it."""
        lease_s = self._rules.lease_s
        until_s = time.monotonic() + lease_s
        while True:
            done, _ = await asyncio.wait([work], timeout=min(LONGEST_BEAT_S, lease_s / BEATS))
            if done:
                return True
            asked_s = time.monotonic()
            try:
                if not await self._jobs.beat(held.taken, held.progress, lease_s=lease_s):
                    self._log.info("job cancelled, or another has it", job=held.job.id)
                    return False
                until_s = asked_s + lease_s
            except StoreUnavailable:
                if time.monotonic() >= until_s:
                    raise

    async def _outcome(self, held: HeldJob) -> Made | GatewayError:
        try:
            async with asyncio.timeout(self._rules.timeout_s):
                return await self._work[held.job.kind](held)
        except TimeoutError:
            return JobTooLarge(f"It took more than {self._rules.timeout_s:g} s, JOB_TIMEOUT_S.")
        except GatewayError as error:
            return error
        except (StoreUnavailable, JobLost):
            raise
        except Exception:  # noqa: BLE001 - a bug that one job triggers
            self._log.exception("job failed", job=held.job.id)
            return InternalError("The job failed by a fault of the service.")

    @staticmethod
    async def _stop(work: asyncio.Task[Any]) -> None:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    async def _give_back(self, taken: Taken) -> None:
        try:
            await self._jobs.release(taken)
        except StoreUnavailable:
            self._log.warning("job not given back: its lease has to end first", job=taken.job.id)


def problem_of(error: GatewayError) -> dict[str, Any]:
    """Return an error as a job keeps it."""
    return {"title": error.title, "status": error.status, "code": error.code, "detail": error.detail}
