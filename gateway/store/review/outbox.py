"""What is still to be told to webhooks, written in the transaction of what it tells.

Events of one order key are delivered one after another: the next is free once the one before it is delivered or dead.
Numbers follow the order of commits within a key, since ``enqueue`` locks it until its transaction ends.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row, and_, delete, exists, func, insert, or_, select, update

from gateway.store import audit
from gateway.store.audit import Actor
from gateway.store.database import Repository, Transaction, reads, writes
from gateway.store.review.tables import webhook_events as events

EventState = Literal["waiting", "delivered", "dead"]
MAX_ERROR_CHARS = 200


@dataclass(frozen=True, slots=True)
class ClaimedEvent:
    """An event that one gateway delivers now.

    Attributes:
        message_id: of the event, the same in each attempt.
        body: JSON, as it is sent and signed.
        attempts: made, with this one.
        owner: who claimed it.
    """

    message_id: str
    body: str
    attempts: int
    owner: str


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event as the dead-letter view shows it; ``number`` is its place in the outbox."""

    number: int
    message_id: str
    event: str
    decision_id: str
    state: EventState
    attempts: int
    created_at: datetime
    next_at: datetime | None
    last_error: str | None
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """Events by state, and since when the oldest one waits."""

    waiting: int
    dead: int
    delivered: int
    oldest_at: datetime | None


_SHOWN = tuple(events.c[name] for name in EventRecord.__dataclass_fields__)


async def enqueue(tx: Transaction, event_type: str, data: dict[str, Any], order_key: str) -> None:
    """Put an event into the outbox. Call it last in its transaction, so that the lock on the key waits for no other.

    Args:
        tx: of what the event tells.
        event_type: such as ``review.verdict``.
        data: of the event, JSON values; ``decision_id`` and ``external_id`` say what it is about.
        order_key: events of one key are delivered in order.
    """
    if tx.postgresql:  # SQLite has one writer at a time
        await tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(order_key, 0))))
    now = datetime.now(UTC)
    body = {"type": event_type, "timestamp": now.isoformat(), "data": data}
    row = {
        "message_id": f"msg_{secrets.token_hex(16)}",
        "event": event_type,
        "decision_id": data["decision_id"],
        "external_id": data["external_id"],
        "order_key": order_key,
        "body": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "state": "waiting",
        "attempts": 0,
        "created_at": now,
        "next_at": now,
    }
    await tx.execute(insert(events).values(**row))


async def forget_events(tx: Transaction, external_id: str) -> None:
    """Delete all events about an external id, delivered or not."""
    await tx.execute(delete(events).where(events.c.external_id == external_id))


