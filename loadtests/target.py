"""The stack that is put under load: one that runs already, or one started for the purpose."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 900.0  # the first start exports the model
STOP_TIMEOUT_S = 90.0
LOG_LINES = 15


class NoStack(Exception):
    """There is no stack to load; the text says why in one line and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a stack is.

    Attributes:
        gateway_url: without a slash at its end.
        grpc_address: ``host:port`` of Triton.
        tokenizer: the served bundle's ``tokenizer.json``.
    """

    gateway_url: str
    grpc_address: str
    tokenizer: Path


def described(environment: Mapping[str, str]) -> Target:
    """Return the stack that the environment describes, running or not; LOADTEST_URL says where its gateway is."""
    host = environment.get("GATEWAY_HOST", "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - where it listens, not where we do
    return Target(
        gateway_url=environment.get("LOADTEST_URL", "").rstrip("/")
        or f"http://{host}:{environment.get('GATEWAY_PORT', '8000')}",
        grpc_address=f"{environment.get('TRITON_HOST', '127.0.0.1')}:{environment.get('TRITON_GRPC_PORT', '8101')}",
        tokenizer=Path(environment.get("MODEL_REPOSITORY", "model_repository")) / "tokenizer.json",
    )


def ask(gateway_url: str, path: str, body: object = None, timeout_s: float = 30.0) -> tuple[int, Any]:
    """Return status and JSON (None where it is none) of one request; status 0 when nothing answers.

    With the API key of CLIP_API_KEY, if there is one.
    """
    parts = urlsplit(gateway_url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        if body is None:
            connection.request("GET", path, headers=key_headers())
        else:
            headers = {"Content-Type": "application/json", **key_headers()}
            connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, None


def key_headers() -> dict[str, str]:
    """Return the header that carries the API key of CLIP_API_KEY, or none."""
    key = os.environ.get("CLIP_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def is_running(target: Target) -> bool:
    """Tell whether a gateway answers there and is ready.

    Raises:
        NoStack: something answers, but is not ready.
    """
    status, body = ask(target.gateway_url, "/readyz")
    if status in {0, 200}:
        return status == 200
    failing = ", ".join(body.get("failing", [])) if isinstance(body, dict) else ""
    raise NoStack(f"{target.gateway_url} answers but is not ready ({failing or status}): wait for it, or stop it")


def accepts_connections(address: str) -> bool:
    """Tell whether something listens at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def without_grpc(target: Target) -> str | None:
    """Return why Triton cannot be loaded directly, or None."""
    if not accepts_connections(target.grpc_address):
        return f"no Triton listens at {target.grpc_address}: set TRITON_HOST and TRITON_GRPC_PORT"
    if not target.tokenizer.is_file():
        return f"{target.tokenizer} is missing: set MODEL_REPOSITORY"
    return None


@contextmanager
def started(environment: Mapping[str, str], picture_address: str) -> Iterator[Target]:
    """Run ``python -m scripts.serve`` on free ports and with a data folder of its own; stop it at the end.

    Args:
        environment: as for ``make serve``: MODEL, PRECISION, DEVICE, MODEL_REPOSITORY, DATA_DIR.
        picture_address: ``host:port`` that the gateway may fetch from although it is not public; empty for none.

    Raises:
        NoStack: it did not come up.
    """
    data_dir = Path(environment.get("DATA_DIR", "data")) / "loadtest"
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "serve.log"
    names = ("GATEWAY_PORT", "TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
    own = {
        **environment,
        **dict(zip(names, map(str, free_ports(len(names))), strict=True)),
        "LOADTEST_URL": "",
        "GATEWAY_HOST": "127.0.0.1",
        "TRITON_HOST": "127.0.0.1",
        "MODEL_REPOSITORY": str(Path(environment.get("MODEL_REPOSITORY", "model_repository")).resolve()),
        "DATA_DIR": str(data_dir.resolve()),
        "FETCH_TEST_ALLOWED_HOSTS": picture_address,
        "GATEWAY_API_KEYS": "",  # on loopback, for as long as it is loaded
        "GATEWAY_API_KEYS_FILE": "",
    }
    target = described(own)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.serve"],
            cwd=ROOT,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the stack
        )
    try:
        _wait(process, target, log)
        yield target
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], target: Target, log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while ask(target.gateway_url, "/readyz", timeout_s=5)[0] != 200:
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline_s:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
            raise NoStack(f"the stack {'ended' if ended else 'was not ready'}; the end of {log}:\n{tail}")
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Return ports that are free at this moment, all different."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
