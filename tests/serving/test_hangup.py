"""A terminal that closes: what runs in it drains, and loses no request."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import psutil
import pytest

from gateway.decoding.workers import worker
from tests.conftest import ROOT, Stack, free_ports
from tests.support.gateway_processes import is_ready
from tests.support.in_process_app import png
from tests.support.raw_http import Upload
from tests.support.waiting import until

pytestmark = pytest.mark.heavy  # processes that start and stop


class Terminal:
    """A program that leads the session of a terminal, as what a person starts in one."""

    def __init__(self, *words: str, **environment: str) -> None:
        self.master, slave = pty.openpty()
        self.process = psutil.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def close(self) -> None:
        """Close it: the kernel sends SIGHUP to all that runs in its foreground, and nothing can be written any more."""
        os.close(self.master)


@pytest.mark.parametrize("words", [("-m", "gateway"), ("-m", "scripts.serve", "--no-triton")], ids=" ".join)
def test_a_closed_terminal_ends_no_request(words: tuple[str, ...], stack: Stack, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    terminal = Terminal(
        *words,
        GATEWAY_PORT=str(port),
        TRITON_GRPC_PORT=stack.triton_grpc_address.split(":")[1],
        MODEL_REPOSITORY=str(stack.model_repository),
        DATA_DIR=str(tmp_path),
        SHUTDOWN_DELAY_S="0",
    )
    try:
        until(lambda: is_ready(f"http://127.0.0.1:{port}"))
        upload = Upload(port, png())
        children = terminal.process.children(recursive=True)
        decoders = [child for child in children if worker.__name__ in " ".join(child.cmdline())]
        assert decoders
        terminal.close()
        for child in (terminal.process, *decoders):  # a shell passes it on, and the kernel sends it once more
            child.send_signal(signal.SIGHUP)
        answer = upload.finish()
        assert answer.status_code == 200, answer.text
        assert terminal.process.wait(60) == 0
    finally:
        if terminal.process.is_running():
            terminal.process.terminate()
            try:
                terminal.process.wait(60)
            except subprocess.TimeoutExpired:
                terminal.process.kill()
