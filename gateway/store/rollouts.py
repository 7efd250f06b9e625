"""What runs beside a policy's active version, for one bundle: a shadow, and a candidate for a share of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from sqlalchemy import and_, delete, insert, select

from gateway.store import audit
from gateway.store.audit import Actor
from gateway.store.database import Database, Repository, Transaction, reads, writes
from gateway.store.preconditions import UNCONDITIONAL, Precondition, list_etag
from gateway.store.schema import activations, rollouts


@dataclass(frozen=True, slots=True)
class StoredRollout:
    """What runs beside a policy's active version.

    Attributes:
        shadow: ``name`` or ``name@version`` of a policy that is evaluated and never decides, or None.
        candidate: number of the policy's version that decides about a share of the images, or None.
        share: of the images, 0..1.
        revision: of the store, at which it was written.
    """

    shadow: str | None
    candidate: int | None
    share: float
    revision: int = 0


class Rollouts(Repository):
    """Rollouts as one bundle sees them; an activation of the policy ends its rollout.

    Args:
        database: where they are kept.
        bundle_id: of the bundle.
    """

    def __init__(self, database: Database, bundle_id: str) -> None:
        super().__init__(database)
        self._bundle_id = bundle_id

    @reads
    async def read(self, tx: Transaction, name: str) -> StoredRollout | None:
        """Return a policy's rollout, None if there is none."""
        return (await in_force(tx, self._bundle_id)).get(name)

    @writes
    async def put(
        self,
        tx: Transaction,
        name: str,
        wanted: StoredRollout,
        *,
        actor: Actor,
        precondition: Precondition = UNCONDITIONAL,
    ) -> StoredRollout | None:
        """Keep a policy's rollout in the place of the one before; None if the policy is not active for this bundle.

        Raises:
            StaleWrite: the precondition does not hold.
        """
        await audit.lock_revision(tx)
        await self._check(tx, name, precondition)
        mine = (activations.c.kind == "policy", activations.c.name == name, activations.c.bundle_id == self._bundle_id)
        if (await tx.execute(select(activations.c.version).where(*mine))).one_or_none() is None:
            return None
        detail = {"shadow": wanted.shadow, "candidate": wanted.candidate, "share": wanted.share}
        detail |= {"bundle_id": self._bundle_id}
        revision = await audit.record(tx, actor=actor, action="put", kind="rollout", name=name, detail=detail)
        made = replace(wanted, revision=revision)
        await tx.execute(delete(rollouts).where(rollouts.c.name == name, rollouts.c.bundle_id == self._bundle_id))
        await tx.execute(insert(rollouts).values(name=name, bundle_id=self._bundle_id, **asdict(made)))
        return made

    @writes
    async def remove(
        self, tx: Transaction, name: str, *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> bool:
        """Delete a policy's rollout; False if there is none.

        Raises:
            StaleWrite: the precondition does not hold.
        """
        await audit.lock_revision(tx)
        await self._check(tx, name, precondition)
        return await end(tx, "policy", name, self._bundle_id, actor=actor)

    async def _check(self, tx: Transaction, name: str, precondition: Precondition) -> None:
        there = (await in_force(tx, self._bundle_id)).get(name)
        precondition.check(*([list_etag(there.revision)] if there else []))


async def in_force(tx: Transaction, bundle_id: str) -> Mapping[str, StoredRollout]:
    """Return the rollouts of a bundle by the name of their policy."""
    columns = (rollouts.c.shadow, rollouts.c.candidate, rollouts.c.share, rollouts.c.revision)
    rows = await tx.execute(select(rollouts.c.name, *columns).where(rollouts.c.bundle_id == bundle_id))
    return {row.name: StoredRollout(row.shadow, row.candidate, row.share, row.revision) for row in rows}


async def end(tx: Transaction, kind: str, name: str, bundle_id: str | None, *, actor: Actor) -> bool:
    """Delete the rollout of a policy, for a bundle or for all; return whether there was one.

    Args:
        tx: that holds the revision's lock.
        kind: of the resource: a classifier has none.
        name: of the policy.
        bundle_id: None for all.
        actor: for the audit.
    """
    mine = and_(rollouts.c.name == name, *([] if bundle_id is None else [rollouts.c.bundle_id == bundle_id]))
    if kind != "policy" or not (await tx.execute(delete(rollouts).where(mine))).rowcount:
        return False
    await audit.record(tx, actor=actor, action="delete", kind="rollout", name=name, detail={"bundle_id": bundle_id})
    return True
