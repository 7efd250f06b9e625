"""The memory of a gateway's container runs out: its decoders go, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from gateway.settings import MIB
from tests.conftest import ROOT, Stack, free_ports, stop
from tests.support.gateway_processes import is_ready
from tests.support.in_process_app import png
from tests.support.memory_cgroup import memory_group
from tests.support.waiting import until

pytestmark = pytest.mark.heavy  # processes that start and stop

ROOM_BYTES = 420 * MIB  # of a gateway with two decoders at rest 150; the images below take as much again, each
FIRST_TO_GO = 1000


@contextmanager
def gateway(
    stack: Stack, folder: Path, words: tuple[str, ...] = (), enter: Callable[[], None] | None = None
) -> Iterator[tuple[str, psutil.Process, Path]]:
    """Run a gateway; yields its address, process and log."""
    (port,) = free_ports(1)
    settings = {
        "GATEWAY_PORT": str(port),
        "TRITON_GRPC_PORT": stack.triton_grpc_address.split(":")[1],
        "MODEL_REPOSITORY": str(stack.model_repository),
        "DATA_DIR": str(folder),
        "DECODE_WORKERS": "2",
        "SHUTDOWN_DELAY_S": "0",
        "LOG_FORMAT": "json",
    }
    log = folder / "gateway.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*words, sys.executable, "-m", "gateway"],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=enter,  # noqa: PLW1509 - one write, before any thread matters
        )
        try:
            address = f"http://127.0.0.1:{port}"
            until(lambda: is_ready(address), lambda: log.read_text()[-2000:])
            yield address, psutil.Process(process.pid), log
        finally:
            stop(process)


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def ask(address: str, picture: bytes) -> httpx2.Response:
    return httpx2.post(f"{address}/v1/moderate", files={"file": picture}, timeout=60)


def test_decoders_go_first(stack: Stack, tmp_path: Path) -> None:
    large = png(size=7000)
    with memory_group(ROOM_BYTES) as group, gateway(stack, tmp_path, enter=group.enter) as (address, process, log):
        inside = [process, *process.children(recursive=True)]
        scores = sorted(score(each.pid) for each in inside)
        assert scores == [score(process.pid)] * 2 + [FIRST_TO_GO] * 2  # the gateway, the one that forks, decoders
        assert score(process.pid) < FIRST_TO_GO
        killed = False
        with ThreadPoolExecutor(4) as pool:
            for _ in range(5):  # decoders of both take turns: mostly the first time
                answers = list(pool.map(lambda data: ask(address, data), [large] * 4))
                assert {answer.status_code for answer in answers} <= {200, 422, 503}, [one.text for one in answers]
                killed = '"cause": "SIGKILL"' in log.read_text()
                if killed:
                    break
        assert killed, log.read_text()[-2000:]
        assert process.is_running()
        assert ask(address, png()).status_code == 200


def test_a_score_that_cannot_be_set_is_told(stack: Stack, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    read_only = (unshare or "unshare", "--mount", "sh", "-c", 'mount -o remount,bind,ro /proc && exec "$@"', "sh")
    if unshare is None or subprocess.run([*read_only, "true"], check=False, capture_output=True).returncode:
        pytest.skip("/proc cannot be made read-only here")
    with gateway(stack, tmp_path, words=read_only) as (address, _, log):
        assert ask(address, png()).status_code == 200
        told = [line for line in log.read_text().splitlines() if "confined less" in line]
        assert len(told) == 1
        assert '"missing": "OOM_SCORE"' in told[0]
