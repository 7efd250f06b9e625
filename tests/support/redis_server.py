"""A real Redis of the tests' own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import free_ports
from tests.support.waiting import until


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def redis_server(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a server, yield its address and process, and stop it."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed here: counting together is checked where it is")
    (port,) = free_ports(1)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: process.poll() is not None or listens(port))
            assert process.poll() is None, "redis-server ended"
            yield f"redis://127.0.0.1:{port}/0", process
        finally:
            process.terminate()
