"""Whether requests can be answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.decoding.preprocess import Preparer
from gateway.hash_matching.refresher import KnownWatch
from gateway.inference.circuit_breaker import HealthGate
from gateway.moderation.catalog import Catalogue

PAUSE_S = 0.02


class Draining:
    """Begins once, by the server on SIGTERM, and never ends."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        """Note that the process is about to end."""
        self.begun = True


class Readiness:
    """Asks the parts.

    Args:
        health: of the models.
        catalogue: of policies, which must be loaded.
        known: images, whose lists must be loaded.
        decoders: of which there must be some.
        draining: of this process.
    """

    def __init__(
        self,
        health: HealthGate,
        catalogue: Catalogue,
        known: KnownWatch,
        decoders: Preparer,
        draining: Draining,
    ) -> None:
        self._health = health
        self._catalogue = catalogue
        self._known = known
        self._decoders = decoders
        self._draining = draining

    def failing(self) -> list[str]:
        """Return the names of the checks that fail; empty when ready."""
        failing = self._health.failing_checks()
        if not self._catalogue.loaded:
            failing.append("policies")
        if not self._known.loaded:
            failing.append("lists")
        if not self._decoders.available:
            failing.append("decoders")
        if self._draining.begun:
            failing.append("draining")
        return failing

    async def wait(self, seconds: float) -> None:
        """Wait until all is ready, but not for ever: a gateway must be able to say why it is not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.failing() and not self._draining.begun:  # noqa: ASYNC110 - several parts, none of which tells
                    await asyncio.sleep(PAUSE_S)
