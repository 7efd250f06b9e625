"""Which gateways run on the database, and when each API key was last used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select, update

from gateway.store.access.tables import key_uses, replicas
from gateway.store.database import Repository, Transaction, reads, writes

STALE = timedelta(seconds=45)  # a gateway that has said nothing for so long runs no more
MOST_REPLICAS = 256  # shown


@dataclass(frozen=True, slots=True)
class Replica:
    """A gateway that runs.

    Attributes:
        id: made at its start.
        started_at: when.
        seen_at: when it last said so.
        ready: whether it could answer requests then.
        degraded: what it answers without, a sentence each.
    """

    id: str
    started_at: datetime
    seen_at: datetime
    ready: bool
    degraded: list[str]


class Activity(Repository):
    """What the gateways tell of themselves, each every few seconds."""

    @writes
    async def report(self, tx: Transaction, replica: Replica, used: Mapping[str, datetime]) -> None:
        """Say that a gateway runs, and when keys, by name, were last used there; forget gateways that say nothing."""
        row = {"seen_at": replica.seen_at, "ready": replica.ready, "degraded": replica.degraded}
        known = await tx.execute(update(replicas).where(replicas.c.id == replica.id).values(**row))
        if not known.rowcount:
            await tx.execute(insert(replicas).values(id=replica.id, started_at=replica.started_at, **row))
        await tx.execute(delete(replicas).where(replicas.c.seen_at < datetime.now(UTC) - STALE))
        for name, at in sorted(used.items()):  # in one order, so that no two gateways wait for each other
            await tx.execute(tx.insert_new(key_uses).values(name=name, at=at))
            await tx.execute(update(key_uses).where(key_uses.c.name == name, key_uses.c.at < at).values(at=at))

    @writes
    async def leave(self, tx: Transaction, replica_id: str) -> None:
        """Say that a gateway ends."""
        await tx.execute(delete(replicas).where(replicas.c.id == replica_id))

    @reads
    async def running(self, tx: Transaction) -> tuple[Replica, ...]:
        """Return the gateways that run, the oldest first."""
        fresh = select(replicas).where(replicas.c.seen_at >= datetime.now(UTC) - STALE)
        rows = await tx.execute(fresh.order_by(replicas.c.started_at, replicas.c.id).limit(MOST_REPLICAS))
        return tuple(Replica(**row) for row in rows.mappings())

    @reads
    async def last_uses(self, tx: Transaction) -> dict[str, datetime]:
        """Return when each key was last used, by name."""
        return {row.name: row.at for row in await tx.execute(select(key_uses))}
