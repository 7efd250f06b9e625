"""Parts of the container files, run without a Docker engine: health commands, Triton's command, the proxy."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import http.server
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.inference.bundle import MANIFEST_NAME
from scripts.export.lock import LOCK_NAME
from scripts.triton.wheel import find_server
from tests.conftest import ROOT, free_ports
from tests.deployment.test_compose import services, text_of
from tests.support.http_servers import serving


@contextmanager
def backend(status: int = 200) -> Iterator[int]:
    """A tiny server that answers everything with one status and the size of the body; yields its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = str(len(self.rfile.read(int(self.headers.get("Content-Length", "0"))))).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the base class's form

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        yield port


def test_the_gateways_health_command_works() -> None:
    found = re.search(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", text_of("Dockerfile"), re.MULTILINE)
    assert found is not None
    program, *words = json.loads(found[1])
    assert program == "python"

    def check(port: int) -> int:
        environment = {**os.environ, "GATEWAY_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, timeout=30, check=False)
        return done.returncode

    with backend(200) as port:
        assert check(port) == 0
    with backend(503) as port:
        assert check(port) == 1
    assert check(port) != 0


@contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def wait_for(port: int, path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ask(port, "GET", path)[0] < 300:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(log.read_text(errors="replace")[-2000:])


def test_triton_takes_the_command_locks_the_bundle_and_refuses_shared_memory(tmp_path: Path) -> None:
    """The command of the compose file, run by the server of the wheel on an empty repository."""
    if shutil.which("flock") is None:
        pytest.skip("flock is not installed here; it is in every Ubuntu image, such as Triton's")
    server = find_server()
    models, log, shim = tmp_path / "models", tmp_path / "log", tmp_path / "bin" / "tritonserver"
    models.mkdir()
    (models / LOCK_NAME).touch()
    (models / MANIFEST_NAME).write_text("{}")  # a file beside the models is no model
    shim.parent.mkdir()
    backends = tmp_path / "backends"
    backends.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(str(server.binary))} --backend-directory={backends} "$@"\n')
    shim.chmod(0o755)
    http_port, grpc_port, metrics_port = free_ports(3)
    shell, _, *words = services()["triton"]["command"]
    script = tmp_path / "serve.sh"
    script.write_text((ROOT / "docker" / "triton" / "serve.sh").read_text().replace("/models/", f"{models}/"))
    words = [word.replace("/models", str(models)) for word in words]
    words += [f"--http-port={http_port}", f"--grpc-port={grpc_port}", f"--metrics-port={metrics_port}"]
    words += [f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")]
    environment = {"PATH": f"{shim.parent}:{os.environ['PATH']}", "LD_LIBRARY_PATH": str(server.libraries)}
    environment["READY_URL"] = f"http://127.0.0.1:{http_port}/v2/health/ready"
    with running([shell, str(script), *words], log, **environment) as process:
        wait_for(http_port, "/v2/health/ready", process, log)
        health = services()["triton"]["healthcheck"]["test"]
        assert health[0] == "CMD"
        if shutil.which(health[1]):
            words = [word.replace(":8000/", f":{http_port}/") for word in health[1:]]
            assert subprocess.run(words, capture_output=True, timeout=30, check=False).returncode == 0
        for path in ("/v2/systemsharedmemory/region/x/register", "/v2/repository/index", "/v2/logging"):
            assert ask(http_port, "POST", path, b"{}")[0] == 403, path
        with (models / LOCK_NAME).open("r+") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (models / LOCK_NAME).open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
