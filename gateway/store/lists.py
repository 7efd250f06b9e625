"""Lists of hashes: a million entries are added in chunks and read by key. Each function works in one transaction.

Whoever changes a list locks its row first and counts the change last: a long import holds up nobody else. Entries stand
under the list's own id, or, of a long import, under that of a part (see ``list_import``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Row, delete, select, union_all, update

from gateway.store import changes
from gateway.store.audit_records import Actor
from gateway.store.database import Transaction
from gateway.store.preconditions import Precondition, list_etag
from gateway.store.records import ListChanges, PictureList
from gateway.store.schema import list_changes, list_entries, list_parts, lists

CHUNK_ENTRIES = 10_000
LOGGED_CHANGES = 65_536
"""Of one list, at most; readers that fell behind more than that read the list whole."""

# In the drivers' own words: SQLAlchemy takes ten times as long to look at a million rows as the database to keep them.
ADD_POSTGRESQL = "INSERT INTO list_entries (list_id, hash) SELECT $1, unnest($2::bytea[]) ON CONFLICT DO NOTHING"
ADD_SQLITE = "INSERT INTO list_entries (list_id, hash) VALUES (?, ?) ON CONFLICT DO NOTHING"
REMOVE_POSTGRESQL = "DELETE FROM list_entries WHERE list_id = $1 AND hash = ANY($2::bytea[])"
REMOVE_SQLITE = "DELETE FROM list_entries WHERE list_id = ? AND hash = ?"
FIND_POSTGRESQL = "SELECT hash FROM list_entries WHERE list_id = $1 AND hash = ANY($2::bytea[])"
FIND_SQLITE = "SELECT hash FROM list_entries WHERE list_id = ? AND hash IN ({})"
LOG_POSTGRESQL = (
    "INSERT INTO list_changes (list_id, revision, hash, present) SELECT $1, $2, unnest($4::bytea[]), $3::boolean"
)
LOG_SQLITE = "INSERT INTO list_changes (list_id, revision, hash, present) VALUES (?, ?, ?, ?)"

Chunk = Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Standing:
    """A list as it stands at a revision: its id, how many entries it has, and under which ids they are."""

    id: int
    revision: int
    entries: int
    owners: tuple[int, ...]


def chunked(hashes: Iterable[str]) -> list[Chunk]:
    """Return the distinct hashes in ascending order, in chunks: a tree that is added to in order stays compact.

    Sorted in small parts, so that a million of them, in a thread, never stop the other threads for long.

    Raises:
        ValueError: one is not hex.
    """
    parts: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for text in hashes:
        entry = bytes.fromhex(text)
        parts[entry[:1]].add(entry)
    return rechunked([[entry for first in sorted(parts) for entry in sorted(parts[first])]])


def rechunked(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Return the same entries in chunks of the usual size."""
    entries = (entry for chunk in chunks for entry in chunk)
    return list(iter(lambda: tuple(islice(entries, CHUNK_ENTRIES)), ()))


async def put(tx: Transaction, made: PictureList, *, actor: Actor, precondition: Precondition) -> bool:
    """As ``Store.put_list``."""
    row = {"action": made.action, "kind": made.kind, "max_distance": made.max_distance}
    new = tx.insert_new(lists).values(name=made.name, entries=0, revision=0, **row).returning(lists.c.id)
    created = (await tx.execute(new)).scalar_one_or_none()
    found = await locked(tx, made.name)
    if found is None:
        raise LookupError(made.name)
    precondition.check(*([list_etag(found.revision)] if created is None else []))
    if found.kind != made.kind:
        raise ValueError(f"the list {made.name} is of kind {found.kind}, which cannot change")
    if created is None and (found.action, found.max_distance) == (made.action, made.max_distance):
        return False
    revision = await changes.record(tx, actor=actor, action="put", kind="list", name=made.name, detail=row)
    begun = {"logged_since": revision} if created is not None else {}
    await tx.execute(update(lists).where(lists.c.id == found.id).values(revision=revision, **begun, **row))
    return created is not None


