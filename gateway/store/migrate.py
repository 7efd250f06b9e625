"""Bringing a database's tables up to date at the gateway's start, by one process at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.store.records import DatabaseUnusable

TIMEOUT_S = 60.0  # for a statement of a migration, and for another process that migrates to finish
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
    config = Config()
    config.set_main_option("script_location", "gateway.store:migrations")
    wanted = set(ScriptDirectory.from_config(config).get_heads())
    async with engine.connect() as connection:
        if await connection.run_sync(_heads) == wanted:
            return
    try:
        async with migration_lock(engine) as connection:
            await connection.run_sync(_upgrade, config)
    except CommandError as error:
        raise DatabaseUnusable("this gateway does not know the database's tables; a newer one does") from error


def _heads(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection).get_current_heads())


def _upgrade(connection: Connection, config: Config) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
