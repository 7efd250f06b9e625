"""Faults 92 and 93: behind a real gateway Triton is away, dies, loses a model, or serves another bundle."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest

from gateway.inference.bundle import MANIFEST_NAME
from tests.conftest import free_ports
from tests.support.backends import Gateway
from tests.support.fault_rig import (
    DEADLINE_S,
    ENDPOINTS,
    GOOD,
    Rig,
    classify,
    expect_everywhere,
    expect_recovery,
    under_way,
)
from tests.support.fault_table import FaultLog
from tests.support.misbehaving_models import slow, solid
from tests.support.waiting import until

pytestmark = pytest.mark.heavy

pytest_plugins = ["tests.support.fault_rig_fixtures"]


@pytest.mark.timeout(240)
@pytest.mark.heavy
def test_92_a_gateway_before_its_triton(rig: Rig, faults: FaultLog) -> None:
    rig.gateway.wait(200, "/livez")
    if rig.gateway.status() != 200:
        until(lambda: "inference" in rig.gateway.readiness()["failing"])
        faults.expect(92, "gateway started, Triton not yet: readyz", rig.gateway.get("/readyz"), "503")
        expect_everywhere(faults, 92, "gateway started, Triton not yet", rig, "503 model_unavailable")
    rig.ready()
    expect_recovery(faults, 92, "Triton started after the gateway", rig)


@pytest.mark.timeout(240)
@pytest.mark.heavy
def test_92_triton_killed_and_started_again(ready: Rig, faults: FaultLog) -> None:
    assert classify(ready.client).status_code == 200
    process = ready.gateway.process.pid
    ready.triton.kill()
    ready.gateway.wait(503)  # nobody has asked for anything
    start = time.monotonic()
    for _ in range(5):
        expect_everywhere(faults, 92, "Triton killed", ready, "503 model_unavailable")
    assert time.monotonic() - start < DEADLINE_S, "twenty requests together cost less than one deadline"
    assert ready.gateway.status() == 503
    text = ready.client.post("/v1/embeddings", json={"input": ["never seen before"]})
    faults.expect(92, "Triton killed: embeddings of a text", text, "503 model_unavailable")
    ready.triton.start()
    expect_recovery(faults, 92, "Triton killed and started again", ready)
    assert ready.gateway.process.pid == process
    assert ready.gateway.process.poll() is None


def test_92_an_inference_whose_connection_breaks_is_asked_again(ready: Rig, faults: FaultLog) -> None:
    for _ in range(20):  # a tenth of all calls is asked again: Triton's absence may have cost what was saved up
        classify(ready.client)
    before = ready.line.connections
    with ThreadPoolExecutor(1) as pool:
        answer = under_way(ready, pool, classify, ready.client, solid(slow(8)))
        ready.line.cut()
        faults.expect(92, "the connection to Triton breaks under an inference", answer.result(), "200")
    assert ready.line.connections > before


def test_92_a_line_that_keeps_breaking_is_not_hammered(ready: Rig) -> None:
    ready.gateway.wait()
    over = threading.Event()

    def keep_cutting() -> None:
        while not over.wait(0.3):
            ready.line.cut()

    cutting = threading.Thread(target=keep_cutting)
    cutting.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: classify(ready.client, solid(slow(6))), range(24)))
    finally:
        over.set()
        cutting.join()
    seen = Counter((answer.status_code, answer.json().get("code")) for answer in answers)
    assert set(seen) <= {(200, None), (503, "model_unavailable"), (503, "overloaded")}, seen
    ready.gateway.wait(200)
    assert classify(ready.client).status_code == 200


@pytest.mark.timeout(240)
def test_93_a_model_is_unloaded(ready: Rig, faults: FaultLog) -> None:
    ready.triton.unload()
    ready.gateway.wait(503)
    faults.expect(93, "clip_image unloaded: readyz", ready.gateway.get("/readyz"), "503")
    expect_everywhere(faults, 93, "clip_image unloaded", ready, "503 model_unavailable")
    ready.triton.load()
    expect_recovery(faults, 93, "clip_image unloaded and loaded again", ready)


@pytest.mark.heavy
def test_93_the_process_of_a_model_dies(ready: Rig, faults: FaultLog) -> None:
    """Triton stays ready and fails what reaches the instance; the launcher starts it again, which is tested there."""
    psutil.Process(ready.triton.stub()).kill()
    answers = [classify(ready.client) for _ in range(10)]
    for answer in answers:
        faults.expect(93, "the process of a model instance dies", answer, "200", "503 model_unavailable")
    ready.triton.kill()
    ready.triton.start()
    ready.gateway.wait(200)


def test_93_another_bundle_than_the_gateways(ready: Rig, tmp_path: Path, faults: FaultLog) -> None:
    for name in (MANIFEST_NAME, "tokenizer.json"):
        shutil.copy(ready.triton.repository / name, tmp_path / name)
    manifest = json.loads((tmp_path / MANIFEST_NAME).read_text())
    (tmp_path / MANIFEST_NAME).write_text(json.dumps({**manifest, "bundle_id": "0123456789abcdef"}))
    grpc = str(ready.triton.settings.grpc_port)
    gateway = Gateway(tmp_path, free_ports(1)[0], TRITON_GRPC_PORT=grpc, MODEL_REPOSITORY=str(tmp_path))
    try:
        gateway.wait(200, "/livez")
        until(lambda: "bundle" in gateway.readiness()["failing"], gateway.tail)
        with httpx2.Client(base_url=gateway.url, timeout=30) as client:
            for name, ask in ENDPOINTS.items():
                answer = ask(client, GOOD)
                faults.expect(93, f"Triton serves another bundle: {name}", answer, "503 model_unavailable")
        assert gateway.status() == 503
    finally:
        assert gateway.stop() == 0
