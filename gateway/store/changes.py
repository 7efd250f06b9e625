"""What every change of a classifier, policy or list leaves behind: a higher revision and a row of the audit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update

from gateway.store.database import Transaction
from gateway.store.records import AuditRow
from gateway.store.schema import audit, revisions


async def revision(tx: Transaction) -> int:
    """Return the revision."""
    return int((await tx.execute(select(revisions.c.value))).scalar_one())


async def lists_revision(tx: Transaction) -> int:
    """Return the revision at the latest change of a list."""
    return int((await tx.execute(select(revisions.c.lists))).scalar_one())


async def queue_up(tx: Transaction) -> None:
    """Wait until no other transaction changes anything that the revision counts, and keep others waiting until the end.

    SQLite's writers have waited already.
    """
    await tx.execute(select(revisions.c.value).with_for_update())


async def record(
    tx: Transaction,
    *,
    actor: str,
    action: str,
    kind: str,
    name: str,
    version: int | None = None,
    detail: dict[str, Any] | None = None,
) -> int:
    """Count and note a change; return the new revision. Who locks rows of lists does so before."""
    new = revisions.c.value + 1
    bumped = update(revisions).values({"value": new, "lists": new} if kind == "list" else {"value": new})
    counted = await tx.execute(bumped.returning(revisions.c.value))
    row = {"actor": actor, "action": action, "kind": kind, "name": name, "version": version, "detail": detail or {}}
    await tx.execute(insert(audit).values(at=datetime.now(UTC), **row))
    return int(counted.scalar_one())


async def latest(tx: Transaction, limit: int) -> tuple[AuditRow, ...]:
    """Return the latest rows of the audit, newest first."""
    columns = [column for column in audit.c if column is not audit.c.id]
    rows = await tx.execute(select(*columns).order_by(audit.c.id.desc()).limit(limit))
    return tuple(AuditRow(**row) for row in rows.mappings())
