"""A pytest plugin: one rig for all tests of a process that break what stands behind a gateway."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest

from tests.conftest import Stack, free_ports
from tests.support.backends import Behind, Gateway
from tests.support.fault_rig import DEADLINE_S, STORE_TIMEOUT_S, Rig
from tests.support.severable_tcp import Line


@pytest.fixture(scope="session")
def rig(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The gateway is started first, and nothing behind it."""
    folder = tmp_path_factory.mktemp("behind")
    with ExitStack() as exits:
        ports = free_ports(5)
        triton = Behind(stack.model_repository, folder, ports[:3])
        exits.callback(triton.kill)
        line = Line(ports[3], triton.settings.grpc_port)
        exits.callback(line.close)
        data = folder / "data"
        data.mkdir()
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", data], capture_output=True, check=False
        )
        if mount.returncode == 0:
            exits.callback(lambda: subprocess.run(["umount", "--lazy", data], check=True))
        gateway = Gateway(
            folder,
            ports[4],
            TRITON_GRPC_PORT=str(ports[3]),
            MODEL_REPOSITORY=str(triton.repository),
            REQUEST_TIMEOUT_S=str(DEADLINE_S),
            STORE_TIMEOUT_S=str(STORE_TIMEOUT_S),
            DECISION_SPOOL_MIB="0",  # what happens without one; with one: tests/moderation, tests/serving
        )
        exits.callback(gateway.stop)
        client = exits.enter_context(httpx2.Client(base_url=gateway.url, timeout=30))
        yield Rig(gateway, triton, line, client, mount.returncode == 0)


@pytest.fixture
def ready(rig: Rig) -> Rig:
    rig.ready()
    return rig
