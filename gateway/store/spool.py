"""A spool on disk: decisions that the database does not take, written before they are answered, and to it later.

It is a file of SQLite, so an entry is there whole or not at all, through ``kill -9`` and power cuts, and gone
likewise. All replicas on a machine share it: whoever runs empties it, also for one that died.
"""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson

from gateway.store.decisions import COLUMNS, DecisionRecord, LogEntry
from gateway.store.idempotency import Claim, KeptAnswer
from gateway.store.outages import outages_named

NAME = "decisions.sqlite"
TIMEOUT_S = 2.0
LOCK_S = 1.5  # SQLite's own wait ends before ours
PAGE_BYTES = 4096
SET_UP = (
    f"PRAGMA page_size = {PAGE_BYTES}",
    "PRAGMA auto_vacuum = FULL",  # what was written to the database leaves the disk
    "PRAGMA secure_delete = ON",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "CREATE TABLE IF NOT EXISTS spooled (number INTEGER PRIMARY KEY AUTOINCREMENT, decisions INTEGER, entry BLOB)",
)

T = TypeVar("T")


class DecisionSpool:
    """Entries in the order in which they came.

    All methods raise StoreUnavailable where the file cannot be written or read, or has no room: within two seconds.

    Args:
        folder: made where it is not there.
        max_bytes: of the file.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._path = folder / NAME
        self._max_pages = max(max_bytes // PAGE_BYTES, 1)
        self._connection: sqlite3.Connection | None = None
        self._turn = threading.Lock()
        self.decisions = 0  # when the file was last looked at, by whichever replica they came from

    async def append(self, entry: LogEntry) -> None:
        """Write an entry; it is on the disk when this returns."""
        row = (len(entry.records), _packed(entry))
        await self._run(lambda file: file.execute("INSERT INTO spooled (decisions, entry) VALUES (?, ?)", row))

    async def first(self, count: int) -> tuple[tuple[int, LogEntry], ...]:
        """Return the oldest entries with their numbers."""
        wanted = "SELECT number, entry FROM spooled ORDER BY number LIMIT ?"
        rows = await self._run(lambda file: file.execute(wanted, (count,)).fetchall())
        return tuple((number, _unpacked(entry)) for number, entry in rows)

    async def remove(self, numbers: Sequence[int]) -> None:
        """Remove entries that the database has."""
        rows = [(number,) for number in numbers]
        await self._run(lambda file: file.executemany("DELETE FROM spooled WHERE number = ?", rows))

    async def close(self) -> None:
        """Close the file, unless a disk that hangs holds it."""
        if self._connection is not None and await asyncio.to_thread(self._turn.acquire, timeout=TIMEOUT_S):
            self._close()
            self._turn.release()

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with outages_named():
            async with asyncio.timeout(TIMEOUT_S):
                return await asyncio.to_thread(self._transact, work)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._turn:
            try:
                file = self._connection or self._open()
                file.execute("BEGIN IMMEDIATE")
                done = work(file)
                count = file.execute("SELECT coalesce(sum(decisions), 0) FROM spooled").fetchone()[0]
                file.execute("COMMIT")
            except sqlite3.Error:
                self._close()
                raise
            if not count and self.decisions:
                file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.decisions = count
            return done

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Used by one thread at a time.
        made = sqlite3.connect(self._path, timeout=LOCK_S, isolation_level=None, check_same_thread=False)
        self._connection = made
        for statement in (*SET_UP, f"PRAGMA max_page_count = {self._max_pages}"):
            made.execute(statement)
        return made

    def _close(self) -> None:
        """Close the file; a transaction that is open is undone."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _packed(entry: LogEntry) -> bytes:
    return orjson.dumps(entry, default=_text_of)


def _text_of(value: Any) -> str:  # noqa: ANN401 - whatever orjson does not know
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(type(value).__name__)


def _unpacked(data: bytes) -> LogEntry:
    """Return an entry; fields of a newer gateway are left out, those of an older one have their defaults."""
    made = orjson.loads(data)
    kept = made["kept"]
    return LogEntry(
        tuple(_record({name: value for name, value in given.items() if name in COLUMNS}) for given in made["records"]),
        kept
        and KeptAnswer(Claim(**kept["claim"]), base64.b64decode(kept["answer"]), datetime.fromisoformat(kept["until"])),
    )


def _record(given: dict[str, Any]) -> DecisionRecord:
    vectors = given.get("vectors")
    return DecisionRecord(
        **{
            **given,
            "at": datetime.fromisoformat(given["at"]),
            "vectors": None if vectors is None else base64.b64decode(vectors),
        }
    )
