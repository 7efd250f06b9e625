"""Connections to PostgreSQL, straight or through a pooler such as pgbouncer.

A pooler in transaction mode may give each transaction another server connection. Behind a pooler, whatever its mode,
nothing is set up on a connection that has to hold beyond a transaction: limits of time are set with BEGIN, in the same
round trip, and statements are not kept under names.
"""

from __future__ import annotations

from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

KEPT_STATEMENTS = 100  # prepared ones, of a connection without a pooler


class LimitedConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection whose transactions begin with limits of their own.

    Attributes:
        limits: statements that follow BEGIN; empty where the limits are the session's.
    """

    limits = ""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ANN401, ASYNC109
        """Run a statement as asyncpg does; its transactions begin through here."""
        if query.startswith("BEGIN"):
            query += self.limits
        status: str = await super().execute(query, *args, timeout=timeout)
        return status


def postgresql_engine(
    dsn: str, timeout_s: float, *, connect_s: float, statement_s: float, pool_size: int
) -> AsyncEngine:
    """Make an engine; nothing is opened yet.

    Args:
        dsn: an address as libpq reads it.
        timeout_s: of a unit of work, and of waiting for a connection of the pool.
        connect_s: for a connection.
        statement_s: for a statement or a lock.
        pool_size: connections, at most.
    """
    limits = {
        "lock_timeout": int(statement_s * 1000),
        "statement_timeout": int(statement_s * 1000),
        # Of a gateway that is cut off in a transaction: its locks go.
        "idle_in_transaction_session_timeout": int(timeout_s * 2000),
        "jit": "off",
    }

    async def connect() -> LimitedConnection:
        # asyncpg reads the address itself: all that libpq's may say works.
        # Its own cache of statements is not for poolers; SQLAlchemy has another one.
        options = {"statement_cache_size": 0, "connection_class": LimitedConnection}
        made: LimitedConnection = await asyncpg.connect(dsn, timeout=connect_s, **options)
        return made

    def adapted() -> DBAPIConnection:
        connection = await_only(connect())
        try:
            pooled = await_only(_is_pooled(connection))
            if pooled:
                connection.limits = "".join(f"SET LOCAL {name} = {value};" for name, value in limits.items())
            else:
                await_only(connection.execute("".join(f"SET {name} = {value};" for name, value in limits.items())))
        except BaseException:
            connection.terminate()
            raise

        async def made() -> LimitedConnection:
            return connection

        connected: DBAPIConnection = engine.dialect.loaded_dbapi.connect(
            async_creator_fn=made,
            prepared_statement_cache_size=0 if pooled else KEPT_STATEMENTS,
            prepared_statement_name_func=_no_name if pooled else None,
        )
        return connected

    engine = create_async_engine(
        "postgresql+asyncpg://", creator=adapted, pool_size=pool_size, max_overflow=0, pool_timeout=timeout_s
    )
    event.listen(engine.sync_engine, "checkout", _check)
    return engine


async def _is_pooled(connection: LimitedConnection) -> bool:
    """Return whether a pooler stands between: it gives its clients keys of its own for cancelling, without the pid."""
    async with connection.transaction():
        pid = await connection.fetchval("SELECT pg_catalog.pg_backend_pid()")
    return bool(pid != connection.get_server_pid())


def _no_name() -> str:
    """Name a statement that lasts until the next one, within a transaction."""
    return ""


def _check(connection: Any, _entry: object, _proxy: object) -> None:  # noqa: ANN401 - the driver's, adapted
    """Notice a server that was restarted before work begins, in one round trip; SQLAlchemy's own check takes three."""
    try:
        connection.run_async(lambda made: made.execute("SELECT"))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise InvalidatePoolError from error