async def every(tx: Transaction) -> tuple[PictureList, ...]:
    """As ``Store.lists``."""
    shown = [lists.c[name] for name in PictureList.__dataclass_fields__]
    return tuple(PictureList(**row) for row in (await tx.execute(select(*shown).order_by(lists.c.name))).mappings())


async def standing(tx: Transaction, name: str) -> Standing | None:
    """Return a list as it stands, None if there is none."""
    row = (await tx.execute(select(lists).where(lists.c.name == name))).one_or_none()
    return None if row is None else await _standing(tx, row)


async def unknown(tx: Transaction, seen: Standing, chunk: Chunk) -> Chunk:
    """Return those of a chunk's hashes that a list does not have."""
    for owner in seen.owners if seen.entries else ():
        if not chunk:
            break
        known = set(await present(tx, owner, chunk))
        chunk = [entry for entry in chunk if entry not in known] if known else chunk
    return chunk


async def present(tx: Transaction, owner: int, chunk: Chunk) -> Chunk:
    """Return those of a chunk's hashes that are under an id."""
    if tx.postgresql:
        found = await tx.connection.exec_driver_sql(FIND_POSTGRESQL, (owner, list(chunk)))
    else:
        found = await tx.connection.exec_driver_sql(FIND_SQLITE.format(",".join("?" * len(chunk))), (owner, *chunk))
    return found.scalars().all()


async def add(
    tx: Transaction, name: str, chunks: Sequence[Chunk], seen: Standing, *, actor: Actor, precondition: Precondition
) -> int | None:
    """Add hashes that the list did not have when it was seen, in this transaction; None if there is no such list."""
    found = await locked(tx, name)
    if found is None:
        return None
    precondition.check(list_etag(found.revision))
    now = await _standing(tx, found)
    if now != seen:  # somebody was faster
        chunks = rechunked([await unknown(tx, now, chunk) for chunk in chunks])
    added = await insert(tx, found.id, chunks)
    if added:
        await changed(tx, found, chunks, added, actor=actor, action="add_entries")
    return added


async def read(tx: Transaction, name: str, *, after: str | None, limit: int) -> tuple[str, ...]:
    """As ``Store.entries``."""
    seen = await standing(tx, name)
    if seen is None:
        return ()
    behind = [] if after is None else [list_entries.c.hash > bytes.fromhex(after)]
    each = [select(list_entries.c.hash).where(list_entries.c.list_id == owner, *behind) for owner in seen.owners]
    wanted = each[0].order_by("hash") if len(each) == 1 else union_all(*each).order_by("hash")  # merged in order
    return tuple(entry.hex() for entry in (await tx.execute(wanted.limit(limit))).scalars())


async def changes_since(tx: Transaction, name: str, since: int) -> ListChanges | None:
    """As ``Store.list_changes``."""
    row = (await tx.execute(select(lists).where(lists.c.name == name))).one_or_none()
    if row is None or since < row.logged_since:
        return None
    behind = (list_changes.c.list_id == row.id, list_changes.c.revision > since)
    wanted = select(list_changes.c.hash, list_changes.c.present).where(*behind).order_by(list_changes.c.revision)
    last = {change.hash: change.present for change in await tx.execute(wanted)}
    added = tuple(entry.hex() for entry, there in last.items() if there)
    return ListChanges(row.revision, added, tuple(entry.hex() for entry, there in last.items() if not there))


async def remove(
    tx: Transaction, name: str, chunks: Sequence[Chunk], *, actor: Actor, precondition: Precondition
) -> int:
    """As ``Store.remove_entries``."""
    found = await locked(tx, name)
    if found is None:
        return 0
    precondition.check(list_etag(found.revision))
    gone: list[Chunk] = []
    for owner in await owners(tx, found.id):
        for chunk in chunks:
            tx.renew()
            if there := await present(tx, owner, chunk):
                await _each(tx, REMOVE_POSTGRESQL if tx.postgresql else REMOVE_SQLITE, owner, [there])
                gone.append(there)
    removed = sum(map(len, gone))
    if removed:
        await changed(tx, found, gone, -removed, actor=actor, action="remove_entries")
    return removed


