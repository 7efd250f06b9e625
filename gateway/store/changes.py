"""What every change leaves behind: a row of the audit and, of a classifier, policy or list, a higher revision."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update

from gateway.store.audit_records import Actor, AuditFilter, AuditRow
from gateway.store.database import Transaction
from gateway.store.schema import audit, revisions


async def revision(tx: Transaction) -> int:
    """Return the revision."""
    return int((await tx.execute(select(revisions.c.value))).scalar_one())


async def lists_revision(tx: Transaction) -> int:
    """Return the revision at the latest change of a list."""
    return int((await tx.execute(select(revisions.c.lists))).scalar_one())


async def check_writable(tx: Transaction) -> None:
    """Write a page and leave everything as it was; a row updated to what it is would not be written."""
    for step in (1, -1):
        await tx.execute(update(revisions).values(value=revisions.c.value + step))


async def queue_up(tx: Transaction) -> None:
    """Wait until no other transaction changes anything that the revision counts, and keep others waiting until the end.

    SQLite's writers have waited already.
    """
    await tx.execute(select(revisions.c.value).with_for_update())


async def record(
    tx: Transaction,
    *,
    actor: Actor,
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
    await note(tx, actor=actor, action=action, kind=kind, name=name, version=version, detail=detail)
    return int(counted.scalar_one())


async def note(
    tx: Transaction,
    *,
    actor: Actor,
    action: str,
    kind: str,
    name: str,
    version: int | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Add a row to the audit, in the transaction of the change: neither is there without the other."""
    row = {"actor": actor.name, "action": action, "kind": kind, "name": name, "version": version}
    more = {"at": datetime.now(UTC), "request_id": actor.request_id, "detail": detail or {}}
    await tx.execute(insert(audit).values(**row, **more))


async def latest(tx: Transaction, limit: int, wanted: AuditFilter, before: int | None) -> tuple[AuditRow, ...]:
    """As ``Store.audit``."""
    columns = [column for column in audit.c if column is not audit.c.id]
    selected = select(audit.c.id.label("number"), *columns)
    equal = {name: getattr(wanted, name) for name in ("actor", "action", "kind", "name")}
    conditions = [audit.c[name] == value for name, value in equal.items() if value is not None]
    if wanted.since is not None:
        conditions.append(audit.c.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(audit.c.at < wanted.until)
    if before is not None:
        conditions.append(audit.c.id < before)
    rows = await tx.execute(selected.where(*conditions).order_by(audit.c.id.desc()).limit(limit))
    return tuple(AuditRow(**row) for row in rows.mappings())
