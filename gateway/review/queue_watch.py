"""Tells the metrics how long the review queue is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from gateway.observability.metrics import Metrics
from gateway.store.outages import StoreUnavailable
from gateway.store.review.cases import Cases

PAUSE_S = 10.0


async def watch_queue(cases: Cases, metrics: Metrics) -> None:
    """Count the cases again and again, for ever; runs as a task of the application's lifespan."""
    log = structlog.get_logger("review")
    while True:
        try:
            counts = await cases.counts()
        except StoreUnavailable:
            log.debug("cases not counted: the store is away")
        else:
            age_s = (datetime.now(UTC) - counts.oldest_at).total_seconds() if counts.oldest_at else 0.0
            metrics.set_queue(counts.waiting, counts.claimed, age_s)
        await asyncio.sleep(PAUSE_S)
