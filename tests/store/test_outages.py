"""A database that is away, locked, full or read-only: always StoreUnavailable, soon, and over when it is over."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from gateway.store.audit import Actor
from gateway.store.database import Transaction
from gateway.store.decisions import DecisionFilter
from gateway.store.lists import HashList
from gateway.store.migrate import open_database
from gateway.store.outages import StoreUnavailable
from gateway.store.versions import Versions
from tests.support.postgres_server import Server
from tests.support.stores import Store, decision, locked, opened, save

pytest_plugins = ["tests.support.store_fixtures"]

SHORT_S = 0.6
SLACK_S = 1.0  # of a busy machine


@contextmanager
def unavailable(within_s: float = SHORT_S) -> Iterator[None]:
    """Check that StoreUnavailable comes, and comes in time."""
    start = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        yield
    assert time.monotonic() - start < within_s + SLACK_S
    assert str(caught.value)
    assert "INSERT" not in str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sqlite"


@asynccontextmanager
async def pragma(path: Path, **pragmas: str) -> AsyncIterator[Store]:
    """Yield a store whose connections have these pragmas."""
    async with opened(str(path), SHORT_S) as store:

        def set_up(connection: Any, _: Any) -> None:
            cursor = connection.cursor()
            for name, value in pragmas.items():
                cursor.execute(f"PRAGMA {name} = {value}")
            cursor.close()

        await store.database._engine.dispose()
        event.listen(store.database._engine.sync_engine, "connect", set_up)
        yield store


async def test_sqlite_locked_by_another_process(path: Path) -> None:
    async with opened(str(path), SHORT_S) as store:
        await save(store, "cats", {"v": 1})
        with locked(path):
            with unavailable():
                await save(store, "cats", {"v": 2})
            with unavailable():
                await store.decisions.append([decision(1)])
            snapshot = await store.versions.snapshot()  # reading goes on
            assert len(snapshot.versions) == 1
        assert (await save(store, "cats", {"v": 2})).version.number == 2


async def test_sqlite_locked_for_a_moment_is_waited_for(path: Path) -> None:
    async with opened(str(path), 10) as store:
        with locked(path):
            writes = [asyncio.create_task(save(store, name, {})) for name in "abc"]
            await asyncio.sleep(0.3)
            assert not any(write.done() for write in writes)
        assert [(await write).new for write in writes] == [True] * 3


async def test_sqlite_locked_before_it_has_any_tables(path: Path) -> None:
    with locked(path), unavailable():
        await open_database(str(path), timeout_s=SHORT_S)
    with locked(path):
        opening = asyncio.create_task(open_database(str(path), timeout_s=10))
        await asyncio.sleep(0.3)
        assert not opening.done()
    await (await opening).close()


async def test_a_gateway_starts_on_a_database_that_is_locked(path: Path) -> None:
    async with opened(str(path)) as store:
        await save(store, "cats", {})
    with locked(path):
        async with opened(str(path), SHORT_S) as store:
            assert len((await store.versions.snapshot()).versions) == 1


async def test_a_disk_that_is_full(path: Path) -> None:
    async with pragma(path, max_page_count="60") as store:
        with unavailable():
            await store.decisions.append([decision(number, vectors=bytes(4000)) for number in range(100)])
        await store.decisions.append([decision(1)])
        assert len((await store.decisions.page(DecisionFilter(), cursor=None, limit=9)).records) == 1
        await store.lists.put(HashList("bad", "block", "sha256", 0), actor=Actor("me"))
        with unavailable():
            await store.lists.add("bad", [f"{number:064x}" for number in range(20_000)], actor=Actor("me"))
        assert (await store.lists.every())[0].entries == 0
        assert await store.lists.read("bad", after=None, limit=9) == ()


async def test_a_file_that_is_read_only(path: Path) -> None:
    async with opened(str(path)) as store:
        await save(store, "cats", {})
    async with pragma(path, query_only="ON") as store:
        assert len((await store.versions.snapshot()).versions) == 1
        with unavailable():
            await save(store, "dogs", {})


async def test_no_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in ("file/below.sqlite", "."):
        with unavailable():
            await open_database(str(tmp_path / place), timeout_s=SHORT_S)


@pytest.fixture
def other_file(path: Path) -> Path:
    path.write_bytes(b"not a database, but long enough to be looked at " * 100)
    return path


async def test_a_file_that_is_something_else(other_file: Path) -> None:
    with unavailable():
        await open_database(str(other_file), timeout_s=SHORT_S)


async def test_tables_that_are_gone(path: Path) -> None:
    async with opened(str(path)) as store:
        with sqlite3.connect(path) as other:
            other.execute("DROP TABLE audit")
        other.close()
        with unavailable():
            await save(store, "cats", {})


async def test_more_callers_than_connections(database_url: str) -> None:
    async with opened(database_url, pool_size=2) as store:
        await asyncio.gather(*(store.decisions.append([decision(number)]) for number in range(40)))
        everything = await asyncio.gather(*(store.decisions.read(decision(number).id) for number in range(40)))
    assert all(everything)


async def test_work_that_is_late_is_abandoned(database_url: str) -> None:
    """The caller goes on after the timeout, whatever the connection does; the next one gets another connection."""

    async def slow(tx: Transaction) -> None:
        await tx.execute(text("UPDATE revisions SET value = 99"))
        await asyncio.sleep(60)

    async with opened(database_url, SHORT_S) as store:
        with unavailable():
            await store.database.write(slow)
        assert (await save(store, "cats", {})).new
        assert await store.versions.revision() == 1


async def test_work_in_steps_has_the_timeout_for_each(database_url: str) -> None:
    async def steps(tx: Transaction) -> str:
        for _ in range(4):
            tx.renew()
            await asyncio.sleep(0.5)
        return "done"

    async with opened(database_url, 1.5) as store:
        assert await store.database.write(steps) == "done"


async def test_a_caller_that_is_cancelled_leaves_nothing_behind(database_url: str) -> None:
    async def slow(tx: Transaction) -> None:
        await tx.execute(text("UPDATE revisions SET value = 99"))
        await asyncio.sleep(60)

    async with opened(database_url, pool_size=1) as store:
        for _ in range(3):
            call = asyncio.create_task(store.database.write(slow))
            await asyncio.sleep(0.05)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert (await save(store, "cats", {})).new
        assert await store.versions.revision() == 1


async def test_closing_ends_what_is_under_way(database_url: str) -> None:
    database = await open_database(database_url, timeout_s=SHORT_S)
    await Versions(database, "bundle", "text").revision()
    await database.close()
    await database.close()


async def test_postgresql_stops_and_comes_back(postgres: Server) -> None:
    async with opened(postgres.new_database()) as store:
        await asyncio.gather(*(store.versions.revision() for _ in range(5)))
        postgres.stop()
        try:
            for _ in range(2):
                with unavailable():
                    await save(store, "cats", {})
                with unavailable():
                    await store.versions.revision()
            with unavailable():
                await open_database(postgres.url(), timeout_s=SHORT_S)
        finally:
            postgres.start()
        for number in range(6):  # the first call already, on every connection of the pool
            assert (await save(store, "cats", {"v": number})).new


async def test_postgresql_that_does_not_answer(postgres: Server) -> None:
    async with opened(postgres.new_database(), SHORT_S) as store:
        await save(store, "cats", {})
        with postgres.frozen():
            for _ in range(3):
                with unavailable():
                    await save(store, "dogs", {})
            with unavailable():
                await open_database(postgres.url(), timeout_s=SHORT_S)
        assert (await save(store, "birds", {})).new


async def test_a_row_that_another_gateway_holds(postgres: Server) -> None:
    url = postgres.new_database()
    async with opened(url) as other, opened(url, SHORT_S) as store:
        held, release = asyncio.Event(), asyncio.Event()

        async def hold(tx: Transaction) -> None:
            await tx.execute(text("SELECT * FROM revisions FOR UPDATE"))
            held.set()
            await release.wait()

        holding = asyncio.create_task(other.database.write(hold))
        await held.wait()
        with unavailable():
            await save(store, "cats", {})
        await store.decisions.append([decision(1)])  # decisions do not wait for it
        release.set()
        await holding
        assert (await save(store, "cats", {})).new


@pytest.mark.parametrize(("state", "what"), [("53100", "disk full"), ("25006", "read only")])
async def test_what_postgresql_says_of_itself(postgres: Server, state: str, what: str) -> None:
    url = postgres.new_database()
    async with opened(url, SHORT_S) as store:
        postgres.sql(
            url,
            f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION '{what}' USING ERRCODE = '{state}'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON decisions EXECUTE FUNCTION refuse();""",
        )
        with pytest.raises(StoreUnavailable, match=what):
            await store.decisions.append([decision(1)])
        postgres.sql(url, "DROP TRIGGER refuse ON decisions")
        await store.decisions.append([decision(1)])


@pytest.mark.parametrize(
    "address",
    ["postgresql://nobody@127.0.0.1:1/none", "postgres://nobody@localhost/none?host=/nowhere&sslmode=disable"],
)
async def test_nobody_listens(address: str) -> None:
    with unavailable():
        await open_database(address, timeout_s=SHORT_S)


async def test_a_database_that_is_not_there(postgres: Server) -> None:
    with unavailable():
        await open_database(postgres.url("missing"), timeout_s=SHORT_S)


async def test_an_address_that_is_wrong() -> None:
    with pytest.raises(ValueError, match="sslmode"):
        await open_database("postgresql://host/db?sslmode=sometimes", timeout_s=SHORT_S)
