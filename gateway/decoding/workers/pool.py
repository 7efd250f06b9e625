"""Prepares images in worker processes: one that dies or hangs fails its own image and no other.

A fixed number of workers is kept alive, each with a task that starts it and starts it again. An image takes an idle
worker. One that has not answered in time (it died, hangs, violated the protocol, or its client has left) is killed and
never used again. Memory is bounded before, by ``limits/memory_budget.py``, and by the kernel in each worker.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

import structlog

from gateway.decoding.guards import too_slow
from gateway.decoding.preprocess import Job, PreprocessedImage
from gateway.decoding.workers.forkserver import (
    ForkServer,
    Progress,
    Worker,
    WorkerLost,
    WorkerNotStarted,
    progress_of,
    resident_bytes,
)
from gateway.decoding.workers.messages import AnswerRefused, DecoderBug, order_of, read_answer
from gateway.decoding.workers.sandbox import Layers
from gateway.errors import DecodersUnavailable, ImageUndecodable, InternalError, Overloaded
from gateway.observability.stage_timer import StageTimer
from gateway.observability.tracebacks import as_trace

GRACE_S: Final = 1.0
"""Behind the decode timeout, which a worker that can still look at the clock keeps by itself."""

RECYCLED_AFTER: Final = 1000
"""Images of a worker: bounds what a leak in a library, or an image that took it over unnoticed, can come to."""

START_PAUSE_S: Final = 1.0
KILL_WAIT_S: Final = 1.0
MORE_ATTEMPTS: Final = 2  # than there are workers: all of them may have died a moment ago, unnoticed yet
RETRY_AFTER_S: Final = 2

Ending = Literal["died", "hung", "starved", "refused", "abandoned", "recycled", "idle"]


class DecodePool:
    """A ``Preprocessor`` whose decoders are processes; make it in a running loop, and close it there.

    Args:
        count: processes.
        forker: starts them.
        most_rows: rows of pixels of one image.
        observe: called with the reason each time a process ended.
    """

    def __init__(self, count: int, forker: ForkServer, most_rows: int, observe: Callable[[Ending], None]) -> None:
        self._forker = forker
        self._most_rows = most_rows
        self._attempts = count + MORE_ATTEMPTS
        self._observe = observe
        self._idle: asyncio.LifoQueue[Worker] = asyncio.LifoQueue()  # the last one used has its memory warm
        self._workers: set[Worker] = set()
        self._failing = False
        self._missing = ""
        self._closing = asyncio.Event()
        self._starter = ThreadPoolExecutor(1, "decode-start")
        self._log = structlog.get_logger("decode")
        self._keepers = [asyncio.create_task(self._keep_one_alive()) for _ in range(count)]

    @property
    def available(self) -> bool:
        """Whether there are workers, or will be in a moment."""
        return bool(self._workers) or not self._failing

    @property
    def fingerprints(self) -> bool:
        """See ``Preprocessor.fingerprints``."""
        return self._forker.fingerprint

    def memory_bytes(self) -> int:
        """Return the resident memory of the workers; pages that they share count in each."""
        return sum(resident_bytes(worker.pid) for worker in self._workers)

    async def prepare(self, job: Job, timer: StageTimer) -> PreprocessedImage:
        """See ``Preprocessor.prepare``.

        Raises:
            ImageError: the image's fault; ``ImageUndecodable`` where it killed its worker or took too long.
            DecodersUnavailable: there is no worker.
            InternalError: a bug.
        """
        order = order_of(job)
        for _ in range(self._attempts):
            with contextlib.suppress(WorkerLost):  # another one is asked
                return await self._ask(job, order, timer)
        raise _unavailable()

    async def close(self) -> None:
        """End all processes, and wait until they have gone."""
        self._closing.set()
        self._forker.kill()
        for worker in self._workers:
            worker.kill()
        await asyncio.gather(*self._keepers)
        await asyncio.get_running_loop().run_in_executor(self._starter, self._forker.close)
        self._starter.shutdown()

    async def _ask(self, job: Job, order: bytes, timer: StageTimer) -> PreprocessedImage:
        """Have one worker do the job.

        Raises:
            WorkerLost: it ended, and not because of the image.
            GatewayError: as ``prepare``.
        """
        most_pixel_bytes = self._most_rows * job.size_px * job.size_px * 3 + job.still_bytes
        worker = await self._borrow()
        ending: Ending | None = "abandoned"  # when the client leaves or the deadline passes, we are cancelled
        try:
            begun = progress_of(worker.pid)
            facts, pixels = await worker.ask(order, job.data, most_pixel_bytes, job.limits.timeout_s + GRACE_S)
            ending = "recycled" if worker.served >= RECYCLED_AFTER else None
            return read_answer(job, facts, pixels, timer)
        except TimeoutError:
            ending = "hung"
            timer.add({"decode": job.limits.timeout_s + GRACE_S})
            if starved(begun, progress_of(worker.pid), job.limits.timeout_s):
                ending = "starved"
                raise Overloaded("The machine is busy; nothing was decided.", retry_after_s=RETRY_AFTER_S) from None
            raise too_slow(job.limits.timeout_s) from None
        except WorkerLost as lost:
            ending = "died"
            if lost.blamed:
                raise _broken() from None
            raise
        except AnswerRefused as why:
            ending = "refused"
            self._log.error("a decoder's answer was refused", pid=worker.pid, reason=str(why))
            raise _broken() from None
        except DecoderBug as bug:
            self._log.error("unexpected failure in a decoder", exception=as_trace(str(bug)))
            raise InternalError("The service failed on this image; nothing was decided.") from None
        finally:
            await self._give_back(worker, ending)

    async def _borrow(self) -> Worker:
        while True:
            if not self.available or self._closing.is_set():
                raise _unavailable()
            worker = await self._idle.get()
            if not worker.gone.is_set():
                worker.free.clear()
                return worker

    async def _give_back(self, worker: Worker, ending: Ending | None) -> None:
        try:
            if ending is None:
                self._idle.put_nowait(worker)
                return
            worker.ending = ending
            self._observe(ending)
            worker.kill()
            # Its memory is the kernel's again before another image is let in.
            async with asyncio.timeout(KILL_WAIT_S):
                await worker.gone.wait()
        except TimeoutError:
            self._log.error("a decoder cannot be killed", pid=worker.pid)
        finally:
            worker.free.set()

    async def _keep_one_alive(self) -> None:
        """Keep one worker alive."""
        loop = asyncio.get_running_loop()
        failures = 0  # in a row; a single one is what being killed while it starts looks like
        while not self._closing.is_set():
            try:
                worker = await loop.run_in_executor(self._starter, self._forker.fork)
            except WorkerNotStarted as why:
                failures += 1
                if failures > 1 and not self._closing.is_set():
                    if not self._failing:
                        self._log.error("no decoder can be started", reason=str(why))
                    self._failing = True
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._closing.wait(), START_PAUSE_S)
                continue
            failures, self._failing = 0, False
            self._workers.add(worker)
            await worker.watch()
            self._say_what_is_missing(worker.layers)
            self._log.debug("decoder started", pid=worker.pid)
            if self._closing.is_set():
                worker.kill()
            self._idle.put_nowait(worker)
            await worker.gone.wait()
            self._workers.discard(worker)
            if worker.ending is None and worker.free.is_set() and not self._closing.is_set():
                worker.ending = "idle"
                self._observe("idle")
            await worker.free.wait()
            worker.close()
            cause = await loop.run_in_executor(self._starter, self._forker.cause, worker)
            if worker.ending not in {None, "recycled"}:
                self._log.warning("decoder ended", pid=worker.pid, reason=worker.ending, cause=cause)

    def _say_what_is_missing(self, layers: Layers) -> None:
        """Tell once what this kernel lacks."""
        missing = ", ".join(layer.name or "" for layer in Layers if layer not in layers)
        if missing and not self._missing:
            self._log.warning(
                "decoders are confined less: this machine or container lacks a part of their sandbox", missing=missing
            )
        self._missing = missing


def starved(begun: Progress | None, now: Progress | None, needed_s: float) -> bool:
    """Return whether a worker that took too long was kept from its work by others.

    It was if it could run all the time and did not get the ``needed_s`` processor seconds that an image may take. What
    waits for anything but a processor hangs.
    """
    return begun is not None and now is not None and now.runs and now.cpu_s - begun.cpu_s < needed_s


def _broken() -> ImageUndecodable:
    return ImageUndecodable("The image broke its decoder; save it again with a common program.")


def _unavailable() -> DecodersUnavailable:
    return DecodersUnavailable(
        "The processes that decode images cannot be started; nothing was decided.", retry_after_s=RETRY_AFTER_S
    )
