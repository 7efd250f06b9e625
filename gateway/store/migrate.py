"""Bringing a database's tables up to date at the gateway's start, by one process at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import Connection, column, inspect, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

TIMEOUT_S = 60.0  # for a statement of a migration, and for another process that migrates to finish
HEAD = "0004"  # the newest of ``migrations/versions``
VERSION_TABLE = "alembic_version"
ADVISORY_LOCK = 0x636C6970_6D6F6400  # "clipmod", any number that nothing else in the database uses


@asynccontextmanager
async def migration_lock(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction that no other migrating process has at the same time.

    In SQLite that is any writing transaction; in PostgreSQL an advisory lock, which ends with the transaction.
    """
    async with engine.execution_options(sqlite_begin="BEGIN IMMEDIATE").begin() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        yield connection


async def migrate(engine: AsyncEngine) -> None:
    """Run what is missing, all or none. Nothing is locked or written if nothing is missing.

    Raises:
        DatabaseUnusable: the tables are those of a newer gateway.
    """
    async with engine.connect() as connection:
        if await connection.run_sync(_revisions) == {HEAD}:
            return
    async with migration_lock(engine) as connection:
        if await connection.run_sync(_revisions) != {HEAD}:  # nobody else has done it meanwhile
            from gateway.store.upgrade import upgrade  # noqa: PLC0415 - large, and rarely needed

            await connection.run_sync(upgrade)


def _revisions(connection: Connection) -> set[str]:
    if not inspect(connection).has_table(VERSION_TABLE):
        return set()
    return set(connection.scalars(select(column("version_num")).select_from(table(VERSION_TABLE))))
