"""The tables: made from nothing, by whoever comes first."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from gateway.store.all_tables import metadata
from gateway.store.database import Transaction
from gateway.store.migrate import HEAD, open_database
from tests.support.stores import ROOT, another_process, opened, save

pytest_plugins = ["tests.support.store_fixtures"]

OPENER = """
import asyncio, sys
from tests.support.stores import opened, save

async def main(url):
    print("ready", flush=True)
    sys.stdin.readline()
    async with opened(url, timeout_s=20) as store:
        assert (await save(store, sys.argv[2], {})).version.number == 1

asyncio.run(main(sys.argv[1]))
"""


async def test_opening_again_changes_nothing(database_url: str) -> None:
    async with opened(database_url) as store:
        version = (await save(store, "cats", {})).version
    async with opened(database_url) as store:
        assert await store.versions.shown("classifier") == (version,)


async def test_two_gateways_start_at_once_on_an_empty_database(database_url: str) -> None:
    processes = [another_process(OPENER, database_url, name) for name in ("one", "two")]
    for process in processes:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    await asyncio.gather(*(asyncio.to_thread(process.communicate, None, 60) for process in processes))
    assert [process.returncode for process in processes] == [0, 0]
    async with opened(database_url) as store:
        assert [version.name for version in await store.versions.shown("classifier")] == ["one", "two"]


@pytest.mark.parametrize("revision", ["9999", "0005"], ids=["of a newer gateway", "from before the release"])
async def test_a_database_that_another_gateway_made_is_left_alone(database_url: str, revision: str) -> None:
    async def pretend(tx: Transaction) -> None:
        await tx.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        await tx.execute(text("DROP TABLE leases"))

    async def tables(tx: Transaction) -> list[str]:
        return await tx.connection.run_sync(lambda connection: sorted(inspect(connection).get_table_names()))

    async with opened(database_url) as store:
        await store.database.write(pretend)
        before = await store.database.read(tables)
        with pytest.raises(ValueError, match="a newer gateway, or by one before release 0"):
            await open_database(database_url, timeout_s=5)
        assert await store.database.read(tables) == before


async def test_a_database_of_the_first_release_gets_the_tables_of_the_schema(tmp_path: Path) -> None:
    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    path = tmp_path / "gateway.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.executescript((ROOT / "tests/store/release_0_1_0.sql").read_text())
    async with opened(str(path)) as store:
        assert await store.database.read(lambda tx: tx.connection.run_sync(differences)) == []
        assert (await save(store, "cats", {})).version.number == 1


def test_the_newest_migration_is_the_one_that_a_gateway_looks_for() -> None:
    config = Config()
    config.set_main_option("script_location", "gateway.store:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_alembic_from_the_command_line(database_url: str) -> None:
    """``check`` fails where the tables are not those of the schema."""
    for command in (["upgrade", "head"], ["check"], ["downgrade", "base"], ["upgrade", "head"]):
        subprocess.run(
            [sys.executable, "-m", "alembic", *command],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": database_url},
            check=True,
            capture_output=True,
        )
    asyncio.run(_usable(database_url))


async def _usable(database_url: str) -> None:
    async with opened(database_url) as store:
        assert await store.versions.revision() == 0


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "sqlite+aiosqlite:///{}"])
async def test_the_ways_to_name_a_file(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("below/here.sqlite", tmp_path / "there" / "absolute.sqlite"):
        async with opened(form.format(path)):
            assert (tmp_path / path).is_file()


@pytest.mark.parametrize("url", ["", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "sqlite:///a?mode=ro"])
async def test_what_is_no_database(url: str) -> None:
    with pytest.raises(ValueError, match=r"SQLite|sqlite"):
        await open_database(url, timeout_s=5)
