"""Classifiers and policies: numbered versions that never change, one of them in force.

Each function works within the transaction it is given. All that write queue up first, so numbers have no gaps and no
doubles, and a classifier cannot go while a policy that pins it comes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, insert, or_, select, update

from gateway.store import changes
from gateway.store.audit_records import Actor
from gateway.store.database import Transaction
from gateway.store.preconditions import Precondition
from gateway.store.records import InUse, Kind, PinMissing, Saved, Snapshot, Version
from gateway.store.schema import resources, versions

MAX_NUMBER = 2**31 - 1
DIGEST_CHARS = 32
IN_FORCE = func.coalesce(resources.c.active, resources.c.latest)  # the latest where there are only drafts


async def save(
    tx: Transaction,
    kind: Kind,
    name: str,
    body: dict[str, Any],
    *,
    pins: dict[str, int],
    bundle_id: str | None,
    activate: bool,
    actor: Actor,
    precondition: Precondition,
) -> Saved:
    """As ``Store.save``."""
    await changes.queue_up(tx)
    resource = (await tx.execute(select(resources).where(_is(resources.c, kind, name)))).one_or_none()
    before = await _latest(tx, kind, name)
    _check(precondition, before)
    await _require(tx, pins)
    digest = _digest(kind, name, body, pins, bundle_id)
    if before is not None and before.etag == _etag(before.number, digest):
        if activate and not before.active:
            before = await _put_in_force(tx, before, actor=actor)
        return Saved(before, new=False)

    number = resource.latest + 1 if resource else 1
    active = number if activate else resource.active if resource else None
    if resource is None:
        await tx.execute(insert(resources).values(kind=kind, name=name, active=active, latest=number))
    else:
        await tx.execute(update(resources).where(_is(resources.c, kind, name)).values(active=active, latest=number))
    created_at = datetime.now(UTC)
    made = Version(kind, name, number, body, pins, bundle_id, created_at, _etag(number, digest), active == number)
    content = {"body": body, "pins": pins, "bundle_id": bundle_id, "created_at": created_at, "digest": digest}
    await tx.execute(insert(versions).values(kind=kind, name=name, number=number, **content))
    detail = {"active": made.active}
    await changes.record(tx, actor=actor, action="save", kind=kind, name=name, version=number, detail=detail)
    return Saved(made, new=True)


async def activate(
    tx: Transaction, kind: Kind, name: str, number: int, *, actor: Actor, precondition: Precondition
) -> Version | None:
    """As ``Store.activate``."""
    await changes.queue_up(tx)
    version = await _version(tx, kind, name, number)
    if version is None:
        return None
    _check(precondition, await _latest(tx, kind, name), await _version(tx, kind, name, None))
    if version.active:
        return version
    await _require(tx, version.pins)
    return await _put_in_force(tx, version, actor=actor)


async def read(tx: Transaction, kind: Kind, name: str, number: int | None) -> Version | None:
    """As ``Store.read``."""
    return await _version(tx, kind, name, number)


async def history(tx: Transaction, kind: Kind, name: str) -> tuple[Version, ...]:
    """As ``Store.versions``."""
    return await _all(tx, _selected(_is(versions.c, kind, name)).order_by(versions.c.number.desc()))


async def shown(tx: Transaction, kind: Kind) -> tuple[Version, ...]:
    """As ``Store.names``."""
    wanted = _selected(versions.c.kind == kind, versions.c.number == IN_FORCE)
    return await _all(tx, wanted.order_by(versions.c.name))


async def remove(tx: Transaction, kind: Kind, name: str, *, actor: Actor, precondition: Precondition) -> bool:
    """As ``Store.delete``."""
    await changes.queue_up(tx)
    latest = await _latest(tx, kind, name)
    if latest is None:
        return False
    if kind == "classifier":
        users = [policy.name for policy in await shown(tx, "policy") if policy.active and name in policy.pins]
        if users:
            raise InUse(users)
    _check(precondition, latest)
    await tx.execute(delete(versions).where(_is(versions.c, kind, name)))
    await tx.execute(update(resources).where(_is(resources.c, kind, name)).values(active=None))
    await changes.record(tx, actor=actor, action="delete", kind=kind, name=name)
    return True


async def was_deleted(tx: Transaction, kind: Kind, name: str) -> bool:
    """As ``Store.was_deleted``: the row that keeps a resource's numbers is there, and no version."""
    row = (await tx.execute(select(resources.c.latest).where(_is(resources.c, kind, name)))).one_or_none()
    return row is not None and await _version(tx, kind, name, None) is None


