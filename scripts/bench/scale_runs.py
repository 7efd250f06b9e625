"""Replicas of the gateway in front of Tritons of several instances, loaded in turns: rates and processor time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import psutil

from scripts.bench.alternate import alternate
from scripts.bench.client import closed_loop, upload
from scripts.bench.encoder import exported
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.report import ROOT
from scripts.bench.stack import FIRST_PORT, START_TIMEOUT_S, Stack, is_ready, stack

REPLICAS = (1, 2, 4)
INSTANCES = (1, 2)
IN_FLIGHT = 32
SIZES = {"640 x 480": (640, 480), "160 x 120": (160, 120)}
LABELS = [("labels", "a cat"), ("labels", "a dog")]
SAMPLED_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """One load on one gateway.

    Attributes:
        rate: pictures a second.
        server_ms: processor time a picture of the gateway's replicas and of their launcher.
        decode_ms: of its decoders.
        triton_ms: of Triton.
        client_ms: of the client, which has the same cores.
        busiest: processor time of the busiest replica, as a part of one core.
        memory_mib: of the replicas, shared pages divided among them.
    """

    rate: float
    server_ms: float
    decode_ms: float
    triton_ms: float
    client_ms: float
    busiest: float
    memory_mib: float

    @property
    def all_ms(self) -> float:
        """Processor time a picture of everything."""
        return self.server_ms + self.decode_ms + self.triton_ms + self.client_ms


class Usage:
    """Processor time of process trees; a process that ends in between counts up to when it was last seen."""

    def __init__(self, roots: Sequence[psutil.Process]) -> None:
        self._roots = roots
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self.kind: dict[int, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._look(begins=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look for the last time."""
        self._ended.set()
        self._thread.join()
        self._look(begins=False)

    def seconds(self, kind: str) -> list[float]:
        """Return what each process of a kind (``server``, ``decoder``, ``triton``) used meanwhile."""
        return [now - self._first[pid] for pid, now in self._last.items() if self.kind[pid] == kind]

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLED_EVERY_S):
            self._look(begins=False)

    def _look(self, *, begins: bool) -> None:
        for root in self._roots:
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    used = process.cpu_times()
                    self._last[process.pid] = used.user + used.system
                    self._first.setdefault(process.pid, self._last[process.pid] if begins else 0.0)
                    if process.pid not in self.kind:
                        self.kind[process.pid] = _kind(process.cmdline())


def _kind(words: list[str]) -> str:
    if "gateway.decoding.workers.worker" in words:
        return "decoder"
    return "server" if {"gateway", "--no-triton"} & set(words) else "triton"


