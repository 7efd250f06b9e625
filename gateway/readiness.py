"""Whether requests can be answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.decoding.preprocess import Preprocessor
from gateway.hash_matching.refresher import ListRefresher
from gateway.inference.circuit_breaker import CircuitBreaker
from gateway.moderation.catalog import Catalog

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
        breaker: says whether the models answer.
        catalog: must have been loaded.
        list_refresher: must have loaded the hash lists.
        decoders: at least one must run.
        draining: begun when the process is about to end.
    """

    def __init__(
        self,
        breaker: CircuitBreaker,
        catalog: Catalog,
        list_refresher: ListRefresher,
        decoders: Preprocessor,
        draining: Draining,
    ) -> None:
        self._breaker = breaker
        self._catalog = catalog
        self._list_refresher = list_refresher
        self._decoders = decoders
        self._draining = draining

    def failing(self) -> list[str]:
        """Return the names of the checks that fail; empty when ready."""
        failing = self._breaker.failing_checks()
        if not self._catalog.loaded:
            failing.append("policies")
        if not self._list_refresher.loaded:
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
