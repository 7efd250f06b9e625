"""One real stack for the whole suite: Triton and the gateway as processes, on the demo model, on free ports."""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.settings import Settings
from scripts.export.order import read_order
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.in_process_app import Web, wait_ready

pytest_plugins = ["tests.support.fault_table"]

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT.parent / "shared" / "golden"
START_TIMEOUT_S = 150
STOP_TIMEOUT_S = 60


@dataclass(frozen=True)
class Stack:
    """A running stack and where to reach it."""

    gateway_url: str
    triton_grpc_address: str
    triton_http_url: str
    triton_metrics_url: str
    model_repository: Path
    data_dir: Path
    picture_port: int
    process: subprocess.Popen[bytes]
    log: Path


# Below the range that outgoing connections take theirs from. Other runs of these tests begin elsewhere in it, where
# their process ids follow each other; and none is given out twice, since whoever gets one binds it later.
PORTS = itertools.cycle(range(20_000, 32_000))
for _ in range(os.getpid() * 1_009 % 12_000):
    next(PORTS)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on and that nobody of this run was given before."""
    found: list[int] = []
    for port in itertools.islice(PORTS, 4_000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


@contextmanager
def running_stack(folder: Path, model_repository: Path, **environment: str) -> Iterator[Stack]:
    """Start ``python -m scripts.serve`` as a user would, yield once it is ready, and stop it by SIGTERM."""
    gateway, http, grpc, metrics, pictures = free_ports(5)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "serve.log"
    settings = {
        "GATEWAY_PORT": str(gateway),
        "TRITON_HTTP_PORT": str(http),
        "TRITON_GRPC_PORT": str(grpc),
        "TRITON_METRICS_PORT": str(metrics),
        "MODEL_REPOSITORY": str(model_repository),
        "DATA_DIR": str(folder / "data"),
        "FETCH_TEST_ALLOWED_HOSTS": f"127.0.0.1:{pictures}",
        "SHUTDOWN_DELAY_S": "0",  # no load balancer stands before it
        **environment,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.serve"],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    stack = Stack(
        gateway_url=f"http://127.0.0.1:{gateway}",
        triton_grpc_address=f"127.0.0.1:{grpc}",
        triton_http_url=f"http://127.0.0.1:{http}",
        triton_metrics_url=f"http://127.0.0.1:{metrics}",
        model_repository=model_repository,
        data_dir=folder / "data",
        picture_port=pictures,
        process=process,
        log=log,
    )
    try:
        wait_until_ready(stack)
        yield stack
    finally:
        stop(process)


def wait_until_ready(stack: Stack, timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait for /readyz; fail with the log's end when the stack dies or takes too long."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if stack.process.poll() is not None:
            break
        try:
            if httpx2.get(f"{stack.gateway_url}/readyz", timeout=2).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"the stack did not become ready:\n{stack.log.read_text(errors='replace')[-4000:]}")


def stop(process: subprocess.Popen[bytes]) -> int:
    """Stop the stack as Ctrl-C or an init system would, and return its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    return process.returncode


@pytest.fixture(scope="session")
def bundle() -> Path:
    """Where the demo model's bundle for tests lives: kept between runs, so that only the first one exports it."""
    repository = ROOT / ".cache" / "test-bundle"
    repository.parent.mkdir(exist_ok=True)
    with repository.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be exporting it
        precision, device = os.environ.get("PRECISION") or "fp32", os.environ.get("DEVICE") or "auto"
        if not read_order("demo", precision, device).is_in(repository):
            words = ["--model", "demo", "--precision", precision, "--device", device, "--repository", str(repository)]
            subprocess.run([sys.executable, "-m", "scripts.export", *words], cwd=ROOT, check=True)
    return repository


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Stack]:
    """The stack on the demo model, shared by all tests that do not break it."""
    with ExitStack() as exits:
        yield exits.enter_context(running_stack(tmp_path_factory.mktemp("stack"), bundle, MODEL="demo"))


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx2.Client]:
    """An HTTP client of the shared stack."""
    with httpx2.Client(base_url=stack.gateway_url, timeout=30) as made:
        yield made


@pytest.fixture(scope="session")
def golden() -> Path:
    """The reference's data; skips with the reason where it is absent."""
    if not GOLDEN.is_dir():
        pytest.skip("../shared/golden is absent: what the real CLIP says is checked where it is present")
    return GOLDEN


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So small a model gains nothing from threads, and on a busy machine they wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def web(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Web]:
    write_bundle(tmp_path)
    # Threads: the tests of the web layer need not wait for processes that decode.
    overrides: dict[str, Any] = {"decode_isolation": False, **getattr(request, "param", {})}
    settings = Settings(model_repository=tmp_path, data_dir=tmp_path / "data", log_level="error", **overrides)
    encoder = FakeEncoder()
    app = create_app(settings, lambda *_: encoder)
    with TestClient(app, base_url="http://localhost") as client:
        made = Web(client, encoder)
        wait_ready(made)
        yield made
