"""``python -m scripts.serve``: the whole stack on this machine - export, Triton, gateway - until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.export.order import read_order
from scripts.export.refusal import ExportRefused
from scripts.export.sizing import Wish
from scripts.triton.failure import TritonFailed
from scripts.triton.ports import require_free
from scripts.triton.server import LOOPBACK, Settings, end_with_parent
from scripts.triton.supervisor import BACKOFF_FIRST_S, BACKOFF_MOST_S, STEADY_S, TritonSupervisor

DRAIN_S, DELAY_S = 30.0, 1.0  # the gateway's own defaults
MARGIN_S = 5.0
POLL_S = 0.1
WISHES = ("INSTANCES", "TEXT_INSTANCES", "THREADS")


class StackFailed(Exception):
    """The stack cannot run; the text is one sentence saying what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as the environment describes it; API.md names the variables.

    Attributes:
        model: ``MODEL``.
        precision: ``PRECISION``.
        device: ``DEVICE``.
        wish: ``INSTANCES``, ``TEXT_INSTANCES``, ``THREADS``.
        gateway_host: ``GATEWAY_HOST``.
        gateway_port: ``GATEWAY_PORT``.
        triton: ports, ``MODEL_REPOSITORY`` and ``DATA_DIR``.
        environment: what the gateway is started with: the variables above, filled in.
    """

    model: str
    precision: str
    device: str
    wish: Wish
    gateway_host: str
    gateway_port: int
    triton: Settings
    environment: Mapping[str, str]


def read_stack(environment: Mapping[str, str]) -> Stack:
    """Read the environment.

    Raises:
        StackFailed: a port or a count is no number.
    """
    defaults = {
        "MODEL": "demo",
        "PRECISION": "fp32",
        "DEVICE": "auto",
        "GATEWAY_HOST": LOOPBACK,
        "GATEWAY_PORT": "8000",
        "TRITON_HTTP_PORT": "8100",
        "TRITON_GRPC_PORT": "8101",
        "TRITON_METRICS_PORT": "8102",
        "MODEL_REPOSITORY": "./model_repository",
        "DATA_DIR": "./data",
    }
    given = {name: environment.get(name) or default for name, default in defaults.items()}

    def port(name: str) -> int:
        try:
            return int(given[name])
        except ValueError:
            raise StackFailed(f"{name}={given[name]} is no number: give a port from 1 to 65535") from None

    def count(name: str) -> int:
        text = environment.get(name) or "0"
        if not text.isdecimal():
            raise StackFailed(f"{name}={text} is no number: give how many, or 0 to leave it to the export")
        return int(text)

    triton = Settings(
        repository=Path(given["MODEL_REPOSITORY"]),
        data_dir=Path(given["DATA_DIR"]),
        http_port=port("TRITON_HTTP_PORT"),
        grpc_port=port("TRITON_GRPC_PORT"),
        metrics_port=port("TRITON_METRICS_PORT"),
    )
    return Stack(
        model=given["MODEL"],
        precision=given["PRECISION"],
        device=given["DEVICE"],
        wish=Wish(*(count(name) for name in WISHES)),
        gateway_host=given["GATEWAY_HOST"],
        gateway_port=port("GATEWAY_PORT"),
        triton=triton,
        environment={**environment, **given},
    )


class Gateway:
    """The gateway as a child process, started again with a growing pause when it dies."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._started = 0.0
        self._start_at = 0.0
        self._was_ready = False

    def poll(self) -> None:
        """Start it when it is time to; note when it died.

        Raises:
            StackFailed: it ended before it was ever ready, so a restart would not help.
        """
        now = time.monotonic()
        if self._process is None:
            if now >= self._start_at:
                self._started = now
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "gateway"],
                    env=dict(self._stack.environment),
                    start_new_session=True,
                    preexec_fn=end_with_parent(),  # noqa: PLW1509 - one system call
                )
            return
        code = self._process.poll()
        if code is None:
            return
        self._process = None
        if not self._was_ready:
            raise StackFailed(f"the gateway ended with code {code} before it was ready: its log above says why")
        if now - self._started > STEADY_S:
            self._failures = 0
        wait_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2**self._failures)
        self._failures += 1
        self._start_at = now + wait_s
        say(f"the gateway ended with code {code}: starting it again in {wait_s:g} s")

    def is_ready(self) -> bool:
        """Ask ``GET /readyz``."""
        host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(self._stack.gateway_host, self._stack.gateway_host)  # noqa: S104
        connection = http.client.HTTPConnection(host, self._stack.gateway_port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            ready = connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        self._was_ready |= ready
        return ready

    def stop(self, *, hurry: Callable[[], bool]) -> None:
        """Let it drain for as long as its settings say, then end it; at once when ``hurry`` says so."""
        if self._process is None:
            return
        self._process.terminate()
        deadline = time.monotonic() + drain_s(self._stack.environment) + MARGIN_S
        while self._process.poll() is None and time.monotonic() < deadline and not hurry():
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def drain_s(environment: Mapping[str, str]) -> float:
    """Return how long the gateway may take to end: it has checked the two settings itself."""
    given = {"DRAIN_TIMEOUT_S": DRAIN_S, "SHUTDOWN_DELAY_S": DELAY_S}
    return sum(float(environment.get(name) or default) for name, default in given.items())


class StopSignals:
    """Counts SIGTERM and SIGINT: the first asks to stop, a second one to hurry.

    A pipe wakes who waits. An event would not do: its lock may be held by the very code that the handler interrupts,
    and then the handler waits for ever.
    """

    def __init__(self) -> None:
        self._count = 0
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __call__(self, *_: object) -> None:
        """Take a signal, as its handler."""
        self._count += 1
        with contextlib.suppress(BlockingIOError):  # full: whoever reads has long been woken
            os.write(self._wake, b".")

    def stopped(self) -> bool:
        """Tell whether one came."""
        return self._count > 0

    def hurried(self) -> bool:
        """Tell whether a second one came."""
        return self._count > 1

    def wait(self, seconds: float) -> bool:
        """Sleep, but not past a signal; tell whether one came."""
        select.select([self._woken], [], [], seconds)
        return self.stopped()

    def close(self) -> None:
        """Give up the pipe."""
        os.close(self._woken)
        os.close(self._wake)


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Catch SIGTERM and SIGINT for a while."""
    caught = StopSignals()
    before = {number: signal.signal(number, caught) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        caught.close()


def export_if_needed(stack: Stack, signals: StopSignals) -> None:
    """Run the export in a process of its own, unless the bundle is there: its memory is given back when it ends.

    Raises:
        ExportRefused: the order cannot be read.
        StackFailed: the export failed; it has said why.
    """
    repository = stack.triton.repository
    wish = stack.wish
    if read_order(stack.model, stack.precision, stack.device, wish).is_in(repository):
        return
    words = ["--model", stack.model, "--precision", stack.precision, "--device", stack.device]
    words += [f"--instances={wish.instances}", f"--text-instances={wish.text_instances}", f"--threads={wish.threads}"]
    command = [sys.executable, "-m", "scripts.export", *words, "--repository", str(repository)]
    process = subprocess.Popen(command, start_new_session=True)
    while (code := process.poll()) is None:
        if signals.wait(POLL_S):
            process.send_signal(signal.SIGINT)
            process.wait()
            return
    if code != 0:
        raise StackFailed("the model could not be exported")


def run(stack: Stack, signals: StopSignals, *, with_gateway: bool) -> None:
    """Run a stack until a signal comes, and stop it.

    Raises:
        StackFailed, TritonFailed, ExportRefused: with the reason.
    """
    triton = TritonSupervisor(stack.triton, lambda line: say(line, "triton"))
    gateway = Gateway(stack) if with_gateway else None
    try:
        triton.prepare()
        if gateway is not None:
            require_free({"GATEWAY_PORT": (stack.gateway_host, stack.gateway_port)})
        export_if_needed(stack, signals)
        if signals.stopped():
            return
        triton.start()
        if not triton.wait_ready(cancelled=signals.stopped):
            return
        announced = gateway is None
        if gateway is None:
            announce(stack, with_gateway=False)
        while not signals.wait(POLL_S):
            triton.poll()
            if gateway is not None:
                gateway.poll()
                if not announced and gateway.is_ready():
                    announce(stack, with_gateway=True)
                    announced = True
    finally:
        if signals.stopped():
            say("stopping")
        if gateway is not None:
            gateway.stop(hurry=signals.hurried)
        triton.stop()


def announce(stack: Stack, *, with_gateway: bool) -> None:
    """Print where the stack listens."""
    triton = stack.triton
    if with_gateway:
        address = f"http://{stack.gateway_host}:{stack.gateway_port}"
        say(f"gateway        {address}   (docs {address}/docs)")
    say(f"Triton gRPC    {LOOPBACK}:{triton.grpc_port}")
    say(f"Triton HTTP    http://{LOOPBACK}:{triton.http_port}")
    say(f"Triton metrics http://{LOOPBACK}:{triton.metrics_port}/metrics")
    say("ready; Ctrl-C stops everything")


def say(line: str, who: str = "serve") -> None:
    """Print a line, marked with who says it."""
    with contextlib.suppress(OSError, ValueError):  # a reader that has gone is no reason to stop
        print(f"{who} | {line}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.serve", description=__doc__)
    parser.add_argument("--no-gateway", action="store_true", help="run Triton alone")
    given = parser.parse_args(arguments)
    with stop_signals() as signals:
        try:
            run(read_stack(os.environ), signals, with_gateway=not given.no_gateway)
        except (StackFailed, TritonFailed, ExportRefused) as failed:
            print(f"serve: {failed}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
