"""The store through a real pgbouncer: session and transaction mode serve, statement mode is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.settings import Settings
from gateway.store.database import Transaction
from gateway.store.decisions import DecisionFilter
from gateway.store.leases import Leases
from gateway.store.migrate import check_database, open_database
from gateway.store.outages import DatabaseUnusable, StoreUnavailable
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.in_process_app import Web, png, wait_ready
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres_server import Server
from tests.support.saved_policies import ALWAYS, CLASSIFIER, moderate, put
from tests.support.stores import decision, opened, save

pytest_plugins = ["tests.support.store_fixtures"]

pytestmark = pytest.mark.heavy  # processes that start and stop

DECISIONS = 60


@pytest.fixture(params=["session", "transaction"])
def pooled_url(request: pytest.FixtureRequest, postgres: Server, tmp_path: Path) -> Iterator[str]:
    """A database of its own behind a pooler; one cannot name a schema in an address of pgbouncer 1.18."""
    name = f"pooled_{request.param}_{tmp_path.name}".lower()
    name = "".join(character if character.isalnum() else "_" for character in name)[-60:]
    postgres.sql(postgres.url(), f"CREATE DATABASE {name}")
    with pgbouncer(postgres, tmp_path, request.param) as address:
        yield f"{address}/{name}"


async def test_two_gateways_share_a_pooler(pooled_url: str) -> None:
    """More connections than the server gets: in transaction mode each transaction may run on another one."""

    async with opened(pooled_url, pool_size=5) as store, opened(pooled_url, pool_size=5) as other:
        for each in (store, other):
            await save(each, f"cats-{id(each)}", {})
        await asyncio.gather(
            *(
                each.decisions.append([decision(number, decision="review")])
                for number in range(DECISIONS)
                for each in (store, other)
            )
        )
        counted = [await each.decisions.page(DecisionFilter(), limit=2 * DECISIONS) for each in (store, other)]
        assert [len(page.records) for page in counted] == [DECISIONS, DECISIONS]
        leases = await asyncio.gather(*(Leases(each.database).take("work", 30) for each in (store, other)))
        assert sorted(leases) == [False, True]


async def test_limits_hold_in_every_transaction(pooled_url: str) -> None:
    async def shown(tx: Transaction) -> tuple[str, ...]:
        names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "jit")
        return tuple([(await tx.execute(text(f"SHOW {name}"))).scalar_one() for name in names])

    async def slow(tx: Transaction) -> None:
        await tx.execute(text("SELECT pg_sleep(30)"))

    async with opened(pooled_url, 2, pool_size=1) as store:
        for run in (store.database.read, store.database.write) * 2:
            assert await run(shown) == ("1600ms", "1600ms", "4s", "off")
        with pytest.raises(StoreUnavailable) as caught:
            await store.database.read(slow)
        assert caught.value.cause == "timeout"
        assert await store.versions.revision() == 0, "the next transaction is not the worse for it"


def test_a_gateway_logs_every_decision_through_a_pooler(pooled_url: str, tmp_path: Path) -> None:
    write_bundle(tmp_path)
    settings = Settings(
        model_repository=tmp_path,
        data_dir=tmp_path / "data",
        log_level="error",
        database_url=pooled_url.replace("gateway@", "gateway:unused@"),
        decode_isolation=False,
        decision_spool_mib=0,
    )
    encoder = FakeEncoder()
    with TestClient(create_app(settings, lambda *_: encoder), base_url="http://localhost") as client:
        web = Web(client, encoder)
        wait_ready(web)
        assert put(web, "/v1/classifiers/scene", CLASSIFIER).status_code == 201
        assert put(web, "/v1/policies/strict", ALWAYS).status_code == 201
        with ThreadPoolExecutor(5) as threads:
            answers = list(threads.map(lambda _: moderate(web, *[png()] * 10), range(20)))
        results = [result for answer in answers for result in answer.json()["results"]]
        assert [result for result in results if not result["decision_id"]] == []
        assert len({result["decision_id"] for result in results}) == len(results) == 200
        logged = [json.loads(line) for line in client.get("/v1/decisions?format=jsonl&limit=500").text.splitlines()]
        assert {line["id"] for line in logged} == {result["decision_id"] for result in results}
        assert client.get("/readyz").json()["status"] == "ready"


async def test_a_pooler_that_splits_transactions_is_refused(postgres: Server, tmp_path: Path) -> None:
    with pgbouncer(postgres, tmp_path, "statement") as address:
        with pytest.raises(DatabaseUnusable, match="session or transaction mode") as refused:
            await check_database(f"{address}/postgres", timeout_s=20)
        assert refused.value.cause == "pooler_unsupported"
        with pytest.raises(StoreUnavailable) as caught:
            await open_database(f"{address}/postgres", timeout_s=20)
        assert caught.value.cause == "pooler_unsupported"
