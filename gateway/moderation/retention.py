"""Deletes decisions older than the retention allows, idempotency keys whose time is over, and stills that are due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from gateway.review.images import ReviewImages
from gateway.store.decisions import Decisions
from gateway.store.idempotency import IdempotencyKeys
from gateway.store.leases import Leases
from gateway.store.outages import StoreUnavailable

PAUSE_S = 3600.0
LEASE_S = 300.0


async def watch_retention(
    decisions: Decisions,
    days: int,
    leases: Leases,
    keys: IdempotencyKeys,
    images: ReviewImages | None = None,
    sweeps: Sequence[Callable[[], Awaitable[object]]] = (),
) -> None:
    """Delete what is due, once an hour, for ever; runs as a task of the application's lifespan.

    Args:
        decisions: where they are kept.
        days: how long; 0 means for ever.
        leases: of several gateways, one deletes at a time.
        keys: of requests that may be repeated.
        images: stills kept for review; None where none are.
        sweeps: delete what else is due.
    """
    log = structlog.get_logger("retention")
    while True:
        try:
            if await leases.take("retention", LEASE_S):
                deleted = await decisions.expire(datetime.now(UTC) - timedelta(days=days)) if days else 0
                if deleted:
                    log.info("decisions expired", count=deleted)
                await keys.expire()
                if images is not None:
                    await images.sweep()
                for sweep in sweeps:
                    await sweep()
        except StoreUnavailable:
            log.debug("nothing expired: the store is away")
        await asyncio.sleep(PAUSE_S)
