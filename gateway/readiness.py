"""Whether requests can be answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from gateway.decoding.preprocess import Preprocessor
from gateway.hash_matching.refresher import ListRefresher
from gateway.inference.load_balancer import LoadBalancer
from gateway.moderation.catalog import Catalog
from gateway.moderation.decision_log import DecisionLog
from gateway.store.causes import SENTENCES, Cause
from gateway.store.outages import Failures

PAUSE_S = 0.02
STORE_LOST = "The database cannot be read: policies, classifiers and lists stay as they were last seen."
NOT_LOGGED = "Decisions are not being logged: the database takes no writes."
SPOOLED = "Decisions are kept on disk until the database takes writes again."
TRITONS_LOST = "{lost} of {of} Tritons cannot be asked: the others take their load."
NOT_APPLICABLE = (
    "{count} policies or classifiers in force cannot be applied with this model; /v1/status names them, and "
    "clip-gateway policies carry makes drafts of policies for it."
)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Asks the parts.

    Attributes:
        encoder: says whether the models answer, and on which servers.
        catalog: must have been loaded.
        list_refresher: must have loaded the hash lists.
        decision_log: knows whether the store takes decisions; None where none are kept.
        store_failures: know why the store fails.
        decoders: at least one must run.
        draining: set when the process is about to end.
    """

    encoder: LoadBalancer
    catalog: Catalog
    list_refresher: ListRefresher
    decision_log: DecisionLog | None
    store_failures: Failures
    decoders: Preprocessor
    draining: asyncio.Event

    def failing(self) -> list[str]:
        """Return the names of the checks that fail; empty when ready."""
        failing = self.encoder.failing_checks()
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
        """Whether decisions should be logged and the database does not take them."""
        return self.decision_log is not None and (self.decision_log.lost or self.catalog.store_lost)

    @property
    def tritons_lost(self) -> bool:
        """Whether some of several Tritons are not asked, and others are."""
        states = self.encoder.states().values()
        return None in states and set(states) != {None}

    @property
    def degraded(self) -> list[str]:
        """The parts that requests are answered without; empty when none is."""
        store = self.store_lost or self.decisions_lost or bool(self.causes())
        parts = (("store", store), ("tritons", self.tritons_lost), ("policies", bool(self.catalog.not_applicable)))
        return [name for name, lost in parts if lost]

    def reasons(self) -> list[str]:
        """Return what does not work although requests are answered, a sentence each; empty when all does."""
        states = self.encoder.states()
        lost, policies = sum(reason is not None for reason in states.values()), len(self.catalog.not_applicable)
        log = SPOOLED if self.decision_log is not None and self.decision_log.spools else NOT_LOGGED
        return [
            *[STORE_LOST] * self.store_lost,
            *[log] * self.decisions_lost,
            *(SENTENCES[cause] for cause in self.causes().values()),
            *[TRITONS_LOST.format(lost=lost, of=len(states))] * self.tritons_lost,
            *[NOT_APPLICABLE.format(count=policies)] * bool(policies),
        ]

    def causes(self) -> dict[str, Cause]:
        """Return the class of the failure behind what does not work, by part; empty when all does."""
        cause = self.store_failures.cause
        lost = self.store_lost or self.decisions_lost or not (self.catalog.loaded and self.list_refresher.loaded)
        return {"store": cause} if cause and lost else {}

    async def wait(self, seconds: float) -> None:
        """Wait until all is ready, but not for ever: a gateway must be able to say why it is not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.failing() and not self.draining.is_set():  # noqa: ASYNC110 - several parts, none of which tells
                    await asyncio.sleep(PAUSE_S)
