"""Killing Triton under load: 503 with the right code, /readyz says so, service returns without a gateway restart."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.conftest import Stack, running_stack, stop
from tests.drawings import LABELS, encoded, shape

RETURN_TIMEOUT_S = 90
WORKERS = 4


def triton_pids(stack: Stack) -> list[int]:
    """The server's and its stubs' processes below the stack's own."""
    family = psutil.Process(stack.process.pid).children(recursive=True)
    return [process.pid for process in family if process.is_running() and "triton" in process.name().lower()]


def gateway_pid(stack: Stack) -> int:
    family = psutil.Process(stack.process.pid).children(recursive=True)
    return next(process.pid for process in family if "gateway" in process.cmdline())


def readiness(stack: Stack) -> int:
    try:
        return httpx2.get(f"{stack.gateway_url}/readyz", timeout=5).status_code
    except httpx2.TransportError:
        return 0


def wait_for(stack: Stack, status: int) -> None:
    end = time.monotonic() + RETURN_TIMEOUT_S
    while time.monotonic() < end:
        if readiness(stack) == status:
            return
        time.sleep(0.05)
    pytest.fail(f"/readyz never answered {status}")


@pytest.mark.timeout(300)
def test_92_a_killed_triton_costs_503_and_comes_back(stack: Stack, tmp_path: Path) -> None:
    picture = encoded(shape("a red circle"))
    with running_stack(tmp_path, stack.model_repository, MODEL="demo") as victim:
        answers: Counter[tuple[int, str]] = Counter()
        wrong: list[str] = []
        over = threading.Event()

        def load() -> None:
            with httpx2.Client(base_url=victim.gateway_url, timeout=30) as client:
                while not over.is_set():
                    answer = client.post("/v1/classify", files={"file": picture}, data={"labels": list(LABELS)})
                    body = answer.json()
                    answers[answer.status_code, body.get("code", "")] += 1
                    if answer.status_code == 200 and body["results"][0]["scores"][0]["label"] != "a red circle":
                        wrong.append(answer.text)
                    if answer.status_code != 200:
                        time.sleep(0.02)

        threads = [threading.Thread(target=load) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        gateway = gateway_pid(victim)
        served_before = answers[200, ""]
        assert served_before > 0
        for pid in triton_pids(victim):
            os.kill(pid, signal.SIGKILL)
        wait_for(victim, 503)
        assert httpx2.get(f"{victim.gateway_url}/livez").status_code == 200
        wait_for(victim, 200)
        returned = answers[200, ""]
        time.sleep(1)
        over.set()
        for thread in threads:
            thread.join()
        assert gateway_pid(victim) == gateway
        assert not wrong
        assert answers[200, ""] > returned
        assert answers[503, "model_unavailable"] > 0
        assert {status for status, _ in answers} <= {200, 503}, answers
        family = [
            victim.process.pid,
            *(child.pid for child in psutil.Process(victim.process.pid).children(recursive=True)),
        ]
        assert stop(victim.process) == 0
        time.sleep(0.5)
        assert not [pid for pid in family if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
