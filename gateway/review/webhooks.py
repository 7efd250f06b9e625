"""Delivers the outbox: at least once, in order for each image, tried again with growing pauses.

Every gateway on a database runs it. An event is leased to one of them for longer than an attempt can take; a gateway
that is killed in between leaves the lease, and another one delivers the event once that has run out.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from gateway.observability.metrics import Metrics
from gateway.review.webhook_sender import DeliveryAttempt, WebhookSender
from gateway.store.outages import StoreUnavailable
from gateway.store.review.outbox import ClaimedEvent, Outbox

POLL_S: Final = 0.5
COUNT_S: Final = 15.0
EXPIRE_S: Final = 3600.0
GROWTH: Final = 3.0
MAX_PAUSE_S: Final = 6 * 3600.0
JITTER: Final = 0.2


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """How events are delivered.

    Attributes:
        attempts: until an event is dead.
        concurrency: attempts at a time.
        lease_s: longer than an attempt and what it asks of the store.
        retention: how long delivered and dead events are kept.
        first_pause_s: between the first two attempts of an event.
    """

    attempts: int
    concurrency: int
    lease_s: float
    retention: timedelta
    first_pause_s: float = 5.0


class Webhooks:
    """Delivers events while its watch runs.

    Args:
        outbox: where they wait.
        sender: makes an attempt.
        rules: see :class:`DeliveryRules`.
        metrics: attempts, and what waits, are shown there.
    """

    def __init__(self, outbox: Outbox, sender: WebhookSender, rules: DeliveryRules, metrics: Metrics) -> None:
        self._outbox = outbox
        self._sender = sender
        self._rules = rules
        self._metrics = metrics
        self._owner = secrets.token_hex(8)
        self._counted = self._expired = -EXPIRE_S
        self._log = structlog.get_logger("webhooks")

    async def watch(self) -> None:
        """Deliver what is due, for ever; runs as a task of the application's lifespan."""
        sending: set[asyncio.Task[None]] = set()
        try:
            while True:
                try:
                    await self._look_after()
                    if free := self._rules.concurrency - len(sending):
                        claimed = await self._outbox.claim(self._owner, free, self._rules.lease_s)
                        sending |= {asyncio.create_task(self._deliver(event)) for event in claimed}
                except StoreUnavailable:
                    self._log.debug("nothing delivered: the store is away")
                except Exception:  # noqa: BLE001 - one bad row must not end the watch
                    self._log.exception("webhooks not delivered")
                if not sending:
                    await asyncio.sleep(POLL_S)
                    continue
                _, sending = await asyncio.wait(sending, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop(sending)

    async def _stop(self, sending: set[asyncio.Task[None]]) -> None:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        try:
            await self._outbox.release(self._owner)
        except StoreUnavailable:
            self._log.debug("leases not given up: the store is away")

    async def _deliver(self, event: ClaimedEvent) -> None:
        attempt = await self._sender.send(event.message_id, event.body)
        self._metrics.webhook_attempts.labels(attempt.outcome).inc()
        try:
            if attempt.outcome == "delivered":
                await self._outbox.delivered(event)
                return
            await self._fail(event, attempt)
        except StoreUnavailable:
            self._log.warning("an attempt's outcome was not kept; it is made again", id=event.message_id)
        except Exception:  # noqa: BLE001 - likewise, and the lease runs out
            self._log.exception("an attempt's outcome was not kept", id=event.message_id)

    async def _fail(self, event: ClaimedEvent, attempt: DeliveryAttempt) -> None:
        dead = attempt.outcome == "gone" or event.attempts >= self._rules.attempts
        pause = timedelta(seconds=pause_s(event.attempts, attempt, self._rules.first_pause_s))
        next_at = None if dead else datetime.now(UTC) + pause
        await self._outbox.failed(event, attempt.error, next_at)
        say = self._log.error if dead else self._log.warning
        what = "webhook event is dead" if dead else "webhook attempt failed"
        say(what, id=event.message_id, attempts=event.attempts, error=attempt.error)

    async def _look_after(self) -> None:
        """Show what waits, and delete what is old, each once in a while."""
        now = time.monotonic()
        if now - self._counted >= COUNT_S:
            counts = await self._outbox.counts()
            oldest_s = (datetime.now(UTC) - counts.oldest_at).total_seconds() if counts.oldest_at else 0.0
            self._metrics.show_webhooks(counts.waiting, counts.dead, oldest_s)
            self._counted = now
        if now - self._expired >= EXPIRE_S:
            await self._outbox.expire(datetime.now(UTC) - self._rules.retention)
            self._expired = now


def pause_s(attempts: int, attempt: DeliveryAttempt, first_s: float) -> float:
    """Return the pause before the next attempt, in seconds.

    It grows threefold up to 6 h, 20 % more or less; it is longer where ``Retry-After`` asks for it, up to 6 h.

    Args:
        attempts: made, 1 or more.
        attempt: the last one.
        first_s: the pause behind the first one.
    """
    own = min(first_s * GROWTH ** (attempts - 1), MAX_PAUSE_S)
    own *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - so that gateways do not ask in step
    return max(own, min(attempt.retry_after_s or 0.0, MAX_PAUSE_S))
