"""The entries of a list, as rows, read and written in chunks: a million takes seconds.

Each change locks the list's row first and counts the change last, so that a long import delays nobody else. Entries are
kept under the list's own id, those of a long import under the id of a part (see ``list_import``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Row, delete, select, update

from gateway.store import audit
from gateway.store.audit import Actor
from gateway.store.database import Transaction
from gateway.store.preconditions import UNCONDITIONAL, Precondition, list_etag
from gateway.store.schema import list_changes, list_entries, list_parts, lists

CHUNK_ENTRIES = 10_000
LOGGED_CHANGES = 65_536
"""Of one list, at most; readers that fell behind more than that read the list whole."""

# SQL for the drivers themselves: SQLAlchemy takes ten times as long over a million rows as the database does.
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
class ListState:
    """A list at a revision: its id, how many entries it has, and under which ids they are kept."""

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


async def list_state(tx: Transaction, name: str) -> ListState | None:
    """Return the state of a list, None if there is none."""
    row = (await tx.execute(select(lists).where(lists.c.name == name))).one_or_none()
    return None if row is None else await state_of(tx, row)


async def state_of(tx: Transaction, row: Row[Any]) -> ListState:
    """Return the state of the list in a row."""
    return ListState(row.id, row.revision, row.entries, await owners(tx, row.id))


async def unknown(tx: Transaction, seen: ListState, chunk: Chunk) -> Chunk:
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


async def add_rows(tx: Transaction, owner: int, chunks: Sequence[Chunk]) -> int:
    """Put entries under an id; return how many were not there."""
    return await _each(tx, ADD_POSTGRESQL if tx.postgresql else ADD_SQLITE, owner, chunks)


async def delete_rows(tx: Transaction, owner: int, chunks: Sequence[Chunk]) -> None:
    """Delete entries from under an id."""
    await _each(tx, REMOVE_POSTGRESQL if tx.postgresql else REMOVE_SQLITE, owner, chunks)


async def delete_chunk(tx: Transaction, owner: int, first: bytes) -> bytes | None:
    """Delete CHUNK_ENTRIES entries from under an id, from a hash on; return the hash to go on from, None at the end.

    Whoever goes on from there does not read again through all that is deleted already.
    """
    rest = (list_entries.c.list_id == owner, list_entries.c.hash >= first)
    behind = select(list_entries.c.hash).where(*rest).order_by(list_entries.c.hash).offset(CHUNK_ENTRIES).limit(1)
    last = (await tx.execute(behind)).scalar_one_or_none()
    await tx.execute(delete(list_entries).where(*rest, *([] if last is None else [list_entries.c.hash < last])))
    return last


async def locked(tx: Transaction, name: str, precondition: Precondition = UNCONDITIONAL) -> Row[Any] | None:
    """Return a list's row, locked until the transaction ends, None if there is no such list.

    Raises:
        StaleWrite: there is one, and the precondition does not hold.
    """
    row = (await tx.execute(select(lists).where(lists.c.name == name).with_for_update())).one_or_none()
    if row is not None:
        precondition.check(list_etag(row.revision))
    return row


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
    revision = await audit.record(tx, actor=actor, action=action, kind="list", name=found.name, detail=detail)
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


async def take_out(tx: Transaction, found: Row[Any], chunks: Sequence[Chunk], *, actor: Actor) -> int:
    """Remove entries from the list in a row that is locked, wherever they are kept; return how many were there."""
    gone: list[Chunk] = []
    for owner in await owners(tx, found.id):
        for chunk in chunks:
            tx.renew()
            if there := await present(tx, owner, chunk):
                await delete_rows(tx, owner, [there])
                gone.append(there)
    removed = sum(map(len, gone))
    if removed:
        await changed(tx, found, gone, -removed, actor=actor, action="remove_entries")
    return removed


async def _each(tx: Transaction, statement: str, owner: int, chunks: Sequence[Chunk]) -> int:
    done = 0
    for chunk in chunks:
        tx.renew()
        values = (owner, list(chunk)) if tx.postgresql else [(owner, entry) for entry in chunk]
        if chunk:
            done += (await tx.connection.exec_driver_sql(statement, values)).rowcount
    return done
