"""Adding hashes to a list, few or a million: other writers wait briefly, and readers see all of them or none.

The new ones are found by reading. Few are then added in one transaction. Many are written as a part of their own, a few
thousand in each transaction, so that SQLite's other writers (the decision log) get in between; the last transaction
makes the part belong to the list. The next long import deletes what a gateway that stopped meanwhile has left behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import delete, insert, select, text, update

from gateway.store.audit import Actor
from gateway.store.database import Database, Transaction
from gateway.store.list_entries import (
    Chunk,
    ListState,
    add_rows,
    changed,
    delete_chunk,
    list_state,
    locked,
    owners,
    rechunked,
    state_of,
    unknown,
)
from gateway.store.outages import StoreUnavailable
from gateway.store.preconditions import Precondition, StaleWrite, list_etag
from gateway.store.schema import list_parts

MAX_ENTRIES_AT_ONCE = 20_000
"""Hashes added in one transaction, which takes SQLite some tenths of a second."""

STEP_ENTRIES = 5_000
MAX_PARTS = 64
"""Of one list; beyond, all is added in one transaction, since every look goes through all parts."""

PAUSE_SHARE = 0.25
"""Of a step's time, behind it: other processes' writers ask SQLite again and again, and must come across a pause."""

ABANDONED_AFTER = timedelta(minutes=10)
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
TAKEN_AWAY = 0
"""In place of a list's id: the part is being deleted, and its import must not go on."""

DELETE_DUPLICATES = text(
    "DELETE FROM list_entries WHERE list_id = :part AND EXISTS "
    "(SELECT 1 FROM list_entries AS other WHERE other.list_id = :owner AND other.hash = list_entries.hash)"
)


async def add(
    database: Database, name: str, chunks: Sequence[Chunk], *, actor: Actor, precondition: Precondition
) -> int | None:
    """As ``Lists.add``."""
    seen = await database.read(lambda tx: list_state(tx, name))
    if seen is None:
        return None
    precondition.check(list_etag(seen.revision))  # and once more at the end, before all the work too
    new = list(chunks)
    if seen.entries:
        new = rechunked([await database.read(partial(unknown, seen=seen, chunk=chunk)) for chunk in chunks])
    if sum(map(len, new)) <= MAX_ENTRIES_AT_ONCE or len(seen.owners) > MAX_PARTS:
        return await database.write(lambda tx: _add(tx, name, new, seen, actor=actor, precondition=precondition))
    await _discard_abandoned(database)
    part = await database.write(lambda tx: _begin(tx, seen.id))
    for chunk in new:
        for start in range(0, len(chunk), STEP_ENTRIES):
            await _step(database, part, chunk[start : start + STEP_ENTRIES])
    entries = sum(map(len, new))
    try:
        added = await database.write(
            lambda tx: _publish(tx, name, part, seen, entries, actor=actor, precondition=precondition)
        )
    except StaleWrite:
        await _discard(database, part, FOREVER)
        raise
    if added is None:
        await _discard(database, part, FOREVER)
    return added


async def _add(
    tx: Transaction, name: str, chunks: Sequence[Chunk], seen: ListState, *, actor: Actor, precondition: Precondition
) -> int | None:
    """Add hashes that the list did not have when it was seen, in this transaction; None if there is no such list."""
    found = await locked(tx, name, precondition)
    if found is None:
        return None
    now = await state_of(tx, found)
    if now != seen:  # somebody was faster
        chunks = rechunked([await unknown(tx, now, chunk) for chunk in chunks])
    added = await add_rows(tx, found.id, chunks)
    if added:
        await changed(tx, found, chunks, added, actor=actor, action="add_entries")
    return added


async def _begin(tx: Transaction, list_id: int) -> int:
    made = insert(list_parts).values(list_id=list_id, touched=datetime.now(UTC)).returning(list_parts.c.id)
    return int((await tx.execute(made)).scalar_one())


async def _step(database: Database, part: int, entries: Chunk) -> None:
    """Write some entries of a part that does not belong to its list yet."""

    async def stage(tx: Transaction) -> None:
        await _touch(tx, part)
        await add_rows(tx, -part, [entries])

    begun = time.monotonic()
    await database.write(stage)
    await asyncio.sleep((time.monotonic() - begun) * PAUSE_SHARE)


async def _publish(
    tx: Transaction, name: str, part: int, seen: ListState, entries: int, *, actor: Actor, precondition: Precondition
) -> int | None:
    """Make a part belong to its list; return how many entries it adds, None if the list is gone."""
    found = await locked(tx, name, precondition)
    if found is None or found.id != seen.id:
        return None
    await _touch(tx, part)
    if found.revision != seen.revision:  # what came meanwhile may be in the part too
        for owner in await owners(tx, found.id):
            tx.renew()
            entries -= (await tx.execute(DELETE_DUPLICATES, {"part": -part, "owner": owner})).rowcount
    revision = await changed(tx, found, None, entries, actor=actor, action="add_entries")
    await tx.execute(update(list_parts).where(list_parts.c.id == part).values(revision=revision))
    return entries


async def _touch(tx: Transaction, part: int) -> None:
    mine = update(list_parts).where(
        list_parts.c.id == part, list_parts.c.revision.is_(None), list_parts.c.list_id != TAKEN_AWAY
    )
    if (await tx.execute(mine.values(touched=datetime.now(UTC)))).rowcount != 1:
        raise StoreUnavailable("the import paused for so long that its first part was deleted")


async def _discard_abandoned(database: Database) -> None:
    """Delete the parts of imports that were never finished."""
    before = datetime.now(UTC) - ABANDONED_AFTER
    old = (list_parts.c.revision.is_(None), list_parts.c.touched < before)
    for part in (await database.read(lambda tx: tx.execute(select(list_parts.c.id).where(*old)))).scalars():
        await _discard(database, part, before)


async def _discard(database: Database, part: int, before: datetime) -> None:
    """Delete a part that belongs to no list, unless its import has gone on since; from now on it cannot."""

    async def take_away(tx: Transaction) -> int:
        unpublished = (list_parts.c.id == part, list_parts.c.revision.is_(None), list_parts.c.touched < before)
        return (await tx.execute(update(list_parts).where(*unpublished).values(list_id=TAKEN_AWAY))).rowcount

    first: bytes | None = b"" if await database.write(take_away) else None
    while first is not None:
        first = await database.write(partial(_discard_chunk, part=part, first=first))


async def _discard_chunk(tx: Transaction, part: int, first: bytes) -> bytes | None:
    """Delete a chunk of a part, the part's row with the last, so that an interrupted deletion is found again."""
    last = await delete_chunk(tx, -part, first)
    if last is None:
        await tx.execute(delete(list_parts).where(list_parts.c.id == part, list_parts.c.revision.is_(None)))
    return last
