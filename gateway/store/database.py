"""Connections and transactions. A unit of work is one transaction with a timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import CursorResult, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.store.causes import Cause
from gateway.store.engines.opening import unchanged_file
from gateway.store.outages import (
    Access,
    DatabaseUnusable,
    Failures,
    OnlyReadable,
    StoreUnavailable,
    outages_named,
)

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R", bound="Repository")

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
    next one where it failed: a gateway may start before its database does. Where that finds a file of SQLite that it
    can only read, on a disk that is full or read-only, units that read run on the file as it lies there.

    A unit that is late is abandoned, not awaited: its connection may hang in the network or in a disk. What became
    of its commit is then unknown, as with any database that is cut off, so everything that writes may be repeated.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        timeout_s: float,
        prepare: Callable[[], Coroutine[Any, Any, None]],
        observe_failure: Callable[[Cause], None],
    ) -> None:
        self._engine = engine
        self.failures = Failures(observe_failure)
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
        return await self._run("read", work)

    async def write(self, work: Work[T]) -> T:
        """Run a unit that writes, all or nothing.

        Raises:
            StoreUnavailable: an outage, or the timeout.
            ValueError: a value that no database keeps.
        """
        return await self._run("write", work)

    async def close(self) -> None:
        """Give up all connections; those that hang are left to the operating system."""
        if self._preparing is not None and not self._preparing.done():
            self._abandon(self._preparing)
        await self._end(self._abandoned)
        await self._end({asyncio.ensure_future(self._engine.dispose())})

    async def _run(self, access: Access, work: Work[T]) -> T:
        limit = asyncio.timeout(self._timeout_s)
        task = asyncio.create_task(self._transact(access, work, limit))
        try:
            async with limit:
                done = await asyncio.shield(task)
        except TimeoutError:
            late = StoreUnavailable(f"the database did not answer within {self._timeout_s:g} s", "timeout")
            self.failures.note(access, late)
            raise late from None
        except StoreUnavailable as error:
            self.failures.note(access, error)
            raise
        finally:
            if not task.done():
                self._abandon(task)
        self.failures.end(access)
        return done

    async def _transact(self, access: Access, work: Work[T], limit: asyncio.Timeout) -> T:
        now = asyncio.get_running_loop().time
        renew = lambda: limit.reschedule(now() + self._timeout_s)  # noqa: E731
        try:
            await self.prepared()
        except OnlyReadable:
            if access == "write":
                raise
            async with unchanged_file(self._engine) as connection:
                return await work(Transaction(connection, renew))
        except DatabaseUnusable as error:
            raise StoreUnavailable(str(error), error.cause) from error
        except ValueError as error:  # not a value of the caller's
            raise StoreUnavailable(str(error)) from error
        engine, turn = (self._readers, nullcontext()) if access == "read" else (self._writers, self._turn)
        with outages_named():
            async with turn, engine.begin() as connection:
                return await work(Transaction(connection, renew))

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
