"""Faults 98 to 100: a real gateway whose database is locked, full, absent or too new, or changes under a request."""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import Stack, free_ports
from tests.support.backends import Gateway
from tests.support.fault_rig import GOOD, STORE_TIMEOUT_S, Rig, classify, moderate, under_way
from tests.support.fault_table import FaultLog
from tests.support.misbehaving_models import HELD, solid
from tests.support.postgres_server import Server
from tests.support.stores import locked
from tests.support.waiting import until

pytest_plugins = ["tests.support.fault_rig_fixtures", "tests.support.store_fixtures"]

pytestmark = pytest.mark.heavy  # processes that start and stop


def classifier(text: str) -> dict[str, Any]:
    return {"labels": ["a red circle", "a blue square"], "description": text}


def save(rig: Rig, text: str, name: str = "shapes") -> httpx2.Response:
    return rig.client.put(f"/v1/classifiers/{name}", json=classifier(text))


def expect_serving_without_writes(faults: FaultLog, number: int, what: str, rig: Rig) -> None:
    decided = moderate(rig.client)
    faults.expect(number, f"{what}: moderate with a saved policy", decided, "200")
    (result,) = decided.json()["results"]
    assert (result["decision_id"], "decision_not_logged" in result["warnings"]) == (None, True)
    assert result["decision"] in {"allow", "review", "block"}
    faults.expect(number, f"{what}: a classifier is read", rig.client.get("/v1/classifiers/shapes"), "200")
    faults.expect(number, f"{what}: decisions are read", rig.client.get("/v1/decisions"), "200")
    faults.expect(number, f"{what}: readyz", rig.gateway.get("/readyz"), "200")
    assert rig.gateway.readiness()["degraded"] == ["store"]


def expect_writes_again(faults: FaultLog, number: int, what: str, rig: Rig) -> None:
    until(lambda: rig.gateway.readiness()["degraded"] == [], rig.gateway.tail)
    faults.expect(number, f"{what} no more: a classifier is saved", save(rig, f"after {what}"), "200", "201")
    (result,) = moderate(rig.client).json()["results"]
    assert rig.client.get(f"/v1/decisions/{result['decision_id']}").status_code == 200
    with sqlite3.connect(rig.database) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_98_the_database_is_locked(ready: Rig, faults: FaultLog) -> None:
    assert save(ready, "before").status_code in {200, 201}
    before = moderate(ready.client).json()["results"][0]["decision_id"]
    with locked(ready.database, "EXCLUSIVE"):
        refused = {
            "a classifier is saved": save(ready, "while locked"),
            "feedback": ready.client.post(f"/v1/decisions/{before}/feedback", json={"decision": "allow"}),
            "a list is made": ready.client.put("/v1/lists/x", json={"action": "block", "kind": "sha256"}),
            "decisions are forgotten": ready.client.delete("/v1/decisions", params={"external_id": "x"}),
        }
        for name, answer in refused.items():
            faults.expect(98, f"another process locks the database: {name}", answer, "503 storage_unavailable")
        expect_serving_without_writes(faults, 98, "another process locks the database", ready)
        start = time.monotonic()
        assert {moderate(ready.client).status_code for _ in range(5)} == {200}
        assert time.monotonic() - start < 5 * STORE_TIMEOUT_S, "not every request waits for the lock"
    expect_writes_again(faults, 98, "the lock", ready)
    assert ready.client.get("/v1/classifiers/shapes").json()["description"] != "while locked"


