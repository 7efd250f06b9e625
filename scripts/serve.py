"""``python -m scripts.serve``: the whole stack on this machine - export, Triton, gateways - until it is told to stop.

Ctrl-C, SIGTERM and SIGHUP stop it.

SIGUSR1 replaces the gateways one by one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.export.order import read_order
from scripts.export.refusal import ExportRefused
from scripts.export.sizing import Wish
from scripts.replicas import GatewayFailed, Replicas
from scripts.triton.failure import TritonFailed
from scripts.triton.ports import require_free
from scripts.triton.server import LOOPBACK, Settings
from scripts.triton.supervisor import TritonSupervisor

POLL_S = 0.1
CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
WISHES = ("INSTANCES", "TEXT_INSTANCES", "THREADS")
OFF = ("false", "0", "no", "off", "f", "n")  # what pydantic takes for false
TOUR = {"REVIEW_IMAGE_URL": "/console/demo/{external_id}.webp", "DECISION_VECTORS": "true"}
"""Settings of the demo, unless given: reviewers see the drawings of the console's tour, and what is like them."""


class StackFailed(Exception):
    """The stack cannot run; the text is one sentence saying what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as the environment describes it; API.md names the variables.

    Attributes:
        model: ``MODEL``.
        precision: ``PRECISION``.
        device: ``DEVICE``.
        target: ``TARGET``.
        format_name: ``FORMAT``.
        wish: ``INSTANCES``, ``TEXT_INSTANCES``, ``THREADS``.
        gateway_host: ``GATEWAY_HOST``.
        gateway_port: ``GATEWAY_PORT``.
        metrics_port: ``GATEWAY_METRICS_PORT``.
        replicas: ``REPLICAS``.
        triton: ports, ``MODEL_REPOSITORY`` and ``DATA_DIR``.
        environment: what the gateway is started with: the variables above, filled in.
    """

    model: str
    precision: str
    device: str
    target: str
    format_name: str
    wish: Wish
    gateway_host: str
    gateway_port: int
    metrics_port: int
    replicas: int
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
        "TARGET": "wheel",
        "FORMAT": "torchscript",
        "GATEWAY_HOST": LOOPBACK,
        "GATEWAY_PORT": "8000",
        "GATEWAY_METRICS_PORT": "0",
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
            raise StackFailed(f"{name}={text} is no number: give how many, or 0 for the default")
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
        target=given["TARGET"],
        format_name=given["FORMAT"],
        wish=Wish(*(count(name) for name in WISHES)),
        gateway_host=given["GATEWAY_HOST"],
        gateway_port=port("GATEWAY_PORT"),
        metrics_port=port("GATEWAY_METRICS_PORT"),
        replicas=max(1, count("REPLICAS")),
        triton=triton,
        environment={**(TOUR if given["MODEL"] == "demo" else {}), **environment, **given},
    )


class Signals:
    """Counts SIGTERM and SIGINT: the first asks to stop, a second one to hurry. Notes SIGUSR1.

    SIGHUP, of a terminal that closes, asks to stop and never to hurry: shells and the kernel send it twice.

    A pipe wakes who waits. An event would not do: its lock may be held by the very code that the handler interrupts,
    and then the handler waits for ever.
    """

    def __init__(self) -> None:
        self._count = 0
        self._roll = False
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __call__(self, number: int, _: object) -> None:
        """Take a signal, as its handler."""
        if number == signal.SIGUSR1:
            self._roll = True
            return
        if number == signal.SIGHUP and self._count:
            return
        self._count += 1
        with contextlib.suppress(BlockingIOError):  # full: whoever reads has long been woken
            os.write(self._wake, b".")

    def stopped(self) -> bool:
        """Tell whether one came."""
        return self._count > 0

    def hurried(self) -> bool:
        """Tell whether a second one came."""
        return self._count > 1

    def roll(self) -> bool:
        """Tell whether a SIGUSR1 came since the last time."""
        told, self._roll = self._roll, False
        return told

    def wait(self, seconds: float) -> bool:
        """Sleep, but not past a signal; tell whether one came."""
        select.select([self._woken], [], [], seconds)
        return self.stopped()

    def close(self) -> None:
        """Give up the pipe."""
        os.close(self._woken)
        os.close(self._wake)


@contextmanager
def caught_signals() -> Iterator[Signals]:
    """Catch ``CAUGHT`` for a while."""
    caught = Signals()
    before = {number: signal.signal(number, caught) for number in CAUGHT}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        caught.close()


