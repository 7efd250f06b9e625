"""Keeps a Triton running: starts it, waits until it is ready, starts it again when it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from gateway.inference.bundle import BundleError, read_manifest
from scripts.export.lock import hold_for_serving
from scripts.triton import leftovers
from scripts.triton.failure import TritonFailed
from scripts.triton.ports import require_free
from scripts.triton.server import LOOPBACK, RunningTriton, Settings
from scripts.triton.wheel import find_server, lay_out_backends

BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0
# A server that has run this long was healthy: its next failure starts the back-off anew.
STEADY_S = 60.0
# A server that was ready and has not been for this long is hung or has lost a model.
UNREADY_LIMIT_S = 20.0
READY_CHECK_S = 1.0


class TritonSupervisor:
    """Owns a stack's Triton from start to stop.

    Used from one thread: ``prepare``, ``start``, ``poll`` now and then, ``stop``.
    """

    def __init__(self, settings: Settings, log: Callable[[str], None]) -> None:
        self._settings = settings
        self._log = log
        self._running: RunningTriton | None = None
        self._locks: list[int] = []
        self._backends = Path()
        self._failures = 0
        self._started = 0.0
        self._start_at: float | None = None
        self._last_ready: float | None = None
        self._next_check = 0.0
        self._stubs: frozenset[int] = frozenset()
        self.ready = False

    @property
    def pid(self) -> int | None:
        """Return the process id of tritonserver, None between two."""
        return None if self._running is None else self._running.pid

    def prepare(self) -> None:
        """Take the stack's data folder, clear what an earlier run left, and check server and ports. Starts nothing.

        Raises:
            TritonFailed: no server for this machine, another stack has the folder, or a port is taken.
        """
        self._server = find_server()
        self._take_data_dir()
        processes, regions = leftovers.clear(self._settings.prefix)
        if processes or regions:
            self._log(f"cleared {processes} processes and {regions} shared-memory regions of an earlier run")
        require_free(
            {
                "TRITON_HTTP_PORT": (LOOPBACK, self._settings.http_port),
                "TRITON_GRPC_PORT": (LOOPBACK, self._settings.grpc_port),
                "TRITON_METRICS_PORT": (LOOPBACK, self._settings.metrics_port),
            }
        )

    def start(self) -> None:
        """Start the server after ``prepare``; ``poll`` tells when it is ready.

        Raises:
            TritonFailed: there is no bundle, or one is being written.
        """
        try:
            bundle = hold_for_serving(self._settings.repository)
        except BlockingIOError:
            raise TritonFailed(
                f"a model is being exported into {self._settings.repository}: wait for it, or give another "
                "MODEL_REPOSITORY"
            ) from None
        if bundle is not None:
            self._locks.append(bundle)
        try:
            read_manifest(self._settings.repository)
        except BundleError as error:
            raise TritonFailed(str(error)) from None
        self._backends = lay_out_backends(self._server, self._settings.data_dir / "triton")
        self._launch()

    def poll(self) -> None:
        """Look after the server: note readiness, restart it when it died, hung or never came up.

        Raises:
            TritonFailed: it died on its first start, before it was ever ready: a restart would not help.
        """
        now = time.monotonic()
        if self._running is None:
            if self._start_at is not None and now >= self._start_at:
                self._launch()
            return
        code = self._running.exit_code()
        if code is not None:
            self._fail(f"Triton ended with {_describe(code)}")
        elif now >= self._next_check:
            self._next_check = now + (READY_CHECK_S if self.ready else 0.1)
            self._check(now)

    def wait_ready(self, *, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Poll until the server is ready; False if cancelled first.

        Raises:
            TritonFailed: as ``poll``.
        """
        while not self.ready:
            if cancelled():
                return False
            self.poll()
            time.sleep(0.05)
        return True

    def stop(self) -> None:
        """Stop the server and leave nothing behind; touch nothing where ``prepare`` was refused the data folder."""
        if self._running is not None:
            self._running.stop()
        self._running = None
        self.ready = False
        while self._locks:
            os.close(self._locks.pop())

    def _take_data_dir(self) -> None:
        folder = self._settings.data_dir / "triton"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            own = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise TritonFailed(f"{folder} cannot be written ({error.strerror}): give another DATA_DIR") from None
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(own)
            raise TritonFailed(
                f"another stack uses {self._settings.data_dir}: stop it first, or give this one another DATA_DIR"
            ) from None
        self._locks.append(own)

    def _launch(self) -> None:
        self._start_at = None
        self._started = time.monotonic()
        self._last_ready = None
        self._running = RunningTriton(self._server, self._backends, self._settings, self._log)

    def _check(self, now: float) -> None:
        assert self._running is not None  # noqa: S101 - the caller looked
        if self._last_ready is not None and not all(leftovers.alive(stub) for stub in self._stubs):
            # Triton stays ready, fails every request that reaches the instance, and does not start it again.
            self._fail("the process of a model instance has died")
        elif self._running.is_ready():
            if self._last_ready is None:
                self._stubs = self._running.stubs()
                self._log(f"ready after {now - self._started:.1f} s")
            self.ready, self._last_ready = True, now
        elif self._last_ready is None:
            if now - self._started > self._settings.ready_timeout_s:
                self._fail(f"Triton was not ready within {self._settings.ready_timeout_s:.0f} s")
        else:
            self.ready = False
            if now - self._last_ready > UNREADY_LIMIT_S:
                self._fail(f"Triton has not been ready for {UNREADY_LIMIT_S:.0f} s")

    def _fail(self, what: str) -> None:
        assert self._running is not None  # noqa: S101 - the caller looked
        never_ready = self._last_ready is None
        self._running.kill()
        self._running = None
        self.ready = False
        if never_ready and self._failures == 0:
            raise TritonFailed(f"{what} before it was ready: its log above says why")
        if not never_ready and time.monotonic() - self._started > STEADY_S:
            self._failures = 0
        wait_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2**self._failures)
        self._failures += 1
        self._start_at = time.monotonic() + wait_s
        self._log(f"{what}: starting it again in {wait_s:g} s")


def _describe(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
