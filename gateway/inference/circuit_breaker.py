"""A circuit breaker around one server: while its models fail, it is asked nothing but how it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import numpy as np
import structlog

from gateway.errors import DeadlineExceeded, GatewayError, ModelInvalidOutput, ModelUnavailable, Overloaded
from gateway.inference.bundle import Manifest
from gateway.inference.connection import ConnectionLost
from gateway.inference.triton import BUNDLE_PARAMETER, ModelServer, Vectors
from gateway.limits.deadline import Deadline
from gateway.limits.gather import all_of

CHECK_INTERVAL_S = 0.25
CHECK_TIMEOUT_S = 0.5  # for what Triton serves outside its inference queues; with the interval below a second
PROBE_TIMEOUT_S = 5.0  # for inferences, which wait in the same queues as those of requests
PROBE_AGE_S = 2.0  # an inference more recent than this is as good as a probe
HUNG_S = 2.0  # a server is hung, not busy, when it says nothing, or an inference times out, after this long
PAUSED_S = 0.5  # a check that lasts so much longer than its deadline tells of this process, not of the server
RETRY_AFTER_S = 2


class CircuitBreaker:
    """One server, and whether it may be asked for inferences.

    The circuit opens when:

    - an inference or a check finds the server gone, stopping, or a model not ready: at once;
    - a check is not answered within 0.5 s and no inference returned in that time: at once where another server is well,
      and its inferences under way end, so that they can be made there; else after 2 s of silence;
    - an inference times out after 2 s or more in which no inference returned;
    - the server serves another bundle, or a probe's answer is invalid (requests then get that error: 502).

    A long queue does not open it: a slow server still works. A check every quarter of a second compares the served
    bundle with the manifest. While the circuit is open it also runs both models, and the first success closes the
    circuit. Behind a lost connection the comparison alone does.

    Args:
        name: of the server in log lines.
        server: makes the calls.
        manifest: the bundle that must be served.
        window_s: how long a successful inference keeps the server ready.
        others_well: tells whether another server could be asked.
        observe: called whenever the circuit opens, and after each check.

    Attributes:
        open_because: the error that requests get; None while the circuit is closed.
        settled: not set while a connection was lost and no other one has been tried.
    """

    def __init__(
        self,
        name: str,
        server: ModelServer,
        manifest: Manifest,
        window_s: float,
        others_well: Callable[[], bool],
        observe: Callable[[], None],
    ) -> None:
        self._server = server
        self._manifest = manifest
        self._window_s = window_s
        self._others_well = others_well
        self._observe = observe
        self._last_good_s = self._last_heard_s = float("-inf")
        self._bundle_matches: bool | None = None
        self._check_now, self._probe_due = asyncio.Event(), asyncio.Event()
        self._log = structlog.get_logger("health").bind(triton=name)
        self.open_because: GatewayError | None = unavailable("The model server has not been reached yet")
        self.settled = asyncio.Event()
        self.settled.set()

    def is_closed(self) -> bool:
        """Whether the server may be asked."""
        return self.open_because is None

    @property
    def under_way(self) -> Mapping[str, int]:
        """See ``ModelServer.under_way``."""
        return self._server.under_way

    def failing_checks(self) -> list[str]:
        """Return the names of the checks that fail; empty when ready."""
        failing = []
        if self._bundle_matches is False:
            failing.append("bundle")
        if not self.is_closed() or time.monotonic() - self._last_good_s > self._window_s:
            failing.append("inference")
        return failing

    async def watch(self) -> None:
        """Check and probe the server for ever; runs as a task."""
        await all_of((self._check_for_ever(), self._probe_for_ever()))

    async def call(self, encode: Callable[[ModelServer], Awaitable[Vectors]], deadline: Deadline) -> Vectors:
        """Run inferences, and open the circuit when they show that the server is gone or hung.

        Raises:
            ServiceError: as ``Encoder.encode_images``.
        """
        start_s = time.monotonic()
        try:
            vectors = await encode(self._server)
        except ModelUnavailable as error:
            if self.is_closed():  # else its reason stands
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

    async def close(self) -> None:
        """Give up the connection."""
        await self._server.close()

    async def _check_for_ever(self) -> None:
        while True:
            self._check_now.clear()
            await self._check()
            if not self._check_now.is_set():
                self.settled.set()
            self._observe()
            try:
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._check_now.wait()
            except TimeoutError:
                pass

    async def _probe_for_ever(self) -> None:
        """Probe beside the checks: a probe waits in queues, and a check has to notice meanwhile that nothing comes."""
        while True:
            await self._probe_due.wait()
            self._probe_due.clear()
            await self._probe()
            self._observe()

    def _timed_out(self, start_s: float) -> None:
        if self._last_good_s < start_s and time.monotonic() - start_s >= HUNG_S:
            self._open(unavailable("The model server does not answer in time"))

    async def _check(self) -> None:
        start_s = time.monotonic()
        try:
            await self._check_bundle()
        except DeadlineExceeded:
            await self._unanswered(start_s)
            return
        except GatewayError as error:
            self._open(error)
            return
        self._last_heard_s = time.monotonic()
        if isinstance(self.open_because, ConnectionLost):
            self._close()
        if not self.is_closed() or time.monotonic() - self._last_good_s > PROBE_AGE_S:
            self._probe_due.set()

    async def _unanswered(self, start_s: float) -> None:
        """Open the circuit where silence says that the server is frozen or cut off."""
        now_s, heard_s = time.monotonic(), max(self._last_good_s, self._last_heard_s)
        if heard_s >= start_s or now_s - start_s > CHECK_TIMEOUT_S + PAUSED_S:
            return
        if not self.is_closed() or now_s - heard_s >= HUNG_S or self._others_well():
            self._open(unavailable("The model server does not answer"))
        if not self.is_closed() and self._others_well():
            await self._server.close()

    async def _check_bundle(self) -> None:
        """Check that every served model carries the id of the manifest's bundle.

        Raises:
            DeadlineExceeded: the server did not answer.
            ServiceError: it is gone, a model is not served, or another bundle is.
        """
        deadline = Deadline.after(CHECK_TIMEOUT_S)
        async with deadline.enforced():
            served = await self._server.served_parameters(deadline)
        others = {name for name, found in served.items() if found.get(BUNDLE_PARAMETER) != self._manifest.bundle_id}
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
            self._close()

    def _close(self) -> None:
        if not self.is_closed():
            self.open_because = None
            self._log.info("model ready", bundle_id=self._manifest.bundle_id)

    def _open(self, reason: GatewayError) -> None:
        was_closed = self.is_closed()
        known = isinstance(reason, (ModelUnavailable, ModelInvalidOutput))
        self.open_because = reason if known else unavailable("The model server does not answer as it should")
        if was_closed:
            if isinstance(reason, ConnectionLost):
                self.settled.clear()  # until another one has been tried
            self._log.warning("model unavailable", code=reason.code, detail=reason.detail)
            self._observe()
            self._check_now.set()


def unavailable(what: str) -> ModelUnavailable:
    """Return the error that says why no inference is tried."""
    return ModelUnavailable(f"{what}; nothing was decided.", retry_after_s=RETRY_AFTER_S)
