"""Deletes decisions that have grown older than the retention allows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from gateway.store.decisions import Decisions
from gateway.store.leases import Leases
from gateway.store.outages import StoreUnavailable

PAUSE_S = 3600.0
LEASE_S = 300.0


class Retention:
    """Looks once an hour.

    Args:
        decisions: where they are kept.
        days: how long; 0 means for ever.
        leases: of several gateways, one deletes at a time.
    """

    def __init__(self, decisions: Decisions, days: int, leases: Leases) -> None:
        self._decisions = decisions
        self._days = days
        self._leases = leases
        self._log = structlog.get_logger("retention")

    async def watch(self) -> None:
        """Delete what is due, for ever; runs as a task of the application's lifespan."""
        while self._days:
            try:
                if await self._leases.take("retention", LEASE_S):
                    deleted = await self._decisions.expire(datetime.now(UTC) - timedelta(days=self._days))
                    if deleted:
                        self._log.info("decisions expired", count=deleted)
            except StoreUnavailable:
                self._log.debug("nothing expired: the store is away")
            await asyncio.sleep(PAUSE_S)
