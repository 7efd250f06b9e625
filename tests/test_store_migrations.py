"""The tables: made from nothing, by whoever comes first, and the same as the code says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from gateway.store import list_import
from gateway.store.audit_records import Actor
from gateway.store.database import Transaction
from gateway.store.migrate import HEAD
from gateway.store.records import PictureList
from gateway.store.schema import metadata
from gateway.store.sql import SqlStore, open_store
from tests.stores import ROOT, another_process, opened, save

pytest_plugins = ["tests.store_fixtures"]

OPENER = """
import asyncio, sys
from gateway.store.audit_records import Actor
from gateway.store.sql import open_store

async def main(url):
    print("ready", flush=True)
    sys.stdin.readline()
    store = await open_store(url, timeout_s=20)
    saved = await store.save("classifier", sys.argv[2], {}, pins={}, bundle_id=None, activate=True,
                             actor=Actor("me"))
    assert saved.version.number == 1
    await store.close()

asyncio.run(main(sys.argv[1]))
"""


async def test_opening_again_changes_nothing(database_url: str) -> None:
    async with opened(database_url) as store:
        version = (await save(store, "cats", {})).version
    async with opened(database_url) as store:
        assert await store.names("classifier") == (version,)


async def test_the_tables_are_those_of_the_schema(store: SqlStore) -> None:
    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)

    async with store._database._engine.connect() as connection:
        assert await connection.run_sync(differences) == []


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
        assert [version.name for version in await store.names("classifier")] == ["one", "two"]


async def test_tables_of_a_newer_gateway_are_left_alone(database_url: str) -> None:
    async def pretend(tx: Transaction) -> None:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    async with opened(database_url) as store:
        await store._database.write(pretend)
    with pytest.raises(ValueError, match="newer"):
        await open_store(database_url, timeout_s=5)


def test_the_newest_migration_is_the_one_that_a_gateway_looks_for() -> None:
    config = Config()
    config.set_main_option("script_location", "gateway.store:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_alembic_from_the_command_line(database_url: str) -> None:
    for command in (["upgrade", "head"], ["check"]):
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
        assert await store.revision() == 0


async def test_lists_survive_the_way_back_and_forth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_import, "AT_ONCE", 10)
    url = f"sqlite:///{tmp_path}/gateway.sqlite"
    hashes = sorted(f"{number:064x}" for number in range(60))
    async with opened(url) as store:
        await store.put_list(PictureList("bad", "block", "sha256", 0), actor=Actor("me"))
        for start in range(0, 60, 20):
            await store.add_entries("bad", hashes[start : start + 20], actor=Actor("me"))
        before = await store.lists()
    command = [sys.executable, "-m", "alembic", "-x", f"url={url}", "downgrade", "0001"]
    await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=True, capture_output=True)
    async with opened(url) as store:
        assert await store.lists() == before
        assert list(await store.entries("bad", after=None, limit=99)) == hashes
        assert await store.list_changes("bad", since=before[0].revision - 1) is None


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "sqlite+aiosqlite:///{}"])
async def test_the_ways_to_name_a_file(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("below/here.sqlite", tmp_path / "there" / "absolute.sqlite"):
        async with opened(form.format(path)):
            assert (tmp_path / path).is_file()


@pytest.mark.parametrize("url", ["", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "sqlite:///a?mode=ro"])
async def test_what_is_no_database(url: str) -> None:
    with pytest.raises(ValueError, match=r"SQLite|sqlite"):
        await open_store(url, timeout_s=5)
