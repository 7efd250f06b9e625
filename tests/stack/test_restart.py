"""A whole stack under load: Triton is killed and comes back by itself; then the stack is told to stop."""

from __future__ import annotations

import contextlib
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
from tests.support.drawings import LABELS, encoded, shape
from tests.support.fault_table import FaultLog
from tests.support.waiting import until

WORKERS = 4


def triton_pids(stack: Stack) -> list[int]:
    """The server's and its stubs' processes below the stack's own."""
    family = psutil.Process(stack.process.pid).children(recursive=True)
    return [process.pid for process in family if process.is_running() and "triton" in process.name().lower()]


def gateway_pid(stack: Stack) -> int:
    family = psutil.Process(stack.process.pid).children(recursive=True)
    return next(process.pid for process in family if "gateway" in process.cmdline())


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def readiness(stack: Stack) -> int:
    try:
        return httpx2.get(f"{stack.gateway_url}/readyz", timeout=5).status_code
    except httpx2.TransportError:
        return 0


def wait_for(stack: Stack, status: int) -> None:
    until(lambda: readiness(stack) == status, lambda: f"/readyz never answered {status}")


@pytest.mark.timeout(300)
@pytest.mark.heavy
def test_92_102_a_killed_triton_comes_back_and_a_stack_told_to_stop_loses_nothing(
    stack: Stack, tmp_path: Path, faults: FaultLog
) -> None:
    picture = encoded(shape("a red circle"))
    with running_stack(tmp_path, stack.model_repository, MODEL="demo", SHUTDOWN_DELAY_S="3") as victim:
        answers: Counter[tuple[int, str]] = Counter()
        wrong: list[str] = []
        over = threading.Event()

        def load() -> None:
            with httpx2.Client(base_url=victim.gateway_url, timeout=30) as client:
                while not over.is_set():
                    try:
                        answer = client.post("/v1/classify", files={"file": picture}, data={"labels": list(LABELS)})
                    except httpx2.HTTPError as error:
                        wrong.append(repr(error))
                        return
                    body = answer.json()
                    answers[answer.status_code, body.get("code", "")] += 1
                    if answer.status_code == 200 and body["results"][0]["scores"][0]["label"] != "a red circle":
                        wrong.append(answer.text)
                    if answer.status_code != 200:
                        time.sleep(0.02)

        threads = [threading.Thread(target=load) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        until(lambda: answers[200, ""] > 0)
        gateway = gateway_pid(victim)
        for pid in triton_pids(victim):
            os.kill(pid, signal.SIGKILL)
        wait_for(victim, 503)
        assert httpx2.get(f"{victim.gateway_url}/livez").status_code == 200
        wait_for(victim, 200)
        returned = answers[200, ""]
        until(lambda: answers[200, ""] > returned)
        assert gateway_pid(victim) == gateway
        assert answers[503, "model_unavailable"] > 0
        what = "Triton is killed under load and comes back by itself"
        for status, problem in list(answers):
            faults.expect(92, what, f"{status} {problem}".strip(), "200", "503 model_unavailable")
        family = [
            victim.process.pid,
            *(child.pid for child in psutil.Process(victim.process.pid).children(recursive=True)),
        ]
        before = answers.copy()
        victim.process.send_signal(signal.SIGTERM)
        wait_for(victim, 503)  # what stands before it turns away now
        over.set()
        for thread in threads:
            thread.join()
        code = stop(victim.process)
        answered = set(answers - before)
        assert answered <= {(200, "")}, answered
        told = f"{len(wrong)} lost, exit code {code}"
        faults.expect(102, "SIGTERM to the launcher under load: accepted requests", told, "0 lost, exit code 0")
        until(lambda: not any(is_alive(pid) for pid in family))
