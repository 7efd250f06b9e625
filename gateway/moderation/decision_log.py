"""Writes verdicts to the decision log before they are answered, and knows whether the store takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from gateway.errors import DeadlineExceeded
from gateway.limits.deadline import Deadline
from gateway.store.decisions import DecisionRecord, Decisions
from gateway.store.idempotency import KeptAnswer
from gateway.store.outages import StoreUnavailable

PAUSE_S = 1.0


class DecisionLog:
    """The first write that fails is waited for; until one succeeds again, no request waits for the next.

    A database that is locked or whose disk is full can be read all the while, so that reading tells nothing of it.

    Args:
        decisions: where they are kept.
        store_lost: says that the store cannot even be read.
    """

    def __init__(self, decisions: Decisions, store_lost: Callable[[], bool]) -> None:
        self._decisions = decisions
        self._store_lost = store_lost
        self._log = structlog.get_logger("decision_log")
        self.lost = False

    @property
    def unavailable(self) -> bool:
        """Whether the store is known to take no writes."""
        return self.lost or self._store_lost()

    async def append(
        self, records: Sequence[DecisionRecord], deadline: Deadline, kept: KeptAnswer | None = None
    ) -> bool:
        """Write records, and the answer that they are part of, all or none; False if it failed, or took too long.

        Raises:
            ClaimLost: another request has the answer's key; nothing was written.
        """
        if self.unavailable:
            return False
        try:
            async with deadline.enforced():
                await self._decisions.append(records, kept)
        except (StoreUnavailable, DeadlineExceeded):
            if not self.lost:
                self._log.warning("decisions cannot be logged: the store takes no writes")
            self.lost = True
            return False
        return True

    async def watch(self) -> None:
        """Check whether the store takes writes again, for ever; runs as a task of the application's lifespan."""
        while True:
            await asyncio.sleep(PAUSE_S)
            if self.lost:
                try:
                    await self._decisions.check_writable()
                except StoreUnavailable:
                    continue
                except Exception:  # noqa: BLE001 - nothing may end the watch
                    self._log.exception("the store could not be checked")
                    continue
                self.lost = False
                self._log.info("decisions are logged again")
