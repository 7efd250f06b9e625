"""Legal holds: what was decided of an external id may not be deleted while one stands."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, insert, select

from gateway.store import audit
from gateway.store.audit import Actor
from gateway.store.database import Repository, Transaction, reads, writes
from gateway.store.review.tables import legal_holds
from gateway.store.schema import decisions


@dataclass
class LegallyHeld(Exception):
    """What is to be deleted is under a legal hold."""

    external_id: str


@dataclass(frozen=True, slots=True)
class LegalHold:
    """A hold on an external id: since when, why, and the name of the API key that placed it, or None."""

    external_id: str
    at: datetime
    reason: str
    key: str | None


class LegalHolds(Repository):
    """The holds in force."""

    @writes
    async def put(self, tx: Transaction, hold: LegalHold, *, actor: Actor) -> bool:
        """Place a hold, or change its reason; return whether it is new. The audit names its id by SHA-256."""
        removed = await tx.execute(delete(legal_holds).where(legal_holds.c.external_id == hold.external_id))
        await tx.execute(insert(legal_holds).values(**asdict(hold)))
        await _note(tx, "hold", hold.external_id, actor)
        return removed.rowcount == 0

    @reads
    async def every(self, tx: Transaction, limit: int, after: str = "") -> tuple[LegalHold, ...]:
        """Return holds by external id, those behind ``after``."""
        columns = [legal_holds.c[field.name] for field in fields(LegalHold)]
        asked = select(*columns).where(legal_holds.c.external_id > after).order_by(legal_holds.c.external_id)
        return tuple(LegalHold(**row) for row in (await tx.execute(asked.limit(limit))).mappings())

    @writes
    async def lift(self, tx: Transaction, external_id: str, *, actor: Actor) -> bool:
        """Lift a hold; False if there is none."""
        lifted = await tx.execute(delete(legal_holds).where(legal_holds.c.external_id == external_id))
        if lifted.rowcount:
            await _note(tx, "lift", external_id, actor)
        return lifted.rowcount == 1


def not_held() -> ColumnElement[bool]:
    """Return the condition that a decision is under no hold."""
    return ~exists().where(legal_holds.c.external_id == decisions.c.external_id)


async def check_not_held(tx: Transaction, external_id: str) -> None:
    """Check that an external id is under no hold.

    Raises:
        LegallyHeld: it is.
    """
    asked = select(legal_holds.c.external_id).where(legal_holds.c.external_id == external_id)
    if (await tx.execute(asked)).first():
        raise LegallyHeld(external_id)


async def _note(tx: Transaction, action: str, external_id: str, actor: Actor) -> None:
    name = hashlib.sha256(external_id.encode()).hexdigest()
    await audit.note(tx, actor=actor, action=action, kind="external_id", name=name, detail={})
