"""Leases: who does the work that is done once for all gateways on a database, and until when."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy import or_, update

from gateway.store.database import Database, Repository, Transaction, writes
from gateway.store.schema import leases


class Leases(Repository):
    """The leases as one gateway takes them."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._owner = uuid.uuid4().hex

    @writes
    async def take(self, tx: Transaction, work: str, seconds: float) -> bool:
        """Take a lease, or extend it; False while another gateway has it.

        Args:
            tx: the transaction.
            work: what is leased, by name.
            seconds: how long, by this machine's clock; 0 gives it up.
        """
        now = datetime.now(UTC)
        await tx.execute(tx.insert_new(leases).values(work=work, owner=self._owner, held_until=now))
        free = or_(leases.c.owner == self._owner, leases.c.held_until <= now)
        mine = update(leases).where(leases.c.work == work, free)
        held_until = now + timedelta(seconds=seconds)
        return (await tx.execute(mine.values(owner=self._owner, held_until=held_until))).rowcount == 1
