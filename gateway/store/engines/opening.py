"""Engines: what opens connections to SQLite or PostgreSQL, and how each of them is set up."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from gateway.store.causes import cause_of
from gateway.store.outages import DatabaseUnusable, StoreUnavailable, outages_named

POSTGRESQL = ("postgresql", "postgres", "postgresql+asyncpg")
SQLITE = ("sqlite", "sqlite+aiosqlite")
LOCK_SHARE_OF_TIMEOUT = 0.8  # a database's own limits end before ours, so that it says itself what it waited for
SQLITE_CACHE_KIB = 16 * 1024
SQLITE_WAL_KEPT_BYTES = 64 << 20
RETRY_S = 0.02


async def open_engine(database_url: str, *, timeout_s: float, connect_s: float, pool_size: int) -> AsyncEngine:
    """Make the engine for a database and, for SQLite, its folder and file.

    The arguments are those of ``make_engine``; ``connect_s`` bounds the switch to a write-ahead log too.

    Raises:
        StoreUnavailable: SQLite's file cannot be made or opened.
        DatabaseUnusable: as ``make_engine``.
    """
    engine = make_engine(database_url, timeout_s=timeout_s, connect_s=connect_s, pool_size=pool_size)
    if engine.url.database and engine.dialect.name == "sqlite":
        with outages_named():
            await asyncio.to_thread(_use_wal, Path(engine.url.database), connect_s)
    return engine


def make_engine(database_url: str, *, timeout_s: float, connect_s: float, pool_size: int) -> AsyncEngine:
    """Make the engine for a database; nothing is opened yet.

    Args:
        database_url: as ``migrate.open_database`` says.
        timeout_s: for a lock or a statement.
        connect_s: for a connection.
        pool_size: connections, at most.

    Raises:
        DatabaseUnusable: neither SQLite nor PostgreSQL, or no file.
    """
    scheme, separator, rest = database_url.partition("://")
    if separator and scheme in POSTGRESQL:
        from gateway.store.engines.postgresql import postgresql_engine  # noqa: PLC0415 - the driver is not for SQLite

        share_s = timeout_s * LOCK_SHARE_OF_TIMEOUT
        return postgresql_engine(
            f"postgresql://{rest}", timeout_s, connect_s=connect_s, statement_s=share_s, pool_size=pool_size
        )
    if separator and (scheme not in SQLITE or not rest.startswith("/")):
        raise DatabaseUnusable("a database is sqlite:///path, a path, or postgresql://…")
    path = rest[1:] if separator else database_url
    if not path or path.startswith(":memory:") or "?" in path:
        raise DatabaseUnusable("SQLite needs the path of a file, without options")
    return _sqlite(path, timeout_s, pool_size)


@asynccontextmanager
async def unchanged_file(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection that reads SQLite's file and needs nothing written beside it, not even a lock.

    That is sound where the write-ahead log is empty, and nobody writes meanwhile: both are checked.

    Raises:
        StoreUnavailable: the file has a log, or has changed; nothing of what was read may be used.
    """
    path = Path(os.path.abspath(engine.url.database or ""))  # noqa: PTH100, ASYNC240 - touches no disk
    address = URL.create("sqlite+aiosqlite", database=path.as_uri(), query={"uri": "true", "immutable": "1"})
    alone = create_async_engine(address, poolclass=NullPool)
    with outages_named():
        before = await asyncio.to_thread(_at_rest, path)
        async with alone.connect() as connection:
            yield connection
        if before != await asyncio.to_thread(_at_rest, path):
            raise StoreUnavailable("the file was written to while it was read", "locked")


def _at_rest(path: Path) -> tuple[int, int]:
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreUnavailable("the file has a write-ahead log that cannot be read without room beside it", "disk_full")
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _sqlite(path: str, timeout_s: float, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=path),
        # The driver must not begin transactions by itself: _begin does.
        connect_args={"timeout": timeout_s * LOCK_SHARE_OF_TIMEOUT, "isolation_level": None},
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_s,
    )
    event.listen(engine.sync_engine, "connect", _set_up)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _entry: ConnectionPoolEntry) -> None:  # noqa: ANN401 - the driver's, adapted
    try:
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        # With NORMAL, a power cut takes the last commits of a WAL along. What was acknowledged stays.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA cache_size = -{SQLITE_CACHE_KIB}")
        cursor.execute(f"PRAGMA journal_size_limit = {SQLITE_WAL_KEPT_BYTES}")
        cursor.close()
    except Exception:
        connection.close()  # the pool would leave it, and its thread, to the garbage collector
        raise


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _use_wal(path: Path, timeout_s: float) -> None:
    """Make the folder and the file, and switch it to a write-ahead log, once: it stays so.

    By the driver beneath aiosqlite, whose threads outlive a file that cannot be opened. SQLite does not wait for locks
    here, so we do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    with closing(sqlite3.connect(path, timeout=0)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if cause_of(error) != "locked" or time.monotonic() >= deadline:
                    raise
                time.sleep(RETRY_S)
            else:
                return
