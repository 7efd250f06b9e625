"""Whether requests can be answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from gateway.decoding.preprocess import Preprocessor
from gateway.hash_matching.refresher import ListRefresher
from gateway.inference.circuit_breaker import CircuitBreaker
from gateway.moderation.catalog import Catalog
from gateway.moderation.decision_log import DecisionLog

PAUSE_S = 0.02
STORE_LOST = "The database cannot be read: policies, classifiers and lists stay as they were last seen."
NOT_LOGGED = "Decisions are not being logged: the database takes no writes."

NOT_APPLICABLE = (
    "{count} policies or classifiers in force cannot be applied with this model; /v1/status names them, and "
    "clip-gateway policies carry makes drafts of policies for it."
)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Asks the parts.

    Attributes:
        breaker: says whether the models answer.
        catalog: must have been loaded.
        list_refresher: must have loaded the hash lists.
        decision_log: knows whether the store takes decisions; None where none are kept.
        decoders: at least one must run.
        draining: set when the process is about to end.
    """

    breaker: CircuitBreaker
    catalog: Catalog
    list_refresher: ListRefresher
    decision_log: DecisionLog | None
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

    @property
    def store_lost(self) -> bool:
        """Whether the database cannot be read."""
        return self.catalog.store_lost

    @property
    def decisions_lost(self) -> bool:
        """Whether decisions should be logged and are not."""
        return self.decision_log is not None and (self.decision_log.lost or self.catalog.store_lost)

    @property
    def degraded(self) -> list[str]:
        """The parts that requests are answered without; empty when none is."""
        store = self.store_lost or self.decisions_lost
        return ["store"] * store + ["policies"] * bool(self.catalog.not_applicable)

    def reasons(self) -> list[str]:
        """Return what does not work although requests are answered, a sentence each; empty when all does."""
        reasons = [STORE_LOST] * self.store_lost + [NOT_LOGGED] * self.decisions_lost
        count = len(self.catalog.not_applicable)
        return reasons + [NOT_APPLICABLE.format(count=count)] * bool(count)

    async def wait(self, seconds: float) -> None:
        """Wait until all is ready, but not for ever: a gateway must be able to say why it is not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.failing() and not self.draining.is_set():  # noqa: ASYNC110 - several parts, none of which tells
                    await asyncio.sleep(PAUSE_S)
