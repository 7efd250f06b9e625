"""Gateway processes by Triton instances: pictures a second, where the curve bends, and what each picture costs.

Run with the model of the plan, where the encoder is what limits, and with the demo model, whose encoder costs so little
that everything else is: that curve shows what a gateway can give to a GPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import shutil
import signal
import statistics
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

from scripts.bench import spread
from scripts.bench.alternate import alternate
from scripts.bench.client import closed_loop, upload
from scripts.bench.encoder import exported
from scripts.bench.machine import cores
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.report import ROOT, Section, Table
from scripts.bench.stack import FIRST_PORT, START_TIMEOUT_S, Stack, is_ready, stack

PROCESSES = (1, 2, 4)
INSTANCES = (1, 2)
IN_FLIGHT = 32
SIZES = {"640 x 480": (640, 480), "160 x 120": (160, 120)}
LABELS = [("labels", "a cat"), ("labels", "a dog")]
SAMPLED_EVERY_S = 0.2
BUSY = 0.9  # of what it has: then that is what limits
GAIN = 1.05  # less is no growth
GPU_RATES = (300, 1500, 5000)
SPARE = 0.7  # of its core that a server process may be busy without making requests wait


@dataclass(frozen=True, slots=True)
class Sample:
    """One load on one gateway.

    Attributes:
        rate: pictures a second.
        server_ms: processor time a picture of the gateway's server processes and the one above them.
        decode_ms: of its decoders.
        triton_ms: of Triton.
        client_ms: of the client, which has the same cores.
        busiest: processor time of the busiest server process, as a part of one core.
        memory_mib: of the server processes, shared pages divided among them.
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
    if "gateway.decode_worker" in words:
        return "decoder"
    return "server" if "gateway" in words else "triton"


def measure(plan: Plan) -> Section:
    """Measure every pair of counts with both models, all pairs of a model in turns."""
    tables: list[Table] = []
    notes: list[str] = []
    figures: dict[str, float] = {}
    for model, sizes in ((plan.model, ["640 x 480"]), ("demo", list(SIZES))):
        found = _measured(model, sizes, plan)
        for size in sizes:
            middle = {(i, g): _median(found[i, g], size) for i in INSTANCES for g in PROCESSES}
            tables.append(_table(f"{model}, JPEG {size}", middle))
            notes.append(f"{model}, {size}: {' '.join(_why(instances, middle) for instances in INSTANCES)}")
            figures |= {f"scale {model} {size} {i} x {g}": sample.rate for (i, g), sample in middle.items()}
            last = middle[INSTANCES[-1], 1]
            figures |= {f"server ms {model} {size}": last.server_ms, f"decode ms {model} {size}": last.decode_ms}
        if model == "demo":
            tables.append(_needs(_median(found[INSTANCES[-1], 1], "640 x 480")))
    tables.append(_spread_table(plan.rounds))
    return Section("Scale", (), tuple(tables), (HOW, *notes, NEEDS, SPREAD), figures)


HOW = (
    f"{IN_FLIGHT} requests of one picture in flight over kept-alive connections; every instance of the encoder has one "
    "thread, so that a second one is a second core. Gateway, decoders, Triton and client share the machine; processor "
    "time is that of a picture. The busiest process is the event loop that works most: near 100 % it is what limits."
)
NEEDS = (
    "What a GPU needs follows from the processor time of a picture beside an encoder that costs next to nothing: "
    f"server processes busy to {SPARE:.0%}, and cores for them and for the decoders."
)
SPREAD = (
    "How connections that are opened at once are spread over four processes: the part of the busiest and the idlest, "
    "1 being even. Processes that wait on one inherited socket take what they happen to wake up for, SO_REUSEPORT "
    "hashes addresses; the gateway's supervisor accepts and hands each connection to the process with the fewest."
)


def _measured(model: str, sizes: list[str], plan: Plan) -> dict[tuple[int, int], list[dict[str, Sample]]]:
    """Return the samples of each pair (instances, processes) by size of the pictures."""
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
            for processes in PROCESSES:
                port = FIRST_PORT + 10 + len(sides)
                above = held.enter_context(gateway(running, processes, port))
                sides[f"{instances} {processes}"] = partial(_load, running, above, port, sizes, plan.seconds)
        found = alternate(sides, plan.rounds)
    return {(i, g): found[f"{i} {g}"] for i in INSTANCES for g in PROCESSES}


def linked(base: Path, folder: Path) -> Path:
    """Return a copy of a repository whose models are the same files; what is small is copied, as it will be changed."""

    def copy(source: str, target: str) -> None:
        (os.link if source.endswith("model.pt") else shutil.copy2)(source, target)

    shutil.copytree(base, folder, copy_function=copy)
    return folder


