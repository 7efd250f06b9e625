"""A gateway that is killed while it delivers: every event still arrives, and those of an image in their order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.api.test_reviews import fill, waiting
from tests.conftest import ROOT, free_ports
from tests.support.fake_encoder import write_bundle
from tests.support.waiting import until
from tests.support.webhook_receiver import SECRET, Receiver, receiving

IMAGES = 3
EVENTS = 9
START_S = 120.0


@contextmanager
def gateway(folder: Path, receiver: Receiver, port: int) -> Iterator[tuple[httpx2.Client, subprocess.Popen[bytes]]]:
    """Run a gateway without a model server, which reviewing does not need; kill it in the end, if it still runs."""
    settings = {
        "MODEL_REPOSITORY": str(folder),
        "DATA_DIR": str(folder / "data"),
        "GATEWAY_PORT": str(port),
        "WEBHOOK_URL": receiver.url,
        "WEBHOOK_SECRET": SECRET,
        "WEBHOOK_TIMEOUT_S": "3",
        "STORE_TIMEOUT_S": "2",
        "DECODE_ISOLATION": "false",
        "DECISION_RETENTION_DAYS": "0",
        "LOG_LEVEL": "error",
    }
    process = subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, env={**os.environ, **settings})
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

            def alive() -> bool:
                assert process.poll() is None, "the gateway ended"
                try:
                    return client.get("/livez").status_code == 200
                except httpx2.TransportError:
                    return False

            until(alive, lambda: "the gateway does not answer", START_S)
            yield client, process
    finally:
        process.kill()
        process.wait()


@pytest.mark.heavy
def test_a_gateway_killed_while_it_delivers_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    fill(tmp_path, *(waiting(n, image_sha256=f"{n % IMAGES:064x}") for n in range(1, EVENTS + 1)))
    (port,) = free_ports(1)
    made: list[str] = []
    # The third attempt and those beside it are never answered: the gateway is killed while it waits.
    with receiving(lambda number, _: 204 if number < 2 or number > 4 else "hang") as receiver:
        with gateway(tmp_path, receiver, port) as (client, process):
            for _ in range(EVENTS):
                case = client.post("/v1/reviews/claim", json={"reviewer": "ann"}).raise_for_status().json()
                body = {"claim": case["claim"]["token"], "decision": "block"}
                client.post(f"/v1/reviews/{case['id']}/verdict", json=body).raise_for_status()
                made.append(case["id"])
            until(lambda: len(receiver.got) >= 3, lambda: f"{len(receiver.got)} attempts", START_S)
            process.kill()
        with gateway(tmp_path, receiver, port) as (client, _):

            def counts() -> dict[str, int]:
                found: dict[str, int] = client.get("/v1/webhooks/deliveries").json()["counts"]
                return found

            until(lambda: counts()["delivered"] == EVENTS, lambda: f"{counts()}", START_S)
    firsts = list(dict.fromkeys(receiver.arrived()))
    assert sorted(firsts) == sorted(made), "each arrived at least once"
    lasts = list(dict.fromkeys(reversed(receiver.arrived())))[::-1]
    for order in (firsts, lasts):
        for image in range(IMAGES):
            of_image = [name for name in order if int(name, 16) % IMAGES == image]
            assert of_image == [name for name in made if int(name, 16) % IMAGES == image]
    assert len({got.id for got in receiver.got}) == EVENTS, "an event keeps its id"
