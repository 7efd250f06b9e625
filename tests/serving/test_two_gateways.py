"""Two gateway processes on one database: no version is lost, and a change is live in the other within two seconds."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import Stack
from tests.stack.test_service import batches_above_one
from tests.support.drawings import COLOURS, LABELS, SHAPES, encoded, shape
from tests.support.fault_table import FaultLog
from tests.support.gateway_processes import more_gateways
from tests.support.postgres_server import Server
from tests.support.waiting import until

pytest_plugins = ["tests.support.store_fixtures"]

pytestmark = pytest.mark.heavy

WRITERS = 10
LIVE_WITHIN_S = 2.0
FEW = 6


def classifier(text: str) -> dict[str, Any]:
    return {"labels": ["a red circle", "a blue square"], "description": text}


@pytest.fixture(scope="module")
def two(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The addresses of two gateways on one database."""
    with more_gateways(stack, 2, tmp_path_factory.mktemp("two")) as addresses:
        yield addresses


async def test_ten_concurrent_writers_over_two_processes_lose_no_version(two: list[str]) -> None:
    addresses = two
    async with httpx2.AsyncClient(timeout=60) as client:

        async def write(number: int) -> tuple[int, str]:
            url = f"{addresses[number % 2]}/v1/classifiers/contended"
            answer = await client.put(url, json=classifier(f"writer {number}"))
            assert answer.status_code in {200, 201}, answer.text
            return answer.json()["version"], answer.json()["description"]

        written = await asyncio.gather(*(write(number) for number in range(WRITERS)))
        versions = (await client.get(f"{addresses[0]}/v1/classifiers/contended/versions")).json()["data"]
    assert sorted(number for number, _ in written) == list(range(1, WRITERS + 1))
    assert {(entry["version"], entry["description"]) for entry in versions} == set(written)


def test_a_change_is_live_in_the_other_process(two: list[str]) -> None:
    labels = [
        {"label": "star", "prompts": [f"a {colour} star" for colour in COLOURS]},
        {"label": "other", "prompts": [label for label in LABELS if "star" not in label]},
    ]
    rule = {"category": "stars", "classifier": "stars", "labels": ["star"], "block_at": 0.5}
    picture = encoded(shape("a red star"))
    writer, reader = two
    with httpx2.Client(timeout=30) as client:
        client.put(f"{writer}/v1/classifiers/stars", json={"labels": labels}).raise_for_status()
        client.put(f"{writer}/v1/policies/p", json={"rules": [rule], "views": "full"}).raise_for_status()
        saved = time.monotonic()
        while True:
            answer = client.post(f"{reader}/v1/moderate", files={"file": picture}, data={"policy": "p"})
            if answer.status_code == 200:
                break
            assert time.monotonic() - saved < LIVE_WITHIN_S, answer.text
            time.sleep(0.02)
        assert answer.json()["results"][0]["decision"] == "block"
        # Another version: the active one moves on, the old one can still be asked for by its number.
        client.put(
            f"{writer}/v1/policies/p", json={"rules": [{**rule, "block_at": None, "review_at": 0.5}], "views": "full"}
        )
        saved = time.monotonic()
        while True:
            result = client.post(f"{reader}/v1/moderate", files={"file": picture}, data={"policy": "p"}).json()[
                "results"
            ][0]
            if result["policy"]["version"] == 2:
                break
            assert time.monotonic() - saved < LIVE_WITHIN_S
            time.sleep(0.02)
        assert result["decision"] == "review"
        old = client.post(f"{reader}/v1/moderate", files={"file": picture}, data={"policy": "p@1"}).json()["results"][0]
        assert (old["policy"]["version"], old["decision"]) == (1, "block")


def test_a_policy_pins_what_another_process_has_just_saved(two: list[str]) -> None:
    rule = {"category": "red", "classifier": "fresh", "labels": ["a red circle"], "block_at": 0.5}
    first, second = two
    with httpx2.Client(timeout=30) as client:
        for number in range(1, 6):
            saved = client.put(f"{first}/v1/classifiers/fresh", json=classifier(f"text {number}")).json()
            assert saved["version"] == number
            policy = client.put(f"{second}/v1/policies/pinned", json={"rules": [rule]})
            assert policy.json()["classifiers"] == {"fresh": number}, policy.text