def check_gateway(stack: Stack) -> None:
    """Have a gateway look at its settings.

    Raises:
        GatewayFailed: it could not run with them; it has said why.
    """
    command = [sys.executable, "-m", "gateway", "--check"]
    if code := subprocess.run(command, env=dict(stack.environment), start_new_session=True, check=False).returncode:
        raise GatewayFailed("the gateway cannot run with these settings: the line above says why", code)


def export_if_needed(stack: Stack, signals: Signals, *, with_gateway: bool) -> None:
    """Run the export in a process of its own, unless the bundle is there: its memory is given back when it ends.

    Raises:
        ExportRefused: the order cannot be read.
        GatewayFailed: the gateway's settings are wrong, which is better known before than after the export.
        StackFailed: the export failed; it has said why.
    """
    repository = stack.triton.repository
    wish = stack.wish
    options = {"target": stack.target, "format_name": stack.format_name}
    if read_order(stack.model, stack.precision, stack.device, wish, **options).is_in(repository):
        return
    if with_gateway:
        check_gateway(stack)
    words = ["--model", stack.model, "--precision", stack.precision, "--device", stack.device]
    words += ["--target", stack.target, "--format", stack.format_name]
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


def run(stack: Stack, signals: Signals, *, with_triton: bool, with_gateway: bool) -> None:
    """Run a stack until a signal comes, and stop it.

    Raises:
        StackFailed, GatewayFailed, TritonFailed, ExportRefused: with the reason.
    """
    triton = TritonSupervisor(stack.triton, lambda line: say(line, "triton")) if with_triton else None
    gateways = replicas_of(stack) if with_gateway else None
    try:
        if triton is not None:
            triton.prepare()
        if gateways is not None:
            require_free(gateway_ports(stack))
        if triton is not None:
            export_if_needed(stack, signals, with_gateway=with_gateway)
            if signals.stopped():
                return
            triton.start()
            if not triton.wait_ready(cancelled=signals.stopped):
                return
        look_after(stack, signals, triton, gateways)
    finally:
        if signals.stopped():
            say("stopping")
        if gateways is not None:
            gateways.stop(hurry=signals.hurried)
        if triton is not None:
            triton.stop()


def look_after(stack: Stack, signals: Signals, triton: TritonSupervisor | None, gateways: Replicas | None) -> None:
    """Start the gateways, and keep all running until a signal comes.

    Raises:
        GatewayFailed, TritonFailed: with the reason.
    """
    if gateways is not None:
        gateways.start()
    announced = False
    while not signals.wait(POLL_S):
        if triton is not None:
            triton.poll()
        if gateways is not None:
            gateways.poll()
            if signals.roll():
                gateways.roll()
        if not announced and (gateways is None or gateways.ready):
            announce(stack, gateways, with_triton=triton is not None)
            announced = True


def gateway_ports(stack: Stack) -> dict[str, tuple[str, int]]:
    """Return where the gateways will listen, by the setting that says so."""
    ports = {"GATEWAY_PORT": (stack.gateway_host, stack.gateway_port)}
    if stack.metrics_port:
        numbers = enumerate(range(stack.metrics_port, stack.metrics_port + stack.replicas))
        ports |= {f"GATEWAY_METRICS_PORT + {index}": (LOOPBACK, port) for index, port in numbers}
    return ports


def replicas_of(stack: Stack) -> Replicas:
    """Return the gateways of a stack."""
    address = (stack.gateway_host, stack.gateway_port)
    return Replicas(stack.replicas, address, stack.metrics_port, stack.environment, lambda line: say(line, "gateway"))


def announce(stack: Stack, gateways: Replicas | None, *, with_triton: bool) -> None:
    """Print where the stack listens."""
    triton = stack.triton
    if gateways is not None:
        address = f"http://{stack.gateway_host}:{stack.gateway_port}"
        say(f"gateway        {address}   (docs {address}/docs)")
        if stack.environment.get("CONSOLE", "true").lower() not in OFF:
            say(f"console        {address}/console")
        for port in gateways.metrics_ports if stack.replicas > 1 or stack.metrics_port else []:
            say(f"one replica    http://{LOOPBACK}:{port}/metrics")
    if with_triton:
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
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--no-gateway", action="store_true", help="run Triton alone")
    parts.add_argument("--no-triton", action="store_true", help="run gateways alone, for a Triton that runs already")
    given = parser.parse_args(arguments)
    with caught_signals() as signals:
        try:
            stack = read_stack(os.environ)
            run(stack, signals, with_triton=not given.no_triton, with_gateway=not given.no_gateway)
        except (StackFailed, GatewayFailed, TritonFailed, ExportRefused) as failed:
            print(f"serve: {failed}", file=sys.stderr)
            return failed.code if isinstance(failed, GatewayFailed) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
