"""Connections and transactions. A unit of work is one transaction with a timeout."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, closing, nullcontext
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, CursorResult, Executable, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.store.outages import DatabaseUnusable, StoreUnavailable, outages_named

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R", bound="Repository")

POSTGRESQL = ("postgresql", "postgres", "postgresql+asyncpg")
SQLITE = ("sqlite", "sqlite+aiosqlite")
LOCK_SHARE_OF_TIMEOUT = 0.8  # a database's own limits end before ours, so that it says itself what it waited for
SQLITE_CACHE_KIB = 16 * 1024
SQLITE_WAL_KEPT_BYTES = 64 << 20
RETRY_S = 0.02
CLOSE_S = 2.0


class Transaction:
    """One transaction on one connection.

    Args:
        connection: on which it has begun.
        renew: starts the timeout anew: work in many steps is bounded step by step.
    """

    def __init__(self, connection: AsyncConnection, renew: Callable[[], None]) -> None:
        self.connection = connection
        self.renew = renew
        self.postgresql = connection.dialect.name == "postgresql"

    async def execute(
        self, statement: Executable, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run a statement, once, or once a mapping."""
        return await self.connection.execute(statement, values)

    def insert_new(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        """Return an INSERT that passes over rows whose key is there already."""
        if self.postgresql:
            return postgresql.insert(table).on_conflict_do_nothing()
        return sqlite.insert(table).on_conflict_do_nothing()


Work = Callable[[Transaction], Awaitable[T]]


class Database:
    """Runs units of work, each in a transaction of its own, each within the timeout.

    What ``prepare`` does (the file, the tables) is done before the first unit, once for all, and tried again with the
    next one where it failed: a gateway may start before its database does.

    A unit that is late is abandoned, not awaited: its connection may hang in the network or in a disk. What became
    of its commit is then unknown, as with any database that is cut off, so everything that writes may be repeated.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        timeout_s: float,
        prepare: Callable[[], Coroutine[Any, Any, None]],
        observe_failure: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._observe_failure = observe_failure
        self._timeout_s = timeout_s
        self._prepare = prepare
        self._preparing: asyncio.Task[None] | None = None
        self._abandoned: set[asyncio.Future[Any]] = set()
        # SQLite has one writer at a time. Within this process they queue here, in order; only other processes are
        # waited for by asking again and again, as SQLite does.
        self._turn: AbstractAsyncContextManager[Any] = nullcontext()
        self._readers = self._writers = engine
        if engine.dialect.name == "sqlite":
            self._turn = asyncio.Lock()
            self._writers = engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        else:
            self._readers = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    async def prepared(self) -> None:
        """Prepare, or wait for whoever does.

        Raises:
            StoreUnavailable: an outage.
            ValueError: the tables are those of a newer gateway.
        """
        if self._preparing is None or (self._preparing.done() and not _succeeded(self._preparing)):
            self._preparing = asyncio.create_task(self._prepare())
            self._preparing.add_done_callback(_succeeded)
        await asyncio.shield(self._preparing)

    async def read(self, work: Work[T]) -> T:
        """Run a unit that only reads; all its statements see the same moment.

        Raises:
            StoreUnavailable: an outage, or the timeout.
            ValueError: a value that no database keeps.
        """
        return await self._run(self._readers, nullcontext(), work)

    async def write(self, work: Work[T]) -> T:
        """Run a unit that writes, all or nothing.

        Raises:
            StoreUnavailable: an outage, or the timeout.
            ValueError: a value that no database keeps.
        """
        return await self._run(self._writers, self._turn, work)

    async def close(self) -> None:
        """Give up all connections; those that hang are left to the operating system."""
        if self._preparing is not None and not self._preparing.done():
            self._abandon(self._preparing)
        await self._end(self._abandoned)
        await self._end({asyncio.ensure_future(self._engine.dispose())})

    async def _run(self, engine: AsyncEngine, turn: AbstractAsyncContextManager[Any], work: Work[T]) -> T:
        limit = asyncio.timeout(self._timeout_s)
        task = asyncio.create_task(self._transact(engine, turn, work, limit))
        try:
            async with limit:
                return await asyncio.shield(task)
        except TimeoutError:
            self._observe_failure()
            raise StoreUnavailable(f"the database did not answer within {self._timeout_s:g} s") from None
        except StoreUnavailable:
            self._observe_failure()
            raise
        finally:
            if not task.done():
                self._abandon(task)

    async def _transact(
        self, engine: AsyncEngine, turn: AbstractAsyncContextManager[Any], work: Work[T], limit: asyncio.Timeout
    ) -> T:
        try:
            await self.prepared()
        except ValueError as error:  # not a value of the caller's
            raise StoreUnavailable(str(error)) from error
        now = asyncio.get_running_loop().time
        with outages_named():
            async with turn, engine.begin() as connection:
                return await work(Transaction(connection, lambda: limit.reschedule(now() + self._timeout_s)))

    def _abandon(self, task: asyncio.Future[Any]) -> None:
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)
        task.add_done_callback(_succeeded)

    async def _end(self, tasks: set[asyncio.Future[Any]]) -> None:
        if tasks:
            _, late = await asyncio.wait(set(tasks), timeout=CLOSE_S)
            for task in late:
                self._abandon(task)


class Repository:
    """What is kept of one resource. Each method that ``reads`` or ``writes`` is a unit of work of its own.

    All of them raise StoreUnavailable in an outage, and none waits longer than the database's timeout, or, in many
    steps, the timeout for each. Behind a StoreUnavailable a write may have happened or not; each may be repeated.
    Values that no database keeps (text with a NUL, a time without a zone, a number that is not one) raise ValueError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database


def reads(
    work: Callable[Concatenate[R, Transaction, P], Awaitable[T]],
) -> Callable[Concatenate[R, P], Coroutine[Any, Any, T]]:
    """Return a repository's method that runs ``work`` in a transaction that only reads, which callers do not see."""

    @wraps(work)
    async def method(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.read(lambda tx: work(self, tx, *args, **kwargs))

    return method


def writes(
    work: Callable[Concatenate[R, Transaction, P], Awaitable[T]],
) -> Callable[Concatenate[R, P], Coroutine[Any, Any, T]]:
    """As ``reads``, in a transaction that writes, all or nothing."""

    @wraps(work)
    async def method(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.write(lambda tx: work(self, tx, *args, **kwargs))

    return method


def _succeeded(task: asyncio.Future[Any]) -> bool:
    """Return whether a task that is done returned; its exception is read, so that nobody warns that nobody did."""
    return not task.cancelled() and task.exception() is None


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
        return _postgresql(f"postgresql://{rest}", timeout_s, connect_s, pool_size)
    if separator and (scheme not in SQLITE or not rest.startswith("/")):
        raise DatabaseUnusable("a database is sqlite:///path, a path, or postgresql://…")
    path = rest[1:] if separator else database_url
    if not path or path.startswith(":memory:") or "?" in path:
        raise DatabaseUnusable("SQLite needs the path of a file, without options")
    return _sqlite(path, timeout_s, pool_size)


def _postgresql(dsn: str, timeout_s: float, connect_s: float, pool_size: int) -> AsyncEngine:
    import asyncpg  # noqa: PLC0415 - not for SQLite

    limit_ms = str(int(timeout_s * LOCK_SHARE_OF_TIMEOUT * 1000))
    settings = {
        "lock_timeout": limit_ms,
        "statement_timeout": limit_ms,
        # Of a gateway that is cut off in a transaction: its locks go.
        "idle_in_transaction_session_timeout": str(int(timeout_s * 2000)),
        "jit": "off",
    }
    return create_async_engine(
        "postgresql+asyncpg://",
        # asyncpg reads the address itself: everything that libpq's addresses may say works, sslmode too.
        async_creator=partial(asyncpg.connect, dsn, timeout=connect_s, server_settings=settings),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_s,
        pool_pre_ping=True,  # a server that was restarted is noticed before work begins, not by failing it
    )


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
            except sqlite3.OperationalError:  # locked, which is all that may pass
                if time.monotonic() >= deadline:
                    raise
                time.sleep(RETRY_S)
            else:
                return
