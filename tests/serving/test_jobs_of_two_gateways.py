"""Jobs on real gateways that share a store: the command's figures, one worker at a time, a worker that is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from click.testing import CliRunner

from gateway.cli.evaluate import evaluate
from scripts.demo.labelled import write
from tests.conftest import Stack, free_ports
from tests.support.backends import Gateway
from tests.support.child_processes import reports_of
from tests.support.waiting import until

WAIT_S = 200
IMAGES, SEED = 60, 11
AT_A_TIME = 16
NOISE = 1e-4


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled drawings, a folder for each class."""
    folder = tmp_path_factory.mktemp("drawings")
    write(folder, IMAGES, SEED)
    return folder


@pytest.fixture
def two(stack: Stack, tmp_path: Path) -> Iterator[list[Gateway]]:
    """Two gateways on one store, with short leases."""
    settings = {
        "TRITON_GRPC_PORT": stack.triton_grpc_address.split(":")[1],
        "MODEL_REPOSITORY": str(stack.model_repository),
        "JOB_LEASE_S": "3",
        "LOG_LEVEL": "info",
    }
    made = [Gateway(tmp_path, port, **settings) for port in free_ports(2)]
    try:
        for gateway in made:
            gateway.wait()
        yield made
    finally:
        for gateway in made:
            gateway.stop()


def upload(address: str, drawings: Path) -> None:
    """Make the set ``drawings`` of a folder for each class."""
    with httpx2.Client(base_url=address, timeout=120) as client:
        assert client.put("/v1/labelled-sets/drawings", json={}).status_code == 201
        for folder in sorted(path for path in drawings.rglob("*") if path.is_dir() and any(path.glob("*.png"))):
            paths = sorted(folder.glob("*.png"))
            name = folder.relative_to(drawings).parts[0]
            labels = [] if name == "harmless" else name.split("+")
            for start in range(0, len(paths), AT_A_TIME):
                files = [("file", (path.name, path.read_bytes())) for path in paths[start : start + AT_A_TIME]]
                answer = client.post(
                    "/v1/labelled-sets/drawings/images", files=files, data={"labels": json.dumps(labels)}
                )
                assert all(one["error"] is None for one in answer.json()["results"]), answer.text


def begun(address: str, **asked: Any) -> str:
    body = {"policy": "default", "source": {"set": "drawings"}, **asked}
    answer = httpx2.post(f"{address}/v1/jobs", json=body, timeout=30)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def job_of(address: str, job: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{address}/v1/jobs/{job}", timeout=30).json()
    return found


def ended(address: str, job: str) -> dict[str, Any]:
    until(lambda: job_of(address, job)["state"] not in {"queued", "running"}, lambda: str(job_of(address, job)), WAIT_S)
    return job_of(address, job)


@pytest.mark.heavy
def test_a_job_has_the_figures_of_the_command(two: list[Gateway], drawings: Path, tmp_path: Path) -> None:
    address = two[0].url
    upload(address, drawings)
    goals = {"block_fpr": 0.3, "catch": 0.4, "confidence": 0.9}
    found = ended(two[1].url, begun(address, goals=goals, calibrate=True))
    assert found["state"] == "done", found
    words = ["--block-fpr", "0.3", "--catch", "0.4", "--confidence", "0.9", "--calibrate"]
    out = tmp_path / "out"
    run = CliRunner().invoke(evaluate, [str(drawings), "--address", address, "--out", str(out), *words])
    assert run.exit_code in {0, 5}, run.output
    expected = json.loads((out / "report.json").read_text())
    told = httpx2.get(f"{address}/v1/jobs/{found['id']}/files/report.json").json()
    assert told["pictures"] == expected["pictures"] > 0
    mine, theirs = ({entry["category"]: entry for entry in report["categories"]} for report in (told, expected))
    assert alike(mine, theirs) == []
    assert alike(told["decisions"], expected["decisions"]) == []
    assert alike(told["thresholds"], expected["thresholds"]) == []
    drafts = {path.stem for path in (out / "draft" / "classifiers").glob("*.yaml")}
    assert set(found["result"]["classifiers"]) == drafts
    assert (found["result"]["draft"] is not None) == (out / "draft" / "policies" / "default.yaml").exists()


def alike(one: Any, other: Any, where: str = "") -> list[str]:
    """Return where two JSON values differ by more than the noise of a batch of floats."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [line for key in one for line in alike(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            line
            for number, pair in enumerate(zip(one, other, strict=True))
            for line in alike(*pair, f"{where}.{number}")
        ]
    if isinstance(one, float) and isinstance(other, float) and abs(one - other) <= NOISE:
        return []
    return [] if one == other else [f"{where}: {one} and {other}"]


@pytest.mark.heavy
def test_a_killed_gateways_job_is_finished_by_the_other(two: list[Gateway], drawings: Path) -> None:
    upload(two[0].url, drawings)
    jobs = [begun(two[0].url) for _ in range(2)]
    by_pid = {gateway.process.pid: gateway for gateway in two}
    until(lambda: any(reports_of(pid) for pid in by_pid), "nobody began", WAIT_S)
    pid = next(pid for pid in by_pid if reports_of(pid))
    (report, *others) = reports_of(pid)
    assert not others, "one at a time"
    os.kill(pid, signal.SIGKILL)
    by_pid[pid].process.wait()
    until(lambda: not report.is_running() or report.status() == psutil.STATUS_ZOMBIE, "its process stays", WAIT_S)
    alive = next(gateway for gateway in two if gateway.process.pid != pid)
    found = [ended(alive.url, job) for job in jobs]
    assert [one["state"] for one in found] == ["done", "done"], alive.tail()
    assert max(one["attempts"] for one in found) == 2
    assert all(httpx2.get(f"{alive.url}/v1/jobs/{job}/files/report.html").status_code == 200 for job in jobs)


@pytest.mark.heavy
def test_no_job_runs_twice_at_once_and_a_gateway_that_ends_gives_its_own_back(
    two: list[Gateway], drawings: Path
) -> None:
    upload(two[0].url, drawings)
    jobs = [begun(gateway.url) for gateway in two * 2]
    seen = 0
    while any(job_of(two[1].url, job)["state"] != "done" for job in jobs):
        running = {
            gateway.process.pid: len(reports_of(gateway.process.pid))
            for gateway in two
            if gateway.process.poll() is None
        }
        states = [job_of(two[1].url, job)["state"] for job in jobs]
        assert "failed" not in states
        assert max(running.values()) <= 1
        seen = max(seen, sum(running.values()))
        if two[0].process.poll() is None and reports_of(two[0].process.pid):
            assert two[0].stop() == 0
        time.sleep(0.1)
    attempts = [job_of(two[1].url, job)["attempts"] for job in jobs]
    assert attempts == [1] * len(jobs), "each was begun once, but for what was given back"
    assert seen >= 1
