"""Lists of hashes: a million entries are added in chunks and read by key. Each function works in one transaction.

Whoever changes a list locks its row first and counts the change last: a long import holds up nobody else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Row, delete, select, update

from gateway.store import changes
from gateway.store.database import Transaction
from gateway.store.records import PictureList
from gateway.store.schema import list_entries, lists

CHUNK_ENTRIES = 10_000

# In the drivers' own words: SQLAlchemy takes ten times as long to look at a million rows as the database to keep them.
ADD_POSTGRESQL = "INSERT INTO list_entries (list_id, hash) SELECT $1, unnest($2::bytea[]) ON CONFLICT DO NOTHING"
ADD_SQLITE = "INSERT INTO list_entries (list_id, hash) VALUES (?, ?) ON CONFLICT DO NOTHING"
REMOVE_POSTGRESQL = "DELETE FROM list_entries WHERE list_id = $1 AND hash = ANY($2::bytea[])"
REMOVE_SQLITE = "DELETE FROM list_entries WHERE list_id = ? AND hash = ?"

Chunk = Sequence[bytes]


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
    entries = iter([entry for first in sorted(parts) for entry in sorted(parts[first])])
    return list(iter(lambda: tuple(islice(entries, CHUNK_ENTRIES)), ()))


async def put(tx: Transaction, made: PictureList, *, actor: str) -> bool:
    """As ``Store.put_list``."""
    row = {"action": made.action, "kind": made.kind, "max_distance": made.max_distance}
    new = tx.insert_new(lists).values(name=made.name, entries=0, revision=0, **row).returning(lists.c.id)
    created = (await tx.execute(new)).scalar_one_or_none()
    found = await _locked(tx, made.name)
    if found is None:
        raise LookupError(made.name)
    if found.kind != made.kind:
        raise ValueError(f"the list {made.name} is of kind {found.kind}, which cannot change")
    if created is None and (found.action, found.max_distance) == (made.action, made.max_distance):
        return False
    await _changed(tx, found, actor=actor, action="put", values=row, detail=row)
    return created is not None


async def every(tx: Transaction) -> tuple[PictureList, ...]:
    """As ``Store.lists``."""
    rows = await tx.execute(select(*(column for column in lists.c if column is not lists.c.id)).order_by(lists.c.name))
    return tuple(PictureList(**row) for row in rows.mappings())


async def add(tx: Transaction, name: str, chunks: Sequence[Chunk], *, actor: str) -> int | None:
    """As ``Store.add_entries``."""
    found = await _locked(tx, name)
    if found is None:
        return None
    added = await _each(tx, ADD_POSTGRESQL if tx.postgresql else ADD_SQLITE, found.id, chunks)
    if added:
        values = {"entries": lists.c.entries + added}
        await _changed(tx, found, actor=actor, action="add_entries", values=values, detail={"entries": added})
    return added


async def read(tx: Transaction, name: str, *, after: str | None, limit: int) -> tuple[str, ...]:
    """As ``Store.entries``."""
    this = select(lists.c.id).where(lists.c.name == name).scalar_subquery()
    wanted = select(list_entries.c.hash).where(list_entries.c.list_id == this)
    if after is not None:
        wanted = wanted.where(list_entries.c.hash > bytes.fromhex(after))
    found = await tx.execute(wanted.order_by(list_entries.c.hash).limit(limit))
    return tuple(entry.hex() for entry in found.scalars())


async def remove(tx: Transaction, name: str, chunks: Sequence[Chunk], *, actor: str) -> int:
    """As ``Store.remove_entries``."""
    found = await _locked(tx, name)
    if found is None:
        return 0
    removed = await _each(tx, REMOVE_POSTGRESQL if tx.postgresql else REMOVE_SQLITE, found.id, chunks)
    if removed:
        values = {"entries": lists.c.entries - removed}
        await _changed(tx, found, actor=actor, action="remove_entries", values=values, detail={"entries": removed})
    return removed


async def drop(tx: Transaction, name: str, *, actor: str) -> bool:
    """As ``Store.delete_list``."""
    found = await _locked(tx, name)
    if found is None:
        return False
    each = select(list_entries.c.hash).where(list_entries.c.list_id == found.id).order_by(list_entries.c.hash)
    gone = delete(list_entries).where(list_entries.c.list_id == found.id)
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
    await tx.execute(delete(lists).where(lists.c.id == found.id))
    await changes.record(tx, actor=actor, action="delete", kind="list", name=name, detail={"entries": found.entries})
    return True


async def _each(tx: Transaction, statement: str, list_id: int, chunks: Sequence[Chunk]) -> int:
    done = 0
    for chunk in chunks:
        tx.renew()
        values = (list_id, chunk) if tx.postgresql else [(list_id, entry) for entry in chunk]
        done += (await tx.connection.exec_driver_sql(statement, values)).rowcount
    return done


async def _locked(tx: Transaction, name: str) -> Row[Any] | None:
    return (await tx.execute(select(lists).where(lists.c.name == name).with_for_update())).one_or_none()


async def _changed(
    tx: Transaction, found: Row[Any], *, actor: str, action: str, values: dict[str, Any], detail: dict[str, Any]
) -> None:
    revision = await changes.record(tx, actor=actor, action=action, kind="list", name=found.name, detail=detail)
    await tx.execute(update(lists).where(lists.c.id == found.id).values(revision=revision, **values))
