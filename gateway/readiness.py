"""Whether requests can be answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from gateway.decoding.preprocess import Preprocessor
from gateway.hash_matching.refresher import ListRefresher
from gateway.inference.circuit_breaker import CircuitBreaker
from gateway.moderation.catalog import Catalog

PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Readiness:
    """Asks the parts.

    Attributes:
        breaker: says whether the models answer.
        catalog: must have been loaded.
        list_refresher: must have loaded the hash lists.
        decoders: at least one must run.
        draining: set when the process is about to end.
    """

    breaker: CircuitBreaker
    catalog: Catalog
    list_refresher: ListRefresher
    decoders: Preprocessor
    draining: asyncio.Event

    def failing(self) -> list[str]:
        """Return the names of the checks that fail; empty when ready."""
        failing = self.breaker.failing_checks()
        if not self.catalog.loaded:
            failing.append("policies")
        if not self.list_refresher.loaded:
            failing.append("lists")
        if not self.decoders.available:
            failing.append("decoders")
        if self.draining.is_set():
            failing.append("draining")
        return failing

    async def wait(self, seconds: float) -> None:
        """Wait until all is ready, but not for ever: a gateway must be able to say why it is not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.failing() and not self.draining.is_set():  # noqa: ASYNC110 - several parts, none of which tells
                    await asyncio.sleep(PAUSE_S)
