"""One bundle's Triton and gateway, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from scripts.upgrade.clients import DEADLINE_S, OK, UpgradeFailed
from tests.conftest import free_ports

ROOT = Path(__file__).parents[2]


@dataclass
class BundleSide:
    """One bundle: its Triton, and its gateway on an address of its own.

    Attributes:
        model: ``MODEL``.
        repository: its bundle, exported there unless it is.
        host: of the gateway, a loopback address; the port is the same for both sides.
        port: of the gateway.
        folder: for logs and data.
        database_url: of both sides.
    """

    model: str
    repository: Path
    host: str
    port: int
    folder: Path
    database_url: str
    bundle_id: str = ""
    _grpc_port: int = 0
    _gateway: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of the gateway."""
        return f"http://{self.host}:{self.port}"

    @contextmanager
    def triton(self) -> Iterator[None]:
        """Export where that is needed, and run Triton."""
        http_port, self._grpc_port, metrics_port = free_ports(3)
        names = ("TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
        ports = (http_port, self._grpc_port, metrics_port)
        settings = {name: str(port) for name, port in zip(names, ports, strict=True)}
        settings |= {"MODEL": self.model}
        process = self._started("triton", ["-m", "scripts.serve", "--no-gateway"], settings)
        try:
            self._wait(f"http://127.0.0.1:{http_port}/v2/health/ready", process, "triton")
            self.bundle_id = json.loads((self.repository / "manifest.json").read_text())["bundle_id"]
            yield
        finally:
            stopped(process)

    def start(self) -> None:
        """Start the gateway, and wait until it is ready."""
        settings = {
            "GATEWAY_HOST": self.host,
            "GATEWAY_PORT": str(self.port),
            "TRITON_GRPC_PORT": str(self._grpc_port),
            "DATABASE_URL": self.database_url,
            "SHUTDOWN_DELAY_S": "1",
            "MODEL": self.model,
        }
        self._gateway = self._started("gateway", ["-m", "gateway"], settings)
        self._wait(f"{self.url}/readyz", self._gateway, "gateway")

    def stop(self) -> None:
        """Let the gateway finish what it has, and end it.

        Raises:
            UpgradeFailed: it ended otherwise than it should.
        """
        if self._gateway is not None and (code := stopped(self._gateway)):
            raise UpgradeFailed(f"the gateway of {self.model} ended with {code}")
        self._gateway = None

    def kill(self) -> None:
        """End the gateway, if it runs, however it likes."""
        if self._gateway is not None:
            stopped(self._gateway)

    def versions(self) -> Mapping[str, int]:
        """Return the version of each policy in force for its bundle."""
        rows = got(f"{self.url}/v1/policies")["data"]
        return {row["name"]: row["version"] for row in rows if row["active"]}

    def _started(self, what: str, words: list[str], settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
        own = {"MODEL_REPOSITORY": str(self.repository), "DATA_DIR": str(self.folder / "data"), "LOG_LEVEL": "warning"}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{what}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env={**os.environ, **own, **settings}, stdout=log, stderr=log
            )

    def _wait(self, url: str, process: subprocess.Popen[bytes], what: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end and process.poll() is None:
            try:
                if httpx2.get(url, timeout=5).status_code == OK:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.1)
        raise UpgradeFailed(
            f"{what} of {self.model}: {(self.folder / f'{what}.log').read_text(errors='replace')[-2000:]}"
        )


def stopped(process: subprocess.Popen[bytes]) -> int:
    """Ask a process to end, and return its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(120)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def got(url: str, **parameters: str | int) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of a good answer."""
    return httpx2.get(url, params=parameters, timeout=60).raise_for_status().json()


def carry(side: BundleSide, from_bundle: str, to_bundle: str) -> None:
    """Run ``clip-gateway policies carry`` against a gateway.

    Raises:
        UpgradeFailed: it does not end with 0.
    """
    words = ["policies", "carry", "--from-bundle", from_bundle[:12], "--to-bundle", to_bundle[:12], "--activate"]
    program = [sys.executable, "-c", "from gateway.cli.main import main; main()"]
    done = subprocess.run(
        [*program, *words, "shapes", "--address", side.url], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UpgradeFailed(f"carry ended with {done.returncode}: {done.stdout}{done.stderr}")