async def drop(tx: Transaction, name: str, *, actor: Actor, precondition: Precondition) -> bool:
    """As ``Store.delete_list``. A part that is being imported is left to whoever imports it."""
    found = await locked(tx, name)
    if found is None:
        return False
    precondition.check(list_etag(found.revision))
    for owner in await owners(tx, found.id):
        each = select(list_entries.c.hash).where(list_entries.c.list_id == owner).order_by(list_entries.c.hash)
        gone = delete(list_entries).where(list_entries.c.list_id == owner)
        first = b""  # each step looks behind the one before it, not through all that is deleted already
        while True:
            tx.renew()
            behind = each.where(list_entries.c.hash >= first).offset(CHUNK_ENTRIES).limit(1)
            last = (await tx.execute(behind)).scalar_one_or_none()
            if last is None:
                break
            await tx.execute(gone.where(list_entries.c.hash >= first, list_entries.c.hash < last))
            first = last
        await tx.execute(gone.where(list_entries.c.hash >= first))
    await tx.execute(delete(list_parts).where(list_parts.c.list_id == found.id, list_parts.c.revision.is_not(None)))
    await tx.execute(delete(list_changes).where(list_changes.c.list_id == found.id))
    await tx.execute(delete(lists).where(lists.c.id == found.id))
    await changes.record(tx, actor=actor, action="delete", kind="list", name=name, detail={"entries": found.entries})
    return True


async def insert(tx: Transaction, owner: int, chunks: Sequence[Chunk]) -> int:
    """Put entries under an id; return how many were not there."""
    return await _each(tx, ADD_POSTGRESQL if tx.postgresql else ADD_SQLITE, owner, chunks)


async def locked(tx: Transaction, name: str) -> Row[Any] | None:
    """Return a list's row, locked until the transaction ends."""
    return (await tx.execute(select(lists).where(lists.c.name == name).with_for_update())).one_or_none()


async def owners(tx: Transaction, list_id: int) -> tuple[int, ...]:
    """Return the ids under which a list's entries are: its own, and those of the parts that belong to it."""
    whole = (list_parts.c.list_id == list_id, list_parts.c.revision.is_not(None))
    parts = (await tx.execute(select(list_parts.c.id).where(*whole).order_by(list_parts.c.id))).scalars()
    return (list_id, *(-part for part in parts))


async def changed(
    tx: Transaction, found: Row[Any], chunks: Sequence[Chunk] | None, entries: int, *, actor: Actor, action: str
) -> int:
    """Count and log that so many entries came (or went); return the revision.

    Args:
        tx: that holds the list's row locked.
        found: that row.
        chunks: which ones; None if they are too many for the log.
        entries: how many, negative for those that went.
        actor: who did it.
        action: what for the audit.
    """
    detail = {"entries": abs(entries)}
    revision = await changes.record(tx, actor=actor, action=action, kind="list", name=found.name, detail=detail)
    logged = found.logged + abs(entries)
    values: dict[str, Any] = {"revision": revision, "entries": lists.c.entries + entries}
    if chunks is None or logged > LOGGED_CHANGES:
        await tx.execute(delete(list_changes).where(list_changes.c.list_id == found.id))
        values |= {"logged": 0, "logged_since": revision}
    else:
        values["logged"] = logged
        for chunk in chunks:
            if tx.postgresql:
                values_of = (found.id, revision, entries > 0, list(chunk))
                await tx.connection.exec_driver_sql(LOG_POSTGRESQL, values_of)
            elif chunk:
                rows = [(found.id, revision, entry, entries > 0) for entry in chunk]
                await tx.connection.exec_driver_sql(LOG_SQLITE, rows)
    await tx.execute(update(lists).where(lists.c.id == found.id).values(**values))
    return revision


async def _standing(tx: Transaction, row: Row[Any]) -> Standing:
    return Standing(row.id, row.revision, row.entries, await owners(tx, row.id))


async def _each(tx: Transaction, statement: str, owner: int, chunks: Sequence[Chunk]) -> int:
    done = 0
    for chunk in chunks:
        tx.renew()
        values = (owner, list(chunk)) if tx.postgresql else [(owner, entry) for entry in chunk]
        if chunk:
            done += (await tx.connection.exec_driver_sql(statement, values)).rowcount
    return done
