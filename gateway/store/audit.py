"""The audit: each change adds a row, in its own transaction.

A change of a classifier, policy or list also raises the revision, by which gateways notice it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update

from gateway.store.database import Repository, Transaction, reads
from gateway.store.schema import audit, revisions

Detail = dict[str, Any]
"""Counts and the like, JSON values."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something: the name of an API key, or of a part of the gateway, and the request it came with."""

    name: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who changed what: one row a change of a classifier, policy or list, and of what is known about decisions.

    Each view of a still that is kept for review is a row too.

    Attributes:
        at: UTC.
        actor: name of the API key; ``anonymous`` where none was used, ``seed`` for what comes with the program.
        request_id: of the request, or None.
        action: save, activate, delete, put, add_entries, remove_entries, feedback, forget, view.
        kind: classifier, policy, rollout (``name`` is the policy's), list, decision and review_image (``name`` is the
            decision's id) or external_id (``name`` is its SHA-256, as it is to be forgotten).
        name: of the thing.
        version: its number, or None.
        detail: counts and the like, JSON values.
        number: grows from row to row.
    """

    at: datetime
    actor: str
    action: str
    kind: str
    name: str
    version: int | None
    request_id: str | None
    detail: Detail = field(default_factory=dict)
    number: int = 0


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which rows of the audit to read; None means any. ``since`` is inclusive, ``until`` exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    kind: str | None = None
    name: str | None = None


ANY_CHANGE = AuditFilter()


class Audit(Repository):
    """Reads the rows; nothing changes or deletes any."""

    @reads
    async def latest(
        self, tx: Transaction, limit: int, wanted: AuditFilter = ANY_CHANGE, *, before: int | None = None
    ) -> tuple[AuditRow, ...]:
        """Return the latest rows, newest first; those with numbers under ``before``."""
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


async def lock_revision(tx: Transaction) -> None:
    """Lock the revision until the transaction ends, so that changes that depend on one another come one by one.

    SQLite's writers come one by one in any case.
    """
    await tx.execute(select(revisions.c.value).with_for_update())


async def record(
    tx: Transaction, *, actor: Actor, action: str, kind: str, name: str, detail: Detail, version: int | None = None
) -> int:
    """Add a row to the audit and count the change; return the new revision.

    A caller that also locks rows of lists locks those first.
    """
    new = revisions.c.value + 1
    bumped = update(revisions).values({"value": new, "lists": new} if kind == "list" else {"value": new})
    counted = await tx.execute(bumped.returning(revisions.c.value))
    await note(tx, actor=actor, action=action, kind=kind, name=name, version=version, detail=detail)
    return int(counted.scalar_one())


async def note(
    tx: Transaction, *, actor: Actor, action: str, kind: str, name: str, detail: Detail, version: int | None = None
) -> None:
    """Add a row to the audit."""
    row = {"action": action, "kind": kind, "name": name, "version": version, "detail": detail}
    who = {"at": datetime.now(UTC), "actor": actor.name, "request_id": actor.request_id}
    await tx.execute(insert(audit).values(**row, **who))
