"""More gateway processes beside the shared stack: same Triton, a database of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.conftest import ROOT, Stack, free_ports, stop

START_TIMEOUT_S = 60


@contextmanager
def more_gateways(
    stack: Stack, count: int, folder: Path, *, module: str = "gateway", **environment: str
) -> Iterator[list[str]]:
    """Run gateways that share one database; yields their addresses once all are ready."""
    with ExitStack() as exits:
        addresses, processes = [], []
        for number, port in enumerate(free_ports(count)):
            settings = {
                "GATEWAY_PORT": str(port),
                "TRITON_GRPC_PORT": stack.triton_grpc_address.split(":")[1],
                "MODEL_REPOSITORY": str(stack.model_repository),
                "DATA_DIR": str(folder),
                "SHUTDOWN_DELAY_S": "0",
                **environment,
            }
            log = exits.enter_context((folder / f"gateway-{number}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", module], cwd=ROOT, env={**os.environ, **settings}, stdout=log, stderr=log
            )
            exits.callback(stop, process)
            processes.append(process)
            addresses.append(f"http://127.0.0.1:{port}")
        end = time.monotonic() + START_TIMEOUT_S
        for address, process in zip(addresses, processes, strict=True):
            while not is_ready(address):
                if process.poll() is not None or time.monotonic() > end:
                    logs = "".join(path.read_text(errors="replace")[-1500:] for path in folder.glob("gateway-*.log"))
                    pytest.fail(f"a gateway did not become ready:\n{logs}")
                time.sleep(0.05)
        yield addresses


def is_ready(address: str) -> bool:
    """Return whether /readyz answers 200."""
    try:
        return httpx2.get(f"{address}/readyz", timeout=5).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False
