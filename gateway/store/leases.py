"""Leases: who does the work that is done once for all gateways on a database, and until when."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy import or_, update

from gateway.store.database import Database, Transaction
from gateway.store.schema import leases


class Leases:
    """Those of one gateway.

    Args:
        database: that the gateways share.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owner = uuid.uuid4().hex

    async def take(self, work: str, seconds: float) -> bool:
        """Take some work, or take it for longer; False while another gateway has it.

        Args:
            work: its name.
            seconds: how long, by this machine's clock; 0 gives it up.

        Raises:
            StoreUnavailable: an outage.
        """

        async def taken(tx: Transaction) -> bool:
            now = datetime.now(UTC)
            await tx.execute(tx.insert_new(leases).values(work=work, owner=self._owner, held_until=now))
            free = or_(leases.c.owner == self._owner, leases.c.held_until <= now)
            changed = update(leases).where(leases.c.work == work, free)
            done = await tx.execute(changed.values(owner=self._owner, held_until=now + timedelta(seconds=seconds)))
            return done.rowcount == 1

        return await self._database.write(taken)
