"""Classifiers and policies: numbered versions that never change, one of them in force for each bundle.

All writers take one lock first, so numbers have no gaps and no doubles, and a classifier cannot be deleted while a
policy that pins it is saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, insert, or_, select, update

from gateway.store import audit, rollouts
from gateway.store.audit import Actor
from gateway.store.database import Database, Repository, Transaction, reads, writes
from gateway.store.label_vectors import LabelVectors
from gateway.store.preconditions import UNCONDITIONAL, Precondition, content_digest, version_etag
from gateway.store.rollouts import StoredRollout
from gateway.store.schema import activations, resources, revisions, versions

MAX_NUMBER = 2**31 - 1
LATEST = resources.c.latest

Kind = Literal["classifier", "policy"]


@dataclass(eq=False)
class InUse(Exception):
    """A classifier that an active version of a policy uses cannot be deleted; ``users`` names the policies."""

    users: list[str]


@dataclass(eq=False)
class PinMissing(Exception):
    """A policy pins classifier versions that are not there (any more); ``missing`` names them, as ``name@version``."""

    missing: list[str]


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version of a classifier or policy.

    Attributes:
        kind: classifier or policy.
        name: of the resource.
        number: 1, 2, … without gaps. A number is never given out again: a resource that is deleted and made anew
            goes on behind its old numbers, so that ``name@3`` in a decision or a pin never means something else.
        body: what was saved, as JSON values.
        pins: of a policy: classifier name → version number; empty for a classifier.
        bundle_id: of a policy: the bundle it was saved for; None for a classifier.
        created_at: UTC.
        etag: strong, quoted, unique to this version's content and number.
        active: whether this is the version in force for the bundle being served.
        foreign: whether this is the version that was activated last for any other bundle, where none was for this one:
            in force too if it is a classifier, unless that is a head, which no other model's vectors fit; not if it is
            a policy.
    """

    kind: Kind
    name: str
    number: int
    body: dict[str, Any]
    pins: dict[str, int]
    bundle_id: str | None
    created_at: datetime
    etag: str
    active: bool
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """Outcome of a save: the version that now stands for the body, and whether it is new."""

    version: Version
    new: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything in force at one moment: active versions, what active policies pin, and foreign versions of policies.

    ``revision`` grows with every change of a classifier, policy or list.
    """

    revision: int
    versions: tuple[Version, ...]
    rollouts: Mapping[str, StoredRollout]


class Versions(Repository):
    """Versions as one bundle sees them: what is activated here is in force for that bundle alone.

    Args:
        database: where they are kept.
        bundle_id: of the bundle.
        text_checksum: of its text tower and tokenizer, by which label vectors are kept with the classifiers.
    """

    def __init__(self, database: Database, bundle_id: str, text_checksum: str) -> None:
        super().__init__(database)
        self.bundle_id = bundle_id
        self.label_vectors = LabelVectors(database, text_checksum)
        of_it = and_(activations.c.kind == resources.c.kind, activations.c.name == resources.c.name)
        any_ = select(activations.c.version).where(of_it).correlate(resources)
        newest_first = (activations.c.revision.desc(), activations.c.version.desc())
        self._own = any_.where(activations.c.bundle_id == bundle_id).scalar_subquery()
        self._activated = func.coalesce(self._own, any_.order_by(*newest_first).limit(1).scalar_subquery())
        self._shown = func.coalesce(self._activated, resources.c.latest)

    @writes
    async def save(
        self,
        tx: Transaction,
        kind: Kind,
        name: str,
        body: dict[str, Any],
        *,
        pins: dict[str, int],
        activate: bool,
        actor: Actor,
        precondition: Precondition = UNCONDITIONAL,
        vectors: bytes | None = None,
    ) -> Saved:
        """Keep a new version, or find that the latest one has the same body, pins and bundle (then nothing is new).

        A version with ``activate`` becomes the active one, another one is a draft, also the first of its name; an
        unchanged body with ``activate`` activates the latest. Concurrent saves each get a number of their own; none is
        lost. A policy is saved for this bundle; the label vectors of a classifier are kept with a version that is new.

        Raises:
            StaleWrite: the precondition does not hold of the latest version.
            PinMissing: a classifier version in ``pins`` is not there.
        """
        await audit.lock_revision(tx)
        before = await self._version(tx, kind, name, LATEST)
        _check(precondition, before)
        await _require(tx, pins)
        bundle_id = self.bundle_id if kind == "policy" else None
        digest = content_digest(kind, name, body, pins, bundle_id)
        if before is not None and before.etag == version_etag(before.number, digest):
            return Saved(await self._put_in_force(tx, before, actor=actor) if activate else before, new=False)

        await tx.execute(tx.insert_new(resources).values(kind=kind, name=name, latest=0))
        counted = update(resources).where(_is(resources.c, kind, name)).values(latest=LATEST + 1)
        number = int((await tx.execute(counted.returning(LATEST))).scalar_one())
        content = {"body": body, "pins": pins, "bundle_id": bundle_id, "created_at": datetime.now(UTC)}
        await tx.execute(insert(versions).values(kind=kind, name=name, number=number, digest=digest, **content))
        if vectors is not None:
            await self.label_vectors.add(tx, name, number, vectors)
        detail = {"active": activate, "bundle_id": self.bundle_id}
        revision = await audit.record(
            tx, actor=actor, action="save", kind=kind, name=name, version=number, detail=detail
        )
        if activate:
            await rollouts.end(tx, kind, name, self.bundle_id, actor=actor)
            await self._activate(tx, kind, name, number, revision)
        return Saved(await self._there(tx, kind, name, number), new=True)

    @writes
    async def activate(
        self,
        tx: Transaction,
        kind: Kind,
        name: str,
        number: int,
        *,
        actor: Actor,
        precondition: Precondition = UNCONDITIONAL,
    ) -> Version | None:
        """Make a version the active one of this bundle, and end its rollout; None if there is no such version.

        Raises:
            StaleWrite: the precondition holds neither of the latest version nor of the one that ``read`` shows.
            PinMissing: a classifier version that it pins was deleted.
        """
        await audit.lock_revision(tx)
        version = await self._version(tx, kind, name, number)
        if version is None:
            return None
        _check(precondition, await self._version(tx, kind, name, LATEST), await self._version(tx, kind, name, None))
        await _require(tx, version.pins)
        await rollouts.end(tx, kind, name, self.bundle_id, actor=actor)
        return await self._put_in_force(tx, version, actor=actor)

    @reads
    async def read(self, tx: Transaction, kind: Kind, name: str, number: int | None) -> Version | None:
        """Return a version, or for None the active one, else the foreign one, else the latest."""
        return await self._version(tx, kind, name, number)

    @reads
    async def history(self, tx: Transaction, kind: Kind, name: str) -> tuple[Version, ...]:
        """Return all versions, newest first."""
        return await self._all(tx, self._selected(_is(versions.c, kind, name)).order_by(versions.c.number.desc()))

    @reads
    async def shown(self, tx: Transaction, kind: Kind) -> tuple[Version, ...]:
        """Return the active (or else foreign, or else latest) version of every resource, by name."""
        wanted = self._selected(versions.c.kind == kind, versions.c.number == self._shown)
        return await self._all(tx, wanted.order_by(versions.c.name))

    @writes
    async def remove(
        self, tx: Transaction, kind: Kind, name: str, *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> bool:
        """Delete a resource with all versions, for all bundles; False if there is none.

        Raises:
            InUse: a policy pins the classifier in a version that is active for any bundle.
            StaleWrite: the precondition does not hold of the latest version.
        """
        await audit.lock_revision(tx)
        latest = await self._version(tx, kind, name, LATEST)
        if latest is None:
            return False
        if kind == "classifier" and (users := await self._users(tx, name)):
            raise InUse(users)
        _check(precondition, latest)
        await tx.execute(delete(versions).where(_is(versions.c, kind, name)))
        await rollouts.end(tx, kind, name, None, actor=actor)
        await audit.record(tx, actor=actor, action="delete", kind=kind, name=name, detail={})
        return True

    @reads
    async def was_deleted(self, tx: Transaction, kind: Kind, name: str) -> bool:
        """Return whether a resource of this name was there, was deleted, and was not made anew."""
        row = (await tx.execute(select(resources.c.latest).where(_is(resources.c, kind, name)))).one_or_none()
        return row is not None and await self._version(tx, kind, name, None) is None

    @reads
    async def revision(self, tx: Transaction) -> int:
        """Return the current revision: cheap, polled."""
        return int((await tx.execute(select(revisions.c.value))).scalar_one())

    @reads
    async def snapshot(self, tx: Transaction) -> Snapshot:
        """Return everything in force, consistently."""
        activated = await self._all(tx, self._selected(versions.c.number == self._activated))
        have = {(version.name, version.number) for version in activated if version.kind == "classifier"}
        pinned = {pin for policy in activated if policy.active for pin in policy.pins.items()}
        old = await self._all(tx, self._selected(_classifiers(pinned - have))) if pinned - have else ()
        found = sorted(activated + old, key=lambda version: (version.kind, version.name, version.number))
        revision = (await tx.execute(select(revisions.c.value))).scalar_one()
        return Snapshot(int(revision), tuple(found), await rollouts.in_force(tx, self.bundle_id))

    async def _users(self, tx: Transaction, classifier: str) -> list[str]:
        """Return the policies that pin a classifier in an active version; another bundle's with its bundle."""
        active = and_(_is(activations.c, "policy", versions.c.name), activations.c.version == versions.c.number)
        wanted = (
            select(versions.c.name, versions.c.pins, activations.c.bundle_id)
            .join(activations, active)
            .where(versions.c.kind == "policy")
        )
        users = [(row.name, row.bundle_id) for row in await tx.execute(wanted) if classifier in row.pins]
        ours = self.bundle_id
        return sorted(name if bundle_id == ours else f"{name} (bundle {bundle_id})" for name, bundle_id in users)

    async def _put_in_force(self, tx: Transaction, version: Version, *, actor: Actor) -> Version:
        if version.active and not version.foreign:
            return version
        kind, name, number = version.kind, version.name, version.number
        detail = {"bundle_id": self.bundle_id}
        revision = await audit.record(
            tx, actor=actor, action="activate", kind=kind, name=name, version=number, detail=detail
        )
        await self._activate(tx, kind, name, number, revision)
        return await self._there(tx, kind, name, number)

    async def _activate(self, tx: Transaction, kind: Kind, name: str, number: int, revision: int) -> None:
        mine = and_(_is(activations.c, kind, name), activations.c.bundle_id == self.bundle_id)
        await tx.execute(delete(activations).where(mine))
        row = {"kind": kind, "name": name, "bundle_id": self.bundle_id, "version": number, "revision": revision}
        await tx.execute(insert(activations).values(row))

    async def _there(self, tx: Transaction, kind: Kind, name: str, number: int) -> Version:
        found = await self._version(tx, kind, name, number)
        assert found is not None  # noqa: S101 - written or read in this transaction, behind the lock
        return found

    async def _version(
        self, tx: Transaction, kind: Kind, name: str, number: int | ColumnElement[int] | None
    ) -> Version | None:
        if isinstance(number, int) and not 0 < number <= MAX_NUMBER:
            return None
        wanted = self._shown if number is None else number
        found = await self._all(tx, self._selected(_is(versions.c, kind, name), versions.c.number == wanted))
        return found[0] if found else None

    def _selected(self, *conditions: ColumnElement[bool]) -> Select[Any]:
        same = and_(resources.c.kind == versions.c.kind, resources.c.name == versions.c.name)
        columns = (self._own.label("own"), self._activated.label("activated"))
        return select(versions, *columns).join(resources, same).where(*conditions)

    async def _all(self, tx: Transaction, wanted: Select[Any]) -> tuple[Version, ...]:
        return tuple(_version_of(row) for row in await tx.execute(wanted))


def _check(precondition: Precondition, latest: Version | None, shown: Version | None = None) -> None:
    """Let a change pass whose precondition names the latest version, or another one that it may name.

    Raises:
        StaleWrite: it names neither.
    """
    etags = [version.etag for version in (latest, shown) if version]
    precondition.check(*etags, latest=latest.number if latest else None)


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


def _is(columns: Any, kind: Kind, name: str | ColumnElement[str]) -> ColumnElement[bool]:  # noqa: ANN401 - of any table
    return and_(columns.kind == kind, columns.name == name)


def _classifiers(wanted: Iterable[tuple[str, int]]) -> ColumnElement[bool]:
    pairs = [and_(versions.c.name == name, versions.c.number == number) for name, number in wanted]
    return and_(versions.c.kind == "classifier", or_(*pairs))


def _version_of(row: Row[Any]) -> Version:
    foreign = row.own is None and row.number == row.activated
    return Version(
        kind=row.kind,
        name=row.name,
        number=row.number,
        body=row.body,
        pins=row.pins,
        bundle_id=row.bundle_id,
        created_at=row.created_at,
        etag=version_etag(row.number, row.digest),
        active=row.number == row.own or (foreign and row.kind == "classifier"),
        foreign=foreign,
    )