@contextmanager
def gateway(triton: Stack, processes: int, port: int) -> Iterator[psutil.Process]:
    """Run a gateway of so many processes in front of a Triton; it is stopped, as by SIGSTOP, until it is asked.

    Otherwise those that are not measured would look after their health with inferences of their own, and to start one
    for each measurement would take longer than to measure: it has to compute its scenarios' texts.

    Raises:
        RuntimeError: it does not become ready.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "GATEWAY_PORT": str(port),
            "GATEWAY_PROCESSES": str(processes),
            "TRITON_GRPC_PORT": str(triton.grpc_port),
            "MODEL_REPOSITORY": str(triton.repository),
            "DATA_DIR": folder,
            "LOG_LEVEL": "error",
            "SHUTDOWN_DELAY_S": "0",
            "REQUEST_TIMEOUT_S": "120",
        }
        settings |= dict.fromkeys(("GATEWAY_API_KEYS", "GATEWAY_API_KEYS_FILE", "DATABASE_URL"), "")
        child = subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, env={**os.environ, **settings})
        above = psutil.Process(child.pid)
        try:
            wait_ready(f"http://{triton.host}:{port}")
            _send(above, signal.SIGSTOP)
            yield above
        finally:
            _send(above, signal.SIGCONT)
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


def _send(above: psutil.Process, number: signal.Signals) -> None:
    for process in (above, *above.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _load(triton: Stack, above: psutil.Process, port: int, sizes: list[str], seconds: float) -> dict[str, Sample]:
    """Wake a gateway, load it with pictures of each size, and put it to sleep."""
    _send(above, signal.SIGCONT)
    try:
        wait_ready(f"http://{triton.host}:{port}")
        return {size: _one(triton, above, port, size, seconds) for size in sizes}
    finally:
        _send(above, signal.SIGSTOP)


def _one(triton: Stack, above: psutil.Process, port: int, size: str, seconds: float) -> Sample:
    pictures = photographs(size=SIZES[size])
    requests = [upload("/v1/classify", [picture], LABELS) for picture in pictures]
    address = (triton.host, port)
    asyncio.run(closed_loop(address, requests, IN_FLIGHT, min(1.0, seconds)))  # every process knows the labels then
    with Usage([above, psutil.Process(triton.pid)]) as usage:
        load = asyncio.run(closed_loop(address, requests, IN_FLIGHT, seconds))
    if set(load.statuses) != {200}:
        raise RuntimeError(f"answers: {load.statuses}")
    count = len(load.latencies_s)
    servers = usage.seconds("server")
    members = [process for process in (above, *above.children()) if usage.kind.get(process.pid) == "server"]
    return Sample(
        rate=load.rate,
        server_ms=1e3 * sum(servers) / count,
        decode_ms=1e3 * sum(usage.seconds("decoder")) / count,
        triton_ms=1e3 * sum(usage.seconds("triton")) / count,
        client_ms=1e3 * load.client_s / count,
        busiest=max(servers) / load.elapsed_s,
        memory_mib=sum(process.memory_full_info().pss for process in members) / 2**20,
    )


def _median(samples: list[dict[str, Sample]], size: str) -> Sample:
    found = [sample[size] for sample in samples]
    return Sample(*(statistics.median(getattr(one, name) for one in found) for name in Sample.__slots__))


def _table(name: str, middle: dict[tuple[int, int], Sample]) -> Table:
    header = (
        name, "gateway processes", "pictures/s", "busiest process", "CPU ms a picture: servers", "decoders", "Triton",
        "client", "cores busy", "servers' memory, MiB",
    )  # fmt: skip
    rows = [
        (
            f"{instances} instance{'s' * (instances > 1)}", str(processes), f"{one.rate:.1f}", f"{one.busiest:.0%}",
            f"{one.server_ms:.2f}", f"{one.decode_ms:.2f}", f"{one.triton_ms:.2f}", f"{one.client_ms:.2f}",
            f"{one.rate * one.all_ms / 1e3:.2f}", f"{one.memory_mib:.0f}",
        )
        for (instances, processes), one in middle.items()
    ]  # fmt: skip
    return Table(header, tuple(rows))


def _why(instances: int, middle: dict[tuple[int, int], Sample]) -> str:
    """Say where the curve of one number of instances bends, and what keeps it from rising on."""
    rates = {processes: middle[instances, processes].rate for processes in PROCESSES}
    bend = PROCESSES[0]
    for before, after in itertools.pairwise(PROCESSES):
        if rates[after] < GAIN * rates[before]:
            break
        bend = after
    at = middle[instances, bend]
    many = "1 process gives" if bend == 1 else f"{bend} processes give"
    grown = "and more add nothing" if bend == 1 else f"{rates[bend] / rates[PROCESSES[0]]:.2f} times what one gives"
    return (
        f"With {instances} instance{'s' * (instances > 1)} {many} {at.rate:.0f} pictures/s, {grown}: "
        f"{_limit(at, instances)}."
    )


def _limit(at: Sample, instances: int) -> str:
    """Say what a load kept busy to the full."""
    busy = at.rate * at.all_ms / 1e3
    encoder = at.rate * at.triton_ms / 1e3 / instances
    if at.busiest >= BUSY:
        return f"the event loop of a process is busy for {at.busiest:.0%} of the time"
    if encoder >= BUSY and busy < BUSY * cores():
        return f"an instance of the encoder is busy for {min(1.0, encoder):.0%} of the time"
    if busy >= BUSY * cores():
        return (
            f"{busy:.1f} of {cores()} cores are busy, of each picture {at.triton_ms:.1f} ms with Triton, "
            f"{at.decode_ms:.1f} ms with decoding, {at.server_ms:.1f} ms with the server, {at.client_ms:.1f} ms with "
            "the client, so that further processes only share them"
        )
    return f"{busy:.1f} of {cores()} cores and {at.busiest:.0%} of an event loop are busy; requests wait for each other"


def _needs(beside: Sample) -> Table:
    """Return what a faster encoder would need of the gateway."""
    rows = []
    for rate in GPU_RATES:
        servers = rate * beside.server_ms / 1e3
        cells = (math.ceil(servers / SPARE), servers, rate * beside.decode_ms / 1e3)
        rows.append((f"{rate}", str(cells[0]), f"{cells[1]:.1f}", f"{cells[2]:.1f}"))
    return Table(("for a GPU of pictures/s", "GATEWAY_PROCESSES", "cores for them", "cores for decoders"), tuple(rows))


def _spread_table(rounds: int) -> Table:
    rows = [
        (way, str(count), f"{most:.2f}", f"{least:.2f}")
        for way in spread.WAYS
        for count, (most, least) in spread.measured(way, rounds).items()
    ]
    return Table(("connections over 4 processes", "how many", "busiest", "idlest"), tuple(rows))
