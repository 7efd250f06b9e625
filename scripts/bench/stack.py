"""A stack of its own for as long as it is measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from scripts.bench.report import ROOT

FIRST_PORT = int(os.environ.get("BENCH_PORT", "18400"))
START_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack.

    Attributes:
        host: of both.
        port: the gateway's.
        grpc_port: Triton's.
        repository: where its bundle lies.
        data: its DATA_DIR.
        pid: of the process above gateway and Triton.
    """

    host: str
    port: int
    grpc_port: int
    repository: Path
    data: Path
    pid: int

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://{self.host}:{self.port}"


def repository_of(model: str, precision: str, device: str) -> Path:
    """Return where the bundle for a measurement is kept, so that it is exported once."""
    kept = Path(os.environ.get("BENCH_REPOSITORY", ROOT / ".cache" / "bench"))
    return kept / re.sub(r"[^A-Za-z0-9]+", "-", f"{model}-{precision}-{device}").strip("-").lower()


@contextmanager
def stack(
    model: str,
    precision: str,
    device: str,
    settings: Mapping[str, str] | None = None,
    *,
    with_gateway: bool = True,
    checkout: Path = ROOT,
) -> Iterator[Stack]:
    """Run Triton and a gateway on ports of their own, with an empty database, on loopback and without keys.

    Args:
        model: as ``MODEL``.
        precision: as ``PRECISION``.
        device: as ``DEVICE``.
        settings: further environment variables.
        with_gateway: run one; else Triton alone.
        checkout: whose code runs, in its own ``.venv`` where it has one.

    Raises:
        RuntimeError: it does not become ready.
    """
    repository = repository_of(model, precision, device)
    names = ("GATEWAY_PORT", "TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: str(FIRST_PORT + number) for number, name in enumerate(names)}
        environment |= {"MODEL": model, "PRECISION": precision, "DEVICE": device, "REQUEST_TIMEOUT_S": "120"}
        environment |= {"MODEL_REPOSITORY": str(repository), "DATA_DIR": folder, "LOG_LEVEL": "warning"}
        environment |= {"GATEWAY_API_KEYS": "", "GATEWAY_API_KEYS_FILE": "", "DATABASE_URL": ""}
        environment |= dict(settings or {})
        own = checkout / ".venv" / "bin" / "python"
        python = str(own) if checkout != ROOT and own.exists() else sys.executable
        command = [python, "-m", "scripts.serve", *([] if with_gateway else ["--no-gateway"])]
        log = Path(folder) / "stack.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, cwd=checkout, env={**os.environ, **environment}, stdout=out, stderr=out)
        port, grpc_port = int(environment["GATEWAY_PORT"]), int(environment["TRITON_GRPC_PORT"])
        repository = Path(environment["MODEL_REPOSITORY"])
        running = Stack("127.0.0.1", port, grpc_port, repository, Path(folder), process.pid)
        ready = f"{running.url}/readyz"
        if not with_gateway:
            ready = f"http://127.0.0.1:{environment['TRITON_HTTP_PORT']}/v2/health/ready"
        try:
            _wait(ready, process, log)
            yield running
        finally:
            process.terminate()
            process.wait()


def _wait(ready: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not says_ok(ready):
        if process.poll() is not None or time.monotonic() > end:
            sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))
            raise RuntimeError("the stack did not become ready; its output is above")
        time.sleep(0.5)


def is_ready(address: str) -> bool:
    """Return whether a gateway's /readyz answers 200."""
    return says_ok(f"{address}/readyz")


def says_ok(url: str) -> bool:
    """Return whether a URL answers 200."""
    try:
        return httpx2.get(url, timeout=5).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False
