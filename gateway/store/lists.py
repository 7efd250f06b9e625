"""Lists of hashes of known images."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import delete, select, union_all, update

from gateway.store import audit, list_import
from gateway.store.audit import Actor
from gateway.store.database import Repository, Transaction, reads, writes
from gateway.store.list_entries import (
    Chunk,
    chunked,
    delete_chunk,
    list_state,
    locked,
    owners,
    take_out,
)
from gateway.store.preconditions import UNCONDITIONAL, Precondition, list_etag
from gateway.store.schema import list_changes, list_entries, list_parts, lists, revisions

ListAction = Literal["block", "allow"]
ListKind = Literal["sha256", "pdq"]


@dataclass(frozen=True, slots=True)
class HashList:
    """A named list of hashes. ``max_distance`` is of bits, for PDQ only.

    ``withhold``: what it matches is never stored or shown, such as material that the law forbids to keep.
    ``entries`` and ``revision`` are the store's: how many hashes it holds, and the store's revision when the list last
    changed, by which a reader knows whether to read its entries again.
    """

    name: str
    action: ListAction
    kind: ListKind
    max_distance: int
    entries: int = 0
    revision: int = 0
    withhold: bool = False


@dataclass(frozen=True, slots=True)
class SavedList:
    """A list as it was saved, whatever becomes of it next, and whether it was created then."""

    made: HashList
    created: bool


@dataclass(frozen=True, slots=True)
class ListChanges:
    """What brings a reader of a list up to ``revision``: hashes to take out of what was read, and to put into it."""

    revision: int
    added: tuple[str, ...]
    removed: tuple[str, ...]


class Lists(Repository):
    """Lists and their entries."""

    @writes
    async def put(
        self, tx: Transaction, made: HashList, *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> SavedList:
        """Create or change a list. ``made.entries`` and ``made.revision`` are not read.

        Raises:
            StaleWrite: the precondition does not hold.
            ValueError: the list exists and is of the other kind.
        """
        row = {name: getattr(made, name) for name in ("action", "kind", "max_distance", "withhold")}
        new = tx.insert_new(lists).values(name=made.name, entries=0, revision=0, **row).returning(lists.c.id)
        created = (await tx.execute(new)).scalar_one_or_none()
        found = await locked(tx, made.name)
        if found is None:
            raise LookupError(made.name)
        precondition.check(*([list_etag(found.revision)] if created is None else []))
        if found.kind != made.kind:
            raise ValueError(f"the list {made.name} is of kind {found.kind}, which cannot change")
        if created is None and all(getattr(found, name) == value for name, value in row.items()):
            return SavedList(replace(made, entries=found.entries, revision=found.revision), created=False)
        revision = await audit.record(tx, actor=actor, action="put", kind="list", name=made.name, detail=row)
        begun = {"logged_since": revision} if created is not None else {}
        await tx.execute(update(lists).where(lists.c.id == found.id).values(revision=revision, **begun, **row))
        return SavedList(replace(made, entries=found.entries, revision=revision), created is not None)

    @reads
    async def every(self, tx: Transaction) -> tuple[HashList, ...]:
        """Return all lists with their numbers of entries, by name."""
        shown = [lists.c[name] for name in HashList.__dataclass_fields__]
        return tuple(HashList(**row) for row in (await tx.execute(select(*shown).order_by(lists.c.name))).mappings())

    async def add(
        self, name: str, hashes: Sequence[str], *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> int | None:
        """Add hashes, in hex, all or none; return how many were new, None if there is no such list.

        Many are written in steps, between which others write; they belong to the list from the last step on.

        Raises:
            StaleWrite: the precondition does not hold, before the first step or at the last.
            ValueError: one of them is not hex.
        """
        chunks = await asyncio.to_thread(chunked, hashes)
        return await list_import.add(self._database, name, chunks, actor=actor, precondition=precondition)

    @reads
    async def read(self, tx: Transaction, name: str, *, after: str | None, limit: int) -> tuple[str, ...]:
        """Return hashes of a list, lower-case hex in ascending order, those behind ``after``."""
        seen = await list_state(tx, name)
        if seen is None:
            return ()
        behind = [] if after is None else [list_entries.c.hash > bytes.fromhex(after)]
        each = [select(list_entries.c.hash).where(list_entries.c.list_id == owner, *behind) for owner in seen.owners]
        merged = union_all(*each).order_by("hash").limit(limit)
        return tuple(entry.hex() for entry in (await tx.execute(merged)).scalars())

    @reads
    async def changes_since(self, tx: Transaction, name: str, *, since: int) -> ListChanges | None:
        """Return what changed in a list's entries since a revision of it; None: not known any more, read it whole."""
        row = (await tx.execute(select(lists).where(lists.c.name == name))).one_or_none()
        if row is None or since < row.logged_since:
            return None
        behind = (list_changes.c.list_id == row.id, list_changes.c.revision > since)
        wanted = select(list_changes.c.hash, list_changes.c.present).where(*behind).order_by(list_changes.c.revision)
        last = {change.hash: change.present for change in await tx.execute(wanted)}
        added = tuple(entry.hex() for entry, there in last.items() if there)
        return ListChanges(row.revision, added, tuple(entry.hex() for entry, there in last.items() if not there))

    async def remove(
        self, name: str, hashes: Sequence[str], *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> int:
        """Remove hashes, in hex; return how many were there.

        Raises:
            StaleWrite: the precondition does not hold.
            ValueError: one of them is not hex.
        """
        chunks = await asyncio.to_thread(chunked, hashes)
        return await self._remove(name, chunks, actor=actor, precondition=precondition)

    @writes
    async def drop(
        self, tx: Transaction, name: str, *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> bool:
        """Delete a list with its entries; False if there is none.

        A part that is being imported is left to whoever imports it.

        Raises:
            StaleWrite: the precondition does not hold.
        """
        found = await locked(tx, name, precondition)
        if found is None:
            return False
        for owner in await owners(tx, found.id):
            first: bytes | None = b""
            while first is not None:
                tx.renew()
                first = await delete_chunk(tx, owner, first)
        await tx.execute(delete(list_parts).where(list_parts.c.list_id == found.id, list_parts.c.revision.is_not(None)))
        await tx.execute(delete(list_changes).where(list_changes.c.list_id == found.id))
        await tx.execute(delete(lists).where(lists.c.id == found.id))
        await audit.record(tx, actor=actor, action="delete", kind="list", name=name, detail={"entries": found.entries})
        return True

    @reads
    async def revision(self, tx: Transaction) -> int:
        """Return a number that grows with every change of a list or its entries: cheap, polled."""
        return int((await tx.execute(select(revisions.c.lists))).scalar_one())

    @writes
    async def _remove(
        self, tx: Transaction, name: str, chunks: Sequence[Chunk], *, actor: Actor, precondition: Precondition
    ) -> int:
        found = await locked(tx, name, precondition)
        if found is None:
            return 0
        return await take_out(tx, found, chunks, actor=actor)