async def snapshot(tx: Transaction) -> Snapshot:
    """As ``Store.snapshot``."""
    active = await _all(tx, _selected(versions.c.number == resources.c.active))
    have = {(version.kind, version.name, version.number) for version in active}
    pinned = {pin for policy in active if policy.kind == "policy" for pin in policy.pins.items()}
    more = {(name, number) for name, number in pinned if ("classifier", name, number) not in have}
    old = await _all(tx, _selected(_classifiers(more))) if more else ()
    found = sorted(active + old, key=lambda version: (version.kind, version.name, version.number))
    return Snapshot(revision=await changes.revision(tx), versions=tuple(found))


async def _require(tx: Transaction, pins: dict[str, int]) -> None:
    """Check that the classifier versions are there.

    Raises:
        PinMissing: some are not.
    """
    if not pins:
        return
    rows = await tx.execute(select(versions.c.name, versions.c.number).where(_classifiers(pins.items())))
    there = {(row.name, row.number) for row in rows}
    missing = [f"{name}@{number}" for name, number in sorted(pins.items()) if (name, number) not in there]
    if missing:
        raise PinMissing(missing)


async def _put_in_force(tx: Transaction, version: Version, *, actor: Actor) -> Version:
    kind, name, number = version.kind, version.name, version.number
    await tx.execute(update(resources).where(_is(resources.c, kind, name)).values(active=number))
    await changes.record(tx, actor=actor, action="activate", kind=kind, name=name, version=number)
    found = await _version(tx, kind, name, number)
    assert found is not None  # noqa: S101 - read in this transaction, behind the lock
    return found


def _check(precondition: Precondition, latest: Version | None, in_force: Version | None = None) -> None:
    """Let a change pass whose precondition names the latest version, or another one that it may name.

    Raises:
        StaleWrite: it names neither.
    """
    etags = [version.etag for version in (latest, in_force) if version]
    precondition.check(*etags, latest=latest.number if latest else None)


async def _latest(tx: Transaction, kind: Kind, name: str) -> Version | None:
    found = await _all(tx, _selected(_is(versions.c, kind, name), versions.c.number == resources.c.latest))
    return found[0] if found else None


async def _version(tx: Transaction, kind: Kind, name: str, number: int | None) -> Version | None:
    if number is not None and not 0 < number <= MAX_NUMBER:
        return None
    wanted = IN_FORCE if number is None else number
    found = await _all(tx, _selected(_is(versions.c, kind, name), versions.c.number == wanted))
    return found[0] if found else None


def _is(columns: Any, kind: Kind, name: str) -> ColumnElement[bool]:  # noqa: ANN401 - columns of either table
    return and_(columns.kind == kind, columns.name == name)


def _classifiers(wanted: Iterable[tuple[str, int]]) -> ColumnElement[bool]:
    pairs = [and_(versions.c.name == name, versions.c.number == number) for name, number in wanted]
    return and_(versions.c.kind == "classifier", or_(*pairs))


def _selected(*conditions: ColumnElement[bool]) -> Select[Any]:
    same = and_(resources.c.kind == versions.c.kind, resources.c.name == versions.c.name)
    return select(versions, resources.c.active).join(resources, same).where(*conditions)


async def _all(tx: Transaction, wanted: Select[Any]) -> tuple[Version, ...]:
    return tuple(_made(row) for row in await tx.execute(wanted))


def _made(row: Row[Any]) -> Version:
    return Version(
        kind=row.kind,
        name=row.name,
        number=row.number,
        body=row.body,
        pins=row.pins,
        bundle_id=row.bundle_id,
        created_at=row.created_at,
        etag=_etag(row.number, row.digest),
        active=row.number == row.active,
    )


def _digest(kind: Kind, name: str, body: dict[str, Any], pins: dict[str, int], bundle_id: str | None) -> str:
    """Return the same hex for the same content of a resource, in whatever order its fields were written."""
    content = json.dumps([kind, name, body, pins, bundle_id], sort_keys=True, allow_nan=False)
    return hashlib.sha256(content.encode()).hexdigest()[:DIGEST_CHARS]


def _etag(number: int, digest: str) -> str:
    return f'"{number}-{digest}"'
