"""Prepares images in threads of this process: quick to start, but a decoder that crashes ends the gateway."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import Executor

from gateway.decoding.pdq import PerceptualHasher
from gateway.decoding.preprocess import Job, PreprocessedImage, prepare
from gateway.observability.stage_timer import StageTimer


class DecodeThreads:
    """A ``Preprocessor`` without isolation.

    A hang cannot be ended, and an image that takes over its decoder has taken over the gateway.

    Args:
        threads: where it runs; the caller shuts them down.
        fingerprint: perceptual hash of a frame, or None where none is wanted or installed.
    """

    available = True

    def __init__(self, threads: Executor, fingerprint: PerceptualHasher | None) -> None:
        self._threads = threads
        self._fingerprint = fingerprint
        self.fingerprints = fingerprint is not None

    async def prepare(self, job: Job, timer: StageTimer) -> PreprocessedImage:
        """See ``Preprocessor.prepare``."""
        loop = asyncio.get_running_loop()
        run = contextvars.copy_context().run  # so that its stages are shown in the request's trace
        return await loop.run_in_executor(self._threads, run, prepare, job, timer, self._fingerprint)

    async def close(self) -> None:
        """See ``Preprocessor.close``."""
