"""Whether the models answer, and answer as the bundle says: real inferences, a gate in front of a dead server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import structlog

from gateway.bundle import Manifest
from gateway.deadline import Deadline
from gateway.encoder import Encoder, Vectors
from gateway.errors import DeadlineExceeded, GatewayError, ModelUnavailable

PROBE_TIMEOUT_S = 5.0
PROBE_PAUSE_UP_S = 2.0
PROBE_PAUSE_DOWN_S = 0.5
RETRY_AFTER_S = 2


class HealthGate:
    """An encoder that knows whether it works; refuses at once while it does not, so that no request waits in vain.

    The first inference that finds the server gone closes the gate. A probe every half second opens it again: it
    compares the served bundle with ours and runs both models. Any good inference of a request counts as a probe.

    Args:
        encoder: the encoder behind the gate.
        manifest: the bundle it must serve.
        window_s: how long a good inference keeps the service ready.
        observe_ready: called with True or False after each change or probe.
    """

    def __init__(
        self, encoder: Encoder, manifest: Manifest, window_s: float, observe_ready: Callable[[bool], None]
    ) -> None:
        self._encoder = encoder
        self._manifest = manifest
        self._window_s = window_s
        self._observe_ready = observe_ready
        self._last_good_s = float("-inf")
        self._open = False
        self._bundle_matches: bool | None = None
        self._look_now = asyncio.Event()
        self._log = structlog.get_logger("health")

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_images``."""
        self._require_open()
        try:
            vectors = await self._encoder.encode_images(pixels, deadline)
        except ModelUnavailable:
            self._shut()
            raise
        self._last_good_s = time.monotonic()
        return vectors

    async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_texts``."""
        self._require_open()
        try:
            vectors = await self._encoder.encode_texts(input_ids, deadline)
        except ModelUnavailable:
            self._shut()
            raise
        self._last_good_s = time.monotonic()
        return vectors

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
        if not self._open or time.monotonic() - self._last_good_s > self._window_s:
            failing.append("inference")
        return failing

    async def watch(self) -> None:
        """Probe for ever; runs as a task of the application's lifespan."""
        while True:
            recent = time.monotonic() - self._last_good_s < PROBE_PAUSE_UP_S
            if not (self._open and recent):
                await self._probe()
            self._observe_ready(not self.failing_checks())
            self._look_now.clear()
            try:
                async with asyncio.timeout(PROBE_PAUSE_UP_S if self._open else PROBE_PAUSE_DOWN_S):
                    await self._look_now.wait()
                await asyncio.sleep(PROBE_PAUSE_DOWN_S / 5)  # it was gone a moment ago
            except TimeoutError:
                pass

    async def _probe(self) -> None:
        deadline = Deadline.after(PROBE_TIMEOUT_S)
        image, text = self._manifest.image, self._manifest.text
        grey = np.full((1, image.size_px, image.size_px, 3), 128, np.uint8)
        ids = np.full((1, text.length_buckets[0]), text.pad_id, np.int64)
        ids[0, 0], ids[0, 1] = text.bos_id, text.eos_id
        try:
            async with deadline.enforced():
                if not self._open:
                    served = await self._encoder.served_parameters(deadline)
                    self._compare(served)
                await self._encoder.encode_images(grey, deadline)
                await self._encoder.encode_texts(ids, deadline)
        except DeadlineExceeded:
            # Slow is not dead: under load the probe waits in the same queue. The window decides.
            if time.monotonic() - self._last_good_s > self._window_s:
                self._shut()
        except GatewayError as error:
            self._log.debug("probe failed", code=error.code)
            self._shut()
        else:
            self._last_good_s = time.monotonic()
            if not self._open:
                self._open = True
                self._log.info("model ready", bundle_id=self._manifest.bundle_id)

    def _compare(self, served: Mapping[str, Mapping[str, str]]) -> None:
        """Check that every served model carries our bundle's id.

        Raises:
            ModelUnavailable: one does not.
        """
        others = {name for name, found in served.items() if found.get("bundle_id") != self._manifest.bundle_id}
        if others and self._bundle_matches is not False:
            self._log.error("Triton serves another bundle than the manifest names", models=sorted(others))
        self._bundle_matches = not others
        if others:
            raise ModelUnavailable("The model server serves another bundle than this gateway was started with.")

    def _shut(self) -> None:
        if self._open:
            self._open = False
            self._log.warning("model unavailable")
            self._observe_ready(False)  # noqa: FBT003 - a callback of one flag
            self._look_now.set()

    def _require_open(self) -> None:
        if not self._open:
            raise ModelUnavailable(
                "The model server cannot be reached or is starting; nothing was decided.", retry_after_s=RETRY_AFTER_S
            )