@contextmanager
def disk_full(rig: Rig) -> Iterator[None]:
    """Within, nothing more fits on the disk that holds the data."""
    filler = rig.gateway.data_dir / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def files_limited(rig: Rig) -> Iterator[None]:
    """Within, the gateway may make no file longer than the database's log is: what a full disk does, to one process."""
    size = rig.database.with_name("gateway.sqlite-wal").stat().st_size
    pid = rig.gateway.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (max(size, 1), -1))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("full", "what"), [(files_limited, "files may not grow"), (disk_full, "the disk is full")], ids=["limit", "disk"]
)
def test_99_the_disk_is_full(ready: Rig, full: Callable[[Rig], Any], what: str, faults: FaultLog) -> None:
    if full is disk_full and not ready.mounted:
        pytest.skip("a small disk cannot be mounted here; a limit on the size of files stands for it")
    saved = save(ready, f"before: {what}").json()
    with full(ready):
        refused = None
        for number in range(50):  # room that the database has set aside is used up first
            refused = save(ready, f"{what} {number}")
            if refused.status_code not in {200, 201}:
                break
            saved = refused.json()
        assert refused is not None
        faults.expect(99, f"{what}: a classifier is saved", refused, "503 storage_unavailable")
        until(lambda: moderate(ready.client).json()["results"][0]["decision_id"] is None)
        expect_serving_without_writes(faults, 99, what, ready)
        assert ready.client.get("/v1/classifiers/shapes").json()["version"] == saved["version"]
    expect_writes_again(faults, 99, what, ready)


def test_100_a_policy_is_edited_in_flight(ready: Rig, faults: FaultLog) -> None:
    assert save(ready, "for a policy").status_code in {200, 201}
    rule = {"category": "circles", "classifier": "shapes", "labels": ["a red circle"], "block_at": None}

    def put(review_at: float) -> int:
        body = {"rules": [{**rule, "review_at": review_at}], "views": "full"}
        answer = ready.client.put("/v1/policies/edited", json=body)
        assert answer.status_code in {200, 201}, answer.text
        return int(answer.json()["version"])

    old = put(0.4)
    with ThreadPoolExecutor(1) as pool:
        with ready.triton.held():
            started = under_way(ready, pool, moderate, ready.client, solid(HELD), "edited")
            new = put(0.6)
            meanwhile = moderate(ready.client, GOOD, "edited").json()["results"][0]
            assert not started.done()
        assert meanwhile["policy"]["version"] == new == old + 1
        answer = started.result()
    faults.expect(100, "a policy is edited while a request is in flight", answer, "200")
    (result,) = answer.json()["results"]
    assert result["policy"]["version"] == old
    assert result["categories"][0]["review_at"] == 0.4
    logged = ready.client.get(f"/v1/decisions/{result['decision_id']}").json()
    assert logged["policy"]["version"] == old
    faults.expect(
        100, "that request's decision names", f"version {result['policy']['version'] - old + 1} of 2", "version 1 of 2"
    )


@pytest.mark.timeout(240)
def test_98_a_gateway_before_its_database(ready: Rig, tmp_path: Path, postgres: Server, faults: FaultLog) -> None:
    url, started = postgres.new_database(), False
    postgres.stop()
    try:
        gateway = Gateway(
            tmp_path,
            free_ports(1)[0],
            TRITON_GRPC_PORT=str(ready.triton.settings.grpc_port),
            MODEL_REPOSITORY=str(ready.triton.repository),
            DATABASE_URL=url,
            STORE_TIMEOUT_S="1",
        )
        try:
            gateway.wait(200, "/livez")
            until(lambda: gateway.readiness()["failing"] == ["policies", "lists"], gateway.tail)
            with httpx2.Client(base_url=gateway.url, timeout=30) as client:
                unknown = moderate(client)
                faults.expect(98, "gateway started, database not yet: moderate", unknown, "503 storage_unavailable")
                known = classify(client)
                faults.expect(98, "gateway started, database not yet: classify by labels", known, "200")
                started = True
                postgres.start()
                gateway.wait(200)
                decided = moderate(client)
                faults.expect(98, "database started after the gateway: moderate", decided, "200")
                assert decided.json()["results"][0]["decision_id"]
        finally:
            assert gateway.stop() == 0
    finally:
        if not started:
            postgres.start()


def test_a_database_of_a_newer_gateway_is_refused_in_one_sentence(stack: Stack, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "gateway.sqlite") as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
    database.close()
    gateway = Gateway(tmp_path, free_ports(1)[0], DATA_DIR=str(tmp_path), MODEL_REPOSITORY=str(stack.model_repository))
    assert gateway.process.wait(60) == 2
    said = gateway.tail()
    assert "a newer" in said
    assert "Traceback" not in said