def measured(model: str, sizes: list[str], plan: Plan) -> dict[tuple[int, int], list[dict[str, Sample]]]:
    """Return the samples of each pair (instances, replicas) by size of the pictures."""
    base = exported(model, plan.precision, plan.device)
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(dir=base.parent)))
        sides: dict[str, Callable[[], dict[str, Sample]]] = {}
        for number, instances in enumerate(INSTANCES):
            repository = linked(base, folder / str(instances))
            settings = {"MODEL_REPOSITORY": str(repository), "INSTANCES": str(instances), "THREADS": "1"}
            names = ("GATEWAY_PORT", "TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
            settings |= {name: str(FIRST_PORT + 4 * number + place) for place, name in enumerate(names)}
            entered = stack(model, plan.precision, plan.device, settings, with_gateway=False)
            running = held.enter_context(entered)
            for replicas in REPLICAS:
                port = FIRST_PORT + 10 + len(sides)
                above = held.enter_context(gateways(running, replicas, port))
                sides[f"{instances} {replicas}"] = partial(_load, running, above, port, sizes, plan.seconds)
        found = alternate(sides, plan.rounds)
    return {(i, g): found[f"{i} {g}"] for i in INSTANCES for g in REPLICAS}


def linked(base: Path, folder: Path) -> Path:
    """Return a copy of a repository whose models are the same files; what is small is copied, as it will be changed."""

    def copy(source: str, target: str) -> None:
        (os.link if source.endswith("model.pt") else shutil.copy2)(source, target)

    shutil.copytree(base, folder, copy_function=copy)
    return folder


@contextmanager
def gateways(triton: Stack, replicas: int, port: int) -> Iterator[psutil.Process]:
    """Run so many replicas of the gateway in front of a Triton; they are stopped, as by SIGSTOP, until asked.

    Otherwise those that are not measured would look after their health with inferences of their own, and to start one
    for each measurement would take longer than to measure: it has to compute its scenarios' texts.

    Raises:
        RuntimeError: they do not become ready.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "GATEWAY_PORT": str(port),
            "REPLICAS": str(replicas),
            "TRITON_GRPC_PORT": str(triton.grpc_port),
            "MODEL_REPOSITORY": str(triton.repository),
            "DATA_DIR": folder,
            "LOG_LEVEL": "error",
            "SHUTDOWN_DELAY_S": "0",
            "REQUEST_TIMEOUT_S": "120",
        }
        settings |= dict.fromkeys(("GATEWAY_API_KEYS", "GATEWAY_API_KEYS_FILE", "DATABASE_URL"), "")
        command = [sys.executable, "-m", "scripts.serve", "--no-triton"]
        child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings})
        above = psutil.Process(child.pid)
        try:
            wait_ready(f"http://{triton.host}:{port}")
            send_signal_to_all(above, "SIGSTOP")
            yield above
        finally:
            send_signal_to_all(above, "SIGCONT")
            child.terminate()
            child.wait()


def wait_ready(address: str) -> None:
    """Wait for a gateway's /readyz.

    Raises:
        RuntimeError: it never answers 200.
    """
    end = time.monotonic() + START_TIMEOUT_S
    while not is_ready(address):
        if time.monotonic() > end:
            raise RuntimeError("a gateway did not become ready")
        time.sleep(0.1)


def send_signal_to_all(above: psutil.Process, name: str) -> None:
    """Send a signal to a process and all below it."""
    for process in (above, *above.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.Signals[name])


def _load(triton: Stack, above: psutil.Process, port: int, sizes: list[str], seconds: float) -> dict[str, Sample]:
    """Wake a gateway, load it with pictures of each size, and put it to sleep."""
    send_signal_to_all(above, "SIGCONT")
    try:
        wait_ready(f"http://{triton.host}:{port}")
        return {size: _one(triton, above, port, size, seconds) for size in sizes}
    finally:
        send_signal_to_all(above, "SIGSTOP")


def _one(triton: Stack, above: psutil.Process, port: int, size: str, seconds: float) -> Sample:
    pictures = photographs(size=SIZES[size])
    requests = [upload("/v1/classify", [picture], LABELS) for picture in pictures]
    address = (triton.host, port)
    asyncio.run(closed_loop(address, requests, IN_FLIGHT, min(1.0, seconds)))  # every process knows the labels then
    with Usage([above, psutil.Process(triton.pid)]) as usage:
        load = asyncio.run(closed_loop(address, requests, IN_FLIGHT, seconds))
    if set(load.statuses) != {200}:
        raise RuntimeError(f"answers: {load.statuses}")
    count = len(load.latencies_s) + load.warm
    servers = usage.seconds("server")
    members = [process for process in (above, *above.children()) if usage.kind.get(process.pid) == "server"]
    return Sample(
        rate=load.rate,
        server_ms=1e3 * sum(servers) / count,
        decode_ms=1e3 * sum(usage.seconds("decoder")) / count,
        triton_ms=1e3 * sum(usage.seconds("triton")) / count,
        client_ms=1e3 * load.client_s / len(load.latencies_s),
        busiest=max(servers) / load.elapsed_s,
        memory_mib=sum(process.memory_full_info().pss for process in members) / 2**20,
    )
