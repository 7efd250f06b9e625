"""The tables: made from nothing, by whoever comes first, and the same as the code says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store import list_import
from gateway.store.audit import Actor
from gateway.store.database import Transaction, open_engine
from gateway.store.lists import HashList
from gateway.store.migrate import HEAD, open_database
from gateway.store.schema import metadata
from tests.support.stores import ROOT, Store, another_process, opened, save

pytest_plugins = ["tests.support.store_fixtures"]

RESOURCES = [
    ("classifier", "cats", 1, 2),
    ("classifier", "drafts", None, 1),
    ("policy", "gone", None, 3),
    ("policy", "p", 1, 2),
    ("policy", "q", 2, 2),
]
VERSIONS = [
    ("classifier", "cats", 1, None),
    ("classifier", "cats", 2, None),
    ("classifier", "drafts", 1, None),
    ("policy", "p", 1, "old"),
    ("policy", "p", 2, "new"),
    ("policy", "q", 1, "old"),
    ("policy", "q", 2, "new"),
]

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


async def alembic(database_url: str, *command: str) -> None:
    """Run Alembic as from the command line."""
    run = [sys.executable, "-m", "alembic", "-x", f"url={database_url}", *command]
    await asyncio.to_thread(subprocess.run, run, cwd=ROOT, check=True, capture_output=True)


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction, to a database whose tables are left as they are."""
    engine = await open_engine(database_url, timeout_s=10, connect_s=10, pool_size=1)
    async with engine.begin() as connection:
        yield connection
    await engine.dispose()


async def test_opening_again_changes_nothing(database_url: str) -> None:
    async with opened(database_url) as store:
        version = (await save(store, "cats", {})).version
    async with opened(database_url) as store:
        assert await store.versions.shown("classifier") == (version,)


async def test_the_tables_are_those_of_the_schema(store: Store) -> None:
    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)

    async with store.database._engine.connect() as connection:
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
        assert [version.name for version in await store.versions.shown("classifier")] == ["one", "two"]


async def test_tables_of_a_newer_gateway_are_left_alone(database_url: str) -> None:
    async def pretend(tx: Transaction) -> None:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    async with opened(database_url) as store:
        await store.database.write(pretend)
    with pytest.raises(ValueError, match="newer"):
        await open_database(database_url, timeout_s=5)


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
        assert await store.versions.revision() == 0


async def test_lists_survive_the_way_back_and_forth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_import, "AT_ONCE", 10)
    url = f"sqlite:///{tmp_path}/gateway.sqlite"
    hashes = sorted(f"{number:064x}" for number in range(60))
    async with opened(url) as store:
        await store.lists.put(HashList("bad", "block", "sha256", 0), actor=Actor("me"))
        for start in range(0, 60, 20):
            await store.lists.add("bad", hashes[start : start + 20], actor=Actor("me"))
        before = await store.lists.every()
    await alembic(url, "downgrade", "0001")
    async with opened(url) as store:
        assert await store.lists.every() == before
        assert list(await store.lists.read("bad", after=None, limit=99)) == hashes
        assert await store.lists.changes_since("bad", since=before[0].revision - 1) is None


async def test_what_was_active_stays_so_for_the_bundle_that_each_policy_pins(database_url: str) -> None:
    await alembic(database_url, "upgrade", "0003")
    async with connected(database_url) as connection:
        for resource in RESOURCES:
            row = dict(zip(("kind", "name", "active", "latest"), resource, strict=True))
            await connection.execute(text("INSERT INTO resources VALUES (:kind, :name, :active, :latest)"), row)
        for version in VERSIONS:
            row = dict(zip(("kind", "name", "number", "bundle_id"), version, strict=True))
            made = (
                "INSERT INTO versions VALUES (:kind, :name, :number, '{}', '{}', :bundle_id, 'd', '2026-05-01 12:00')"
            )
            await connection.execute(text(made), row)
    async with opened(database_url) as store:
        for bundle_id in ("old", "new"):
            versions = store.seen_by(bundle_id)
            classifiers = [
                (one.name, one.number, one.active, one.foreign) for one in await versions.shown("classifier")
            ]
            assert classifiers == [("cats", 1, True, False), ("drafts", 1, False, False)]
            policies = [(one.name, one.number, one.active) for one in await versions.shown("policy")]
            assert policies == [("p", 1, bundle_id == "old"), ("q", 2, bundle_id == "new")]
            assert await versions.was_deleted("policy", "gone")
    await alembic(database_url, "downgrade", "0003")
    async with connected(database_url) as connection:
        rows = await connection.execute(text("SELECT kind, name, active, latest FROM resources ORDER BY kind, name"))
        assert [tuple(row) for row in rows] == RESOURCES


async def test_classifiers_stay_active_where_no_policy_names_a_bundle(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/gateway.sqlite"
    async with opened(url) as store:
        await save(store, "cats", {})
    await alembic(url, "downgrade", "0003")
    async with opened(url) as store:
        assert [one.active for one in await store.versions.shown("classifier")] == [True]


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
