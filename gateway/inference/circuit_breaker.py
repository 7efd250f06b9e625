"""Whether the models answer, and answer as the bundle says: real inferences, a gate in front of a dead server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from gateway.errors import DeadlineExceeded, GatewayError, ModelInvalidOutput, ModelUnavailable, Overloaded
from gateway.inference.bundle import Manifest
from gateway.inference.triton import Encoder, Vectors
from gateway.limits.deadline import Deadline

LOOK_PAUSE_S = 0.5
SIGN_TIMEOUT_S = 2.0  # for the configurations, which Triton gives out beside its queues, however long those are
PROBE_TIMEOUT_S = 5.0  # for inferences, which wait in the same queues as those of requests
PROBE_AGE_S = 2.0  # an inference more recent than this is as good as a probe
HUNG_S = 2.0  # nobody's inference came back while one waited this long and ran out of time: hung, not busy
RETRY_AFTER_S = 2

Rows = TypeVar("Rows")


class HealthGate:
    """An encoder that knows whether it works; refuses at once while it does not, so that no request waits in vain.

    What shuts it:

    - a request's inference or a look that finds the server gone, or a model not served: at once;
    - a server that gives no sign of life (its models' configurations) for 2 s in which no inference came back either;
    - a request's inference that ran out of time after 2 s or more in which nobody's came back;
    - models of another bundle than ours, and a probe whose answer cannot be right (then requests get that: 502).

    A long queue does none of it: what is slow is not dead. While it is shut, a look every half second compares the
    served bundle with ours and runs both models; the first that succeeds opens it.

    Args:
        encoder: the encoder behind the gate.
        manifest: the bundle it must serve.
        window_s: how long a good inference keeps the service ready.
        observe_ready: called with True or False after each change or look.
    """

    def __init__(
        self, encoder: Encoder, manifest: Manifest, window_s: float, observe_ready: Callable[[bool], None]
    ) -> None:
        self._encoder = encoder
        self._manifest = manifest
        self._window_s = window_s
        self._observe_ready = observe_ready
        self._last_good_s = float("-inf")
        self._shut_because: GatewayError | None = unavailable("The model server has not been reached yet")
        self._bundle_matches: bool | None = None
        self._look_now = asyncio.Event()
        self._log = structlog.get_logger("health")

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_images``."""
        return await self._judged(self._encoder.encode_images, pixels, deadline)

    async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_texts``."""
        return await self._judged(self._encoder.encode_texts, input_ids, deadline)

    async def served_parameters(self, deadline: Deadline) -> Mapping[str, Mapping[str, str]]:
        """See ``Encoder.served_parameters``."""
        return await self._encoder.served_parameters(deadline)

    async def close(self) -> None:
        """See ``Encoder.close``."""
        await self._encoder.close()

    def failing_checks(self) -> list[str]:
        """Return the names of the checks that fail; empty when ready."""
        failing = []
        if self._bundle_matches is False:
            failing.append("bundle")
        if self._shut_because is not None or time.monotonic() - self._last_good_s > self._window_s:
            failing.append("inference")
        return failing

    async def watch(self) -> None:
        """Look for ever; runs as a task of the application's lifespan."""
        while True:
            self._look_now.clear()
            await self._look()
            self._observe_ready(not self.failing_checks())
            try:
                async with asyncio.timeout(LOOK_PAUSE_S):
                    await self._look_now.wait()
                await asyncio.sleep(LOOK_PAUSE_S / 5)  # it was gone a moment ago
            except TimeoutError:
                pass

    async def _judged(
        self, encode: Callable[[Rows, Deadline], Awaitable[Vectors]], rows: Rows, deadline: Deadline
    ) -> Vectors:
        """Let a request's inference through, and draw the conclusion from how it ends."""
        if self._shut_because is not None:
            raise type(self._shut_because)(self._shut_because.detail, retry_after_s=self._shut_because.retry_after_s)
        start_s = time.monotonic()
        try:
            vectors = await encode(rows, deadline)
        except ModelUnavailable as error:
            self._shut(error)
            raise
        except DeadlineExceeded:
            self._ran_out(start_s)
            raise
        except asyncio.CancelledError:  # by the stage around, whose deadline is the same; or the client has left
            if deadline.passed:
                self._ran_out(start_s)
            raise
        self._last_good_s = time.monotonic()
        return vectors

    def _ran_out(self, start_s: float) -> None:
        if self._last_good_s < start_s and time.monotonic() - start_s >= HUNG_S:
            self._shut(unavailable("The model server does not answer in time"))

    async def _look(self) -> None:
        start_s = time.monotonic()
        try:
            await self._see_bundle()
        except DeadlineExceeded:
            if self._last_good_s < start_s:
                self._shut(unavailable("The model server does not answer"))
            return
        except GatewayError as error:
            self._shut(error)
            return
        if self._shut_because is not None or time.monotonic() - self._last_good_s > PROBE_AGE_S:
            await self._probe()

    async def _see_bundle(self) -> None:
        """Ask for what is served, and check that every model carries our bundle's id.

        Raises:
            DeadlineExceeded: no sign of life.
            ServiceError: gone, a model is not served, or it is another bundle's.
        """
        deadline = Deadline.after(SIGN_TIMEOUT_S)
        async with deadline.enforced():
            served = await self._encoder.served_parameters(deadline)
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
                await self._encoder.encode_images(grey, deadline)
                await self._encoder.encode_texts(ids, deadline)
        except (DeadlineExceeded, Overloaded):
            # Slow is not dead: under load the probe waits in the same queue, or finds it full. The window decides.
            if time.monotonic() - self._last_good_s > self._window_s:
                self._shut(unavailable("The model server does not answer in time"))
        except GatewayError as error:
            self._shut(error)
        else:
            self._last_good_s = time.monotonic()
            if self._shut_because is not None:
                self._shut_because = None
                self._log.info("model ready", bundle_id=self._manifest.bundle_id)

    def _shut(self, reason: GatewayError) -> None:
        was_open = self._shut_because is None
        known = isinstance(reason, (ModelUnavailable, ModelInvalidOutput))
        self._shut_because = reason if known else unavailable("The model server does not answer as it should")
        if was_open:
            self._log.warning("model unavailable", code=reason.code, detail=reason.detail)
            self._observe_ready(False)  # noqa: FBT003 - a callback of one flag
            self._look_now.set()


def unavailable(what: str) -> ModelUnavailable:
    """Return the error that says why no inference is tried."""
    return ModelUnavailable(f"{what}; nothing was decided.", retry_after_s=RETRY_AFTER_S)
