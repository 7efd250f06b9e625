"""Trains heads in processes of their own: a few at a time, bounded in time and memory, ended when nobody waits."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import structlog

from gateway.errors import DeadlineExceeded, InternalError, InvalidRequest, Overloaded
from gateway.inference.heads import Head, Layer
from gateway.limits.deadline import Deadline
from gateway.training.confined_process import Ended, run_confined
from gateway.training.examples import Examples

CONFIDENCE: Final = 0.95
_SHOWN_CHARS: Final = 2000
_RETRY_AFTER_S: Final = 10


@dataclass(frozen=True, slots=True)
class TrainingLimits:
    """Of training.

    Attributes:
        max_examples: of one training.
        timeout_s: for one, by the clock and of the processor.
        memory_bytes: that its process may take.
        processes: at a time; a further one waits.
    """

    max_examples: int
    timeout_s: float
    memory_bytes: int
    processes: int


@dataclass(frozen=True, slots=True)
class Training:
    """What came of a training.

    Attributes:
        head: None where none is offered.
        reason: why none is; None with a head.
        figures: on examples held out, JSON values.
    """

    head: Head | None
    reason: str | None
    figures: dict[str, Any]


class Trainer:
    """Trains; make it in a running loop.

    Args:
        limits: of training.
    """

    def __init__(self, limits: TrainingLimits) -> None:
        self.limits = limits
        self._turns = asyncio.Semaphore(limits.processes)
        self._log = structlog.get_logger("training")

    @asynccontextmanager
    async def turn(self, deadline: Deadline) -> AsyncIterator[None]:
        """Wait for a turn, and have it inside; from before the examples' vectors are there, since they are memory.

        Raises:
            Overloaded: none came in time.
        """
        try:
            async with deadline.enforced():
                await self._turns.acquire()
        except DeadlineExceeded:
            raise _busy() from None
        try:
            yield
        finally:
            self._turns.release()

    async def train(self, examples: Examples, deadline: Deadline) -> Training:
        """Train a head, in a turn; a caller that is cancelled ends the process.

        Raises:
            Overloaded: waiting for the turn left too little time.
            InvalidRequest: the training took more time or memory than it may.
            InternalError: a bug.
        """
        data = await asyncio.to_thread(examples.to_bytes)
        ended = await self._run(data, deadline)
        if ended.code != 0:
            self._log.error("training failed", exit=ended.code, said=ended.said[-_SHOWN_CHARS:])
            if ended.is_out_of_bounds:
                raise self._too_much()
            raise InternalError("The training failed; nothing was saved.")
        made = json.loads(ended.output)
        head = None
        if made["weight"] is not None:
            bias = np.frombuffer(base64.b64decode(made["bias"]), np.float32)
            weight = np.frombuffer(base64.b64decode(made["weight"]), np.float32).reshape(len(bias), -1)
            head = Head(examples.labels, examples.output, (Layer(weight, bias),))
        return Training(head, made["reason"], made["figures"])

    async def _run(self, data: bytes, deadline: Deadline) -> Ended:
        """Return how the process that trains ended.

        Raises:
            InvalidRequest, Overloaded: it took longer than a training may, or than what waiting had left of that.
        """
        if deadline.passed:
            raise _busy()
        timeout_s = min(self.limits.timeout_s, deadline.remaining_s())
        try:
            return await run_confined(
                "gateway.training.child",
                [str(CONFIDENCE)],
                memory_bytes=self.limits.memory_bytes,
                timeout_s=timeout_s,
                data=data,
            )
        except TimeoutError:
            raise (self._too_much() if timeout_s == self.limits.timeout_s else _busy()) from None

    def _too_much(self) -> InvalidRequest:
        return InvalidRequest(
            f"The training took more than {self.limits.timeout_s:g} s or {self.limits.memory_bytes >> 20} MiB, "
            "TRAINING_TIMEOUT_S and TRAINING_MEMORY_MIB; nothing was saved. Give fewer examples or labels."
        )


def _busy() -> Overloaded:
    return Overloaded("The service trains other heads; nothing was saved.", retry_after_s=_RETRY_AFTER_S)