def large_text_batches(stack: Stack) -> dict[int, int]:
    """Batches by size, larger than what gateways ask by themselves: single texts, of a few gateways at a time."""
    return {size: count for size, count in batches_above_one(stack, "clip_text").items() if size > FEW}


def test_a_new_gateway_is_ready_without_a_text_inference(stack: Stack, tmp_path: Path) -> None:
    labels = [f"{colour} {size} {shape_}" for colour in COLOURS for size in ("small", "large") for shape_ in SHAPES]
    body = {"mode": "independent", "labels": labels, "templates": ["a {}", "the {}"]}
    question = {"images": [{"base64": base64.b64encode(encoded(shape("a red star"))).decode()}], "classifier": "many"}
    with more_gateways(stack, 1, tmp_path) as (first,), httpx2.Client(timeout=30) as client:
        before = large_text_batches(stack)
        client.put(f"{first}/v1/classifiers/many", json=body).raise_for_status()
        client.post(f"{first}/v1/classify", json=question).raise_for_status()
        computed = large_text_batches(stack)
        assert computed != before
        with more_gateways(stack, 1, tmp_path) as (second,):
            answer = client.post(f"{second}/v1/classify", json=question)
        assert large_text_batches(stack) == computed
    assert len(answer.json()["results"][0]["scores"]) == len(labels), answer.text


def test_98_without_the_database_what_is_in_force_goes_on_serving(
    stack: Stack, tmp_path: Path, postgres: Server, faults: FaultLog
) -> None:
    picture = encoded(shape("a blue square"))
    environment = {"DATABASE_URL": postgres.new_database(), "STORE_TIMEOUT_S": "1"}
    with more_gateways(stack, 1, tmp_path, **environment) as (address,), httpx2.Client(base_url=address) as client:

        def moderate() -> Any:
            answer = client.post("/v1/moderate", files={"file": picture}, timeout=30)
            faults.expect(
                98, "PostgreSQL stops and comes back: moderate with a saved policy, throughout", answer, "200"
            )
            return answer.json()["results"][0]

        def degraded(wanted: list[str]) -> None:
            until(lambda: client.get("/readyz").json()["degraded"] == wanted)

        assert moderate()["decision_id"] is not None
        postgres.stop()
        try:
            degraded(["store"])
            faults.expect(98, "PostgreSQL is stopped: readyz", client.get("/readyz"), "200")
            assert client.get("/readyz").json()["causes"] == {"store": "refused"}
            without = moderate()
            assert without["decision"] == "allow"
            assert "decision_not_logged" not in without["warnings"], "it is kept on disk"
            refused = client.put("/v1/classifiers/x", json=classifier("x"), timeout=30)
            faults.expect(98, "PostgreSQL is stopped: a classifier is saved", refused, "503 storage_unavailable")
        finally:
            postgres.start()
        degraded([])
        assert moderate()["decision_id"] is not None
        until(lambda: client.get(f"/v1/decisions/{without['decision_id']}").status_code == 200)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_four_that_start_at_once_make_the_tables_and_the_scenarios_once(
    stack: Stack, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    environment = {}
    if kind == "postgresql":
        postgres: Server = request.getfixturevalue("postgres")
        environment["DATABASE_URL"] = postgres.new_database()
    with more_gateways(stack, 4, tmp_path, **environment) as addresses, httpx2.Client(timeout=30) as client:
        rows = client.get(f"{addresses[0]}/v1/audit", params={"limit": 100}).json()["data"]
        seeded = [(row["kind"], row["name"]) for row in rows if row["actor"] == "seed" and row["action"] == "save"]
        assert len(seeded) == len(set(seeded)) > 0
        for address in addresses:
            data = client.get(f"{address}/v1/policies").json()["data"]
            assert {(entry["name"], entry["version"]) for entry in data} >= {("default", 1)}
    logs = [path.read_text() for path in tmp_path.glob("gateway-*.log")]
    assert sorted(log.count("scenario saved") for log in logs) == [0, 0, 0, len(seeded)], "one did all of it"
    assert not any("error" in log for log in logs)
