"""A circuit breaker around the encoder: while the models fail, requests are rejected at once instead of waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from gateway.errors import DeadlineExceeded, GatewayError, ModelInvalidOutput, ModelUnavailable, Overloaded
from gateway.inference.bundle import Manifest
from gateway.inference.triton import ModelServer, Vectors
from gateway.limits.deadline import Deadline

CHECK_INTERVAL_S = 0.5
CONFIG_TIMEOUT_S = 2.0  # for the models' configurations, which Triton serves outside its inference queues
PROBE_TIMEOUT_S = 5.0  # for inferences, which wait in the same queues as those of requests
PROBE_AGE_S = 2.0  # an inference more recent than this is as good as a probe
HUNG_S = 2.0  # a server is hung, not busy, when an inference times out after this long and no other one returned
RETRY_AFTER_S = 2

Rows = TypeVar("Rows")


class CircuitBreaker:
    """An encoder that rejects inferences while the circuit is open.

    The circuit opens when:

    - a request's inference or a check finds the server gone or a model not served: at once;
    - the models' configurations are not answered within 2 s, and no inference returned in that time;
    - a request's inference times out after 2 s or more in which no inference returned;
    - the server serves another bundle, or a probe's answer is invalid (requests then get that error: 502).

    A long queue does not open it: a slow server still works. A check every half second compares the served bundle with
    the manifest. While the circuit is open it also runs both models, and the first success closes the circuit.

    Args:
        server: makes the calls.
        manifest: the bundle that must be served.
        window_s: how long a successful inference keeps the service ready.
        observe_ready: called with True or False after each check, and when the circuit opens.
    """

    def __init__(
        self, server: ModelServer, manifest: Manifest, window_s: float, observe_ready: Callable[[bool], None]
    ) -> None:
        self._server = server
        self._manifest = manifest
        self._window_s = window_s
        self._observe_ready = observe_ready
        self._last_good_s = float("-inf")
        self._open_because: GatewayError | None = unavailable("The model server has not been reached yet")
        self._bundle_matches: bool | None = None
        self._check_now = asyncio.Event()
        self._log = structlog.get_logger("health")

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_images``."""
        return await self._guarded(self._server.encode_images, pixels, deadline)

    async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_texts``."""
        return await self._guarded(self._server.encode_texts, input_ids, deadline)

    def failing_checks(self) -> list[str]:
        """Return the names of the checks that fail; empty when ready."""
        failing = []
        if self._bundle_matches is False:
            failing.append("bundle")
        if self._open_because is not None or time.monotonic() - self._last_good_s > self._window_s:
            failing.append("inference")
        return failing

    async def watch(self) -> None:
        """Check the server for ever; runs as a task of the application's lifespan."""
        while True:
            self._check_now.clear()
            await self._check()
            self._observe_ready(not self.failing_checks())
            try:
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._check_now.wait()
                await asyncio.sleep(CHECK_INTERVAL_S / 5)  # it was gone a moment ago
            except TimeoutError:
                pass

    async def _guarded(
        self, encode: Callable[[Rows, Deadline], Awaitable[Vectors]], rows: Rows, deadline: Deadline
    ) -> Vectors:
        """Run one inference, and open the circuit when it shows that the server is gone or hung."""
        if self._open_because is not None:
            raise type(self._open_because)(self._open_because.detail, retry_after_s=self._open_because.retry_after_s)
        start_s = time.monotonic()
        try:
            vectors = await encode(rows, deadline)
        except ModelUnavailable as error:
            self._open(error)
            raise
        except DeadlineExceeded:
            self._timed_out(start_s)
            raise
        except asyncio.CancelledError:  # by the stage around, whose deadline is the same; or the client has left
            if deadline.passed:
                self._timed_out(start_s)
            raise
        self._last_good_s = time.monotonic()
        return vectors

    def _timed_out(self, start_s: float) -> None:
        if self._last_good_s < start_s and time.monotonic() - start_s >= HUNG_S:
            self._open(unavailable("The model server does not answer in time"))

    async def _check(self) -> None:
        start_s = time.monotonic()
        try:
            await self._check_bundle()
        except DeadlineExceeded:
            if self._last_good_s < start_s:
                self._open(unavailable("The model server does not answer"))
            return
        except GatewayError as error:
            self._open(error)
            return
        if self._open_because is not None or time.monotonic() - self._last_good_s > PROBE_AGE_S:
            await self._probe()

    async def _check_bundle(self) -> None:
        """Check that every served model carries the id of the manifest's bundle.

        Raises:
            DeadlineExceeded: the server did not answer.
            ServiceError: it is gone, a model is not served, or another bundle is.
        """
        deadline = Deadline.after(CONFIG_TIMEOUT_S)
        async with deadline.enforced():
            served = await self._server.served_parameters(deadline)
        others = {name for name, found in served.items() if found.get("bundle_id") != self._manifest.bundle_id}
        if others and self._bundle_matches is not False:
            self._log.error("Triton serves another bundle than the manifest names", models=sorted(others))
        self._bundle_matches = not others
        if others:
            raise unavailable("The model server serves another bundle than this gateway was started with")

    async def _probe(self) -> None:
        deadline = Deadline.after(PROBE_TIMEOUT_S)
        image, text = self._manifest.image, self._manifest.text
        grey = np.full((1, image.size_px, image.size_px, 3), 128, np.uint8)
        ids = np.full((1, text.length_buckets[0]), text.pad_id, np.int64)
        ids[0, 0], ids[0, 1] = text.bos_id, text.eos_id
        try:
            async with deadline.enforced():
                await self._server.encode_images(grey, deadline)
                await self._server.encode_texts(ids, deadline)
        except (DeadlineExceeded, Overloaded):
            # Under load the probe waits in the same queue, or finds it full: not ready only after ``window_s``.
            if time.monotonic() - self._last_good_s > self._window_s:
                self._open(unavailable("The model server does not answer in time"))
        except GatewayError as error:
            self._open(error)
        else:
            self._last_good_s = time.monotonic()
            if self._open_because is not None:
                self._open_because = None
                self._log.info("model ready", bundle_id=self._manifest.bundle_id)

    def _open(self, reason: GatewayError) -> None:
        was_closed = self._open_because is None
        known = isinstance(reason, (ModelUnavailable, ModelInvalidOutput))
        self._open_because = reason if known else unavailable("The model server does not answer as it should")
        if was_closed:
            self._log.warning("model unavailable", code=reason.code, detail=reason.detail)
            self._observe_ready(False)  # noqa: FBT003 - a callback of one flag
            self._check_now.set()


def unavailable(what: str) -> ModelUnavailable:
    """Return the error that says why no inference is tried."""
    return ModelUnavailable(f"{what}; nothing was decided.", retry_after_s=RETRY_AFTER_S)
