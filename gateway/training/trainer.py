"""Trains heads in processes of their own: a few at a time, bounded in time and memory, ended when nobody waits."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from gateway.errors import InternalError, InvalidRequest
from gateway.inference.heads import Head, Layer
from gateway.limits.deadline import Deadline
from gateway.training.examples import Examples

CONFIDENCE: Final = 0.95
_PASSED_ON: Final = ("LD_LIBRARY_PATH", "PYTHONHOME", "TZ")
_CODE: Final = Path(__file__).resolve().parents[2]
_SHOWN_CHARS: Final = 2000
_OUT_OF_MEMORY: Final = ("MemoryError", "Unable to allocate", "Memory allocation", "failed to map segment")
"""What Python, numpy, OpenBLAS and the loader of libraries say at the limit."""


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

    async def train(self, examples: Examples, deadline: Deadline) -> Training:
        """Train a head; a caller that is cancelled ends the process.

        Raises:
            DeadlineExceeded: of waiting for a turn.
            InvalidRequest: the training took more time or memory than it may.
            InternalError: a bug.
        """
        data = await asyncio.to_thread(examples.to_bytes)
        async with deadline.enforced():
            await self._turns.acquire()
        try:
            code, answer, errors = await self._run(data, min(self.limits.timeout_s, deadline.remaining_s()))
        finally:
            self._turns.release()
        if code != 0:
            said = errors.decode(errors="replace")[-_SHOWN_CHARS:]
            self._log.error("training failed", exit=code, said=said)
            if code < 0 or any(words in said for words in _OUT_OF_MEMORY):
                raise self._too_much()
            raise InternalError("The training failed; nothing was saved.")
        made = json.loads(answer)
        head = None
        if made["weight"] is not None:
            bias = np.frombuffer(base64.b64decode(made["bias"]), np.float32)
            weight = np.frombuffer(base64.b64decode(made["weight"]), np.float32).reshape(len(bias), -1)
            head = Head(examples.labels, examples.output, (Layer(weight, bias),))
        return Training(head, made["reason"], made["figures"])

    async def _run(self, data: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
        """Return the exit code of a process that trains, and what it wrote.

        Raises:
            InvalidRequest: it took too long.
        """
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {"PYTHONPATH": str(_CODE), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        limits = [str(os.getpid()), str(self.limits.memory_bytes), str(round(timeout_s) + 1), str(CONFIDENCE)]
        # -P: nothing is imported from the working directory.
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-B", "-P", "-m", "gateway.training.child", *limits],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            async with asyncio.timeout(timeout_s):
                answer, errors = await process.communicate(data)
        except TimeoutError:
            raise self._too_much() from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return process.returncode or 0, answer, errors

    def _too_much(self) -> InvalidRequest:
        return InvalidRequest(
            f"The training took more than {self.limits.timeout_s:g} s or {self.limits.memory_bytes >> 20} MiB, "
            "TRAINING_TIMEOUT_S and TRAINING_MEMORY_MIB; nothing was saved. Give fewer examples or labels."
        )
