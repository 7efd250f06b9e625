"""A pytest plugin: the store on SQLite and on a real PostgreSQL, each test with a database of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.postgres_server import NoServer, Server, running_server
from tests.support.stores import Store, opened


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server for the whole run; whoever stops it starts it again."""
    try:
        with running_server() as server:
            yield server
    except NoServer as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SQLite's file with all tables and nothing in them, to be copied: making them takes about a second."""
    path = tmp_path_factory.mktemp("empty") / "gateway.sqlite"

    async def make() -> None:
        async with opened(f"sqlite:///{path}") as store:
            await store.decisions.check_writable()

    asyncio.run(make())
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store/gateway.sqlite"
    server: Server = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """A store on an empty database, of either kind."""
    async with opened(database_url) as made:
        yield made
