"""Opening a database, its tables brought up to date by one process at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sqlalchemy import Connection, column, inspect, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.store.causes import Cause
from gateway.store.database import Database
from gateway.store.engines.opening import make_engine, open_engine, unchanged_file
from gateway.store.outages import DatabaseUnusable, OnlyReadable, StoreUnavailable, outages_named

TIMEOUT_S = 60.0  # for a statement of a migration, and for another process that migrates to finish
HEAD = "0.1.0"  # the newest of ``migrations/versions``
NO_ROOM = ("disk_full", "read_only", "permission")  # for what SQLite keeps beside its file while it is open
VERSION_TABLE = "alembic_version"
ADVISORY_LOCK = 0x636C6970_6D6F6400  # "clipmod", any number that nothing else in the database uses


async def open_database(database_url: str, *, timeout_s: float, pool_size: int = 5) -> Database:
    """Bring the database's tables up to date and return the database, for the running event loop.

    Several processes may do so at once: one migrates, the others wait for it, at most a minute.

    Args:
        database_url: ``sqlite:///path``, ``sqlite:////absolute/path`` or a path, whose folder is made; or
            ``postgresql://…`` with whatever libpq's addresses may say.
        timeout_s: how long any unit of work may take, or each step of one that has many.
        pool_size: connections, at most; each of SQLite's has a thread.

    Raises:
        StoreUnavailable: the database cannot be reached, opened or written to.
        DatabaseUnusable: the address is wrong, or ``migrate`` does not know the tables.
    """
    database = late_database(database_url, timeout_s=timeout_s, pool_size=pool_size)
    try:
        await database.prepared()
    except BaseException:
        await database.close()
        raise
    return database


def late_database(
    database_url: str,
    *,
    timeout_s: float,
    pool_size: int = 5,
    observe_failure: Callable[[Cause], None] = lambda _: None,
) -> Database:
    """Return the database at once, as ``open_database`` does later: with its first use, or a later one if that fails.

    ``observe_failure`` is called with the cause each time a unit of work meets an outage.

    Raises:
        DatabaseUnusable: the address is wrong.
    """

    async def prepare() -> None:
        try:
            migrating = await open_engine(database_url, timeout_s=TIMEOUT_S, connect_s=timeout_s, pool_size=1)
            try:
                with outages_named():
                    await migrate(migrating)
            finally:
                await migrating.dispose()
        except StoreUnavailable as error:
            if engine.dialect.name != "sqlite" or error.cause not in NO_ROOM:
                raise
            async with unchanged_file(engine) as connection:
                if await connection.run_sync(_revisions) != {HEAD}:
                    raise
            raise OnlyReadable(str(error), error.cause) from error

    engine = make_engine(database_url, timeout_s=timeout_s, connect_s=timeout_s, pool_size=pool_size)
    return Database(engine, timeout_s=timeout_s, prepare=prepare, observe_failure=observe_failure)


async def check_database(database_url: str, *, timeout_s: float) -> None:
    """Find out whether the database is one that this gateway can use; one that is away is waited for while serving.

    Raises:
        DatabaseUnusable: as ``open_database``.
    """
    try:
        await (await open_database(database_url, timeout_s=timeout_s)).close()
    except StoreUnavailable as error:
        if error.cause == "pooler_unsupported":
            raise DatabaseUnusable(
                f"the pooler before it refuses what a gateway needs ({error}); pgbouncer has to be in session or "
                "transaction mode, and the address without options of the server",
                error.cause,
            ) from error


async def migrate(engine: AsyncEngine) -> None:
    """Run what is missing, all or none. Nothing is locked or written if nothing is missing.

    Raises:
        DatabaseUnusable: the tables are those of a newer gateway, or of one before release 0.1.0.
    """
    async with engine.connect() as connection:
        if await connection.run_sync(_revisions) == {HEAD}:
            return
    async with migration_lock(engine) as connection:
        if await connection.run_sync(_revisions) != {HEAD}:  # nobody else has done it meanwhile
            await connection.run_sync(_upgrade)


@asynccontextmanager
async def migration_lock(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction that no other migrating process has at the same time.

    In SQLite that is any writing transaction; in PostgreSQL an advisory lock, which ends with the transaction.
    """
    async with engine.execution_options(sqlite_begin="BEGIN IMMEDIATE").begin() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        yield connection


def _revisions(connection: Connection) -> set[str]:
    if not inspect(connection).has_table(VERSION_TABLE):
        return set()
    return set(connection.scalars(select(column("version_num")).select_from(table(VERSION_TABLE))))


def _upgrade(connection: Connection) -> None:
    # Alembic takes 7 MB that are never given back, and there is rarely anything to do.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "gateway.store:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise DatabaseUnusable(
            "the database was made by a newer gateway, or by one before release 0.1.0; this one cannot use it",
            "newer_schema",
        ) from error