class Outbox(Repository):
    """The events of all gateways on a database."""

    @writes
    async def claim(self, tx: Transaction, owner: str, limit: int, lease_s: float) -> tuple[ClaimedEvent, ...]:
        """Claim events that are due, those due longest first, for so many seconds."""
        now = datetime.now(UTC)
        other = events.alias("other")
        # One that is in delivery counts too: a dead event may be retried while a later one is under way.
        before = exists().where(
            other.c.order_key == events.c.order_key,
            other.c.state == "waiting",
            or_(other.c.number < events.c.number, and_(other.c.number != events.c.number, other.c.leased_until > now)),
        )
        free = or_(events.c.leased_until.is_(None), events.c.leased_until <= now)
        due = select(events.c.number).where(events.c.state == "waiting", events.c.next_at <= now, free, ~before)
        due = due.order_by(events.c.next_at, events.c.number).limit(limit)
        due = due.with_for_update(skip_locked=True, of=events)
        lease = {"leased_by": owner, "leased_until": now + timedelta(seconds=lease_s)}
        taken = update(events).where(events.c.number.in_(due.scalar_subquery()))
        taken = taken.values(attempts=events.c.attempts + 1, **lease)
        rows = await tx.execute(taken.returning(events.c.message_id, events.c.body, events.c.attempts))
        return tuple(ClaimedEvent(row.message_id, row.body, row.attempts, owner) for row in rows)

    @writes
    async def delivered(self, tx: Transaction, event: ClaimedEvent) -> None:
        """Note that an event has arrived; its body is emptied."""
        done = {"state": "delivered", "delivered_at": datetime.now(UTC), "body": "", "last_error": None}
        await _settle(tx, event, {**done, "next_at": None})

    @writes
    async def failed(self, tx: Transaction, event: ClaimedEvent, error: str, next_at: datetime | None) -> None:
        """Note that an attempt failed, and when the next one is due; None: the event is dead."""
        state = "waiting" if next_at else "dead"
        await _settle(tx, event, {"state": state, "last_error": error[:MAX_ERROR_CHARS], "next_at": next_at})

    @writes
    async def release(self, tx: Transaction, owner: str) -> None:
        """Give up the leases of a gateway that ends; its unfinished attempts are made again at once."""
        mine = update(events).where(events.c.leased_by == owner)
        await tx.execute(mine.values(leased_by=None, leased_until=None))

    @reads
    async def page(
        self, tx: Transaction, state: EventState | None, *, limit: int, before: int | None = None
    ) -> tuple[EventRecord, ...]:
        """Return events, newest first; ``before`` is the number of the last one of the page before."""
        asked = select(*_SHOWN).order_by(events.c.number.desc()).limit(limit)
        if state is not None:
            asked = asked.where(events.c.state == state)
        if before is not None:
            asked = asked.where(events.c.number < before)
        return tuple(_record(row) for row in await tx.execute(asked))

    @reads
    async def counts(self, tx: Transaction) -> OutboxCounts:
        """Return how many events there are in each state."""
        asked = select(events.c.state, func.count().label("n"), func.min(events.c.created_at).label("oldest"))
        found = {row.state: row for row in await tx.execute(asked.group_by(events.c.state))}
        count = {state: row.n for state, row in found.items()}
        oldest = found["waiting"].oldest if "waiting" in found else None
        return OutboxCounts(count.get("waiting", 0), count.get("dead", 0), count.get("delivered", 0), oldest)

    @writes
    async def retry(self, tx: Transaction, message_id: str, *, actor: Actor) -> EventRecord | None:
        """Make an event that is not delivered due now, a dead one with all attempts anew; None if there is none.

        One that is delivered stays so, and is returned as it is.
        """
        mine = events.c.message_id == message_id
        found = (await tx.execute(select(*_SHOWN).where(mine).with_for_update())).one_or_none()
        if found is None or found.state == "delivered":
            return found and _record(found)
        fresh = {"attempts": 0} if found.state == "dead" else {}
        changed = update(events).where(mine).values(state="waiting", next_at=datetime.now(UTC), **fresh)
        row = (await tx.execute(changed.returning(*_SHOWN))).one()
        detail: audit.Detail = {"attempts": found.attempts}
        await audit.note(tx, actor=actor, action="retry", kind="webhook", name=message_id, detail=detail)
        return _record(row)

    @writes
    async def expire(self, tx: Transaction, before: datetime) -> int:
        """Delete delivered and dead events that were made before a moment; return how many."""
        old = delete(events).where(events.c.state != "waiting", events.c.created_at < before)
        return (await tx.execute(old)).rowcount


async def _settle(tx: Transaction, event: ClaimedEvent, values: dict[str, Any]) -> None:
    """Write how an attempt ended, unless its lease ran out and another attempt was begun."""
    mine = (events.c.message_id == event.message_id, events.c.leased_by == event.owner)
    same = update(events).where(*mine, events.c.attempts == event.attempts)
    await tx.execute(same.values(leased_by=None, leased_until=None, **values))


def _record(row: Row[Any]) -> EventRecord:
    return EventRecord(**row._mapping)  # noqa: SLF001 - the documented name of a row's mapping
