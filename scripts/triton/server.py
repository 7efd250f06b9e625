"""Starts one tritonserver, tells whether it is ready, and stops it with everything it started."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.triton import leftovers
from scripts.triton.wheel import Server

LOOPBACK = "127.0.0.1"
PR_SET_PDEATHSIG = 1
STUBS = {
    # Threads of one inference that wait for each other sleep after some microseconds, and leave the cores to others.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "10000",
    # Everybody else's work is short and comes first: a thread that takes a picture in need not wait for a batch.
    "TRITON_STUB_NICE": "5",
    # A batch's memory is kept for the next one, in huge pages. As glibc would have it, each operation of each batch
    # maps its result anew and touches it page by page: 2,300 page faults a picture, an eighth of the whole time.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 25),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Of the processes that compute; what the launcher's own environment says comes before."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a stack's Triton is started with.

    Attributes:
        repository: model repository.
        data_dir: of the stack: its backends are laid out there, and its name is derived from it.
        http_port: on loopback.
        grpc_port: on loopback.
        metrics_port: on loopback.
        ready_timeout_s: from start to ready; loading and warming up a large model takes minutes.
        stop_timeout_s: for requests in flight at a stop.
    """

    repository: Path
    data_dir: Path
    http_port: int
    grpc_port: int
    metrics_port: int
    ready_timeout_s: float = 600.0
    stop_timeout_s: float = 30.0

    @property
    def prefix(self) -> str:
        """Return what every process and shared-memory region of this stack carries in its name."""
        return leftovers.stack_prefix(self.data_dir)


def command(server: Server, backends: Path, settings: Settings) -> list[str]:
    """Return the command line of tritonserver."""
    return [
        str(server.binary),
        f"--model-repository={settings.repository.resolve()}",
        f"--backend-directory={backends.resolve()}",
        "--model-control-mode=none",
        "--strict-readiness=true",
        "--exit-on-error=true",
        f"--exit-timeout-secs={int(settings.stop_timeout_s)}",
        f"--http-address={LOOPBACK}",
        f"--http-port={settings.http_port}",
        f"--grpc-address={LOOPBACK}",
        f"--grpc-port={settings.grpc_port}",
        f"--metrics-address={LOOPBACK}",
        f"--metrics-port={settings.metrics_port}",
        f"--backend-config=python,shm-region-prefix-name={settings.prefix}",
    ]


def environment(server: Server) -> dict[str, str]:
    """Return the environment: the server's libraries, this Python first in the path, and how the stubs compute."""
    own = os.environ
    libraries = [str(server.libraries), own.get("LD_LIBRARY_PATH", "")]
    return {
        **STUBS,
        **own,
        "LD_LIBRARY_PATH": ":".join(path for path in libraries if path),
        "PATH": f"{Path(sys.executable).parent}:{own.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }


class RunningTriton:
    """One tritonserver process and its stubs, in a session of their own."""

    def __init__(self, server: Server, backends: Path, settings: Settings, log: Callable[[str], None]) -> None:
        self._settings = settings
        crowd = backends.resolve() / "crowd"  # where the stubs tell each other that they compute
        crowd.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            command(server, backends, settings),
            env=environment(server) | {"TRITON_CROWD_FILE": str(crowd)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent(),  # noqa: PLW1509 - one system call, made before any thread matters
        )
        self._reader = threading.Thread(target=self._hand_on, args=(log,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Return the process id of tritonserver."""
        return self._process.pid

    def stubs(self) -> frozenset[int]:
        """Return the ids of the processes that hold the model instances."""
        return frozenset(leftovers.processes(self._settings.prefix)) - {self.pid}

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def is_ready(self) -> bool:
        """Tell whether all models are loaded, warmed up and answering."""
        connection = http.client.HTTPConnection(LOOPBACK, self._settings.http_port, timeout=2)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """Let requests in flight finish, then end the server, its stubs and their shared memory."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._settings.stop_timeout_s + 5)
        self.kill()

    def kill(self) -> None:
        """End everything at once and clear it away; also after the server ended by itself."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        leftovers.clear(self._settings.prefix)
        self._reader.join(timeout=2)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()

    def _hand_on(self, log: Callable[[str], None]) -> None:
        assert self._process.stdout is not None  # noqa: S101 - opened above
        for line in self._process.stdout:
            log(line.decode(errors="replace").rstrip())


def end_with_parent() -> Callable[[], None]:
    """Return what makes the kernel end a child with SIGTERM when the launcher dies without stopping it."""
    library = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask
