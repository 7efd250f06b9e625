"""What the gateway and Triton hold: idle, under large uploads, over a long run, and how often weights are resident.

PSS (proportional set size) of all processes of the gateway together: a page that n processes share counts 1/n for each
of them. It is sampled every ``SAMPLE_S`` while a load runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from gateway.settings import Settings
from gateway.store.sql import open_store
from loadtests.soak.curve import svg
from scripts.bench.client import Connection, closed_loop, upload
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.report import KEPT, ROOT, Section, Table, Target
from scripts.bench.stack import Stack, stack

MB = 1_000_000
MOST_MB = 200
IN_FLIGHT = 64
SAMPLE_S = 0.03
LARGE = ((4000, 3000), 87)  # 12 megapixels, 4 MB
SETTLE_S = 3.0
FIELDS = (("labels", "a photo of a cat"), ("labels", "a photo of a dog"))

LONG_IN_FLIGHT = 16
LARGE_EVERY = 100
SAMPLES = 400
WARM_UP = 0.15
ONCE = 1.01  # the last page of a file is counted whole
FLAT = 0.05


@dataclass(frozen=True, slots=True)
class Held:
    """What a gateway's processes hold at one moment, bytes.

    Attributes:
        own_rss: resident set of the process that serves.
        own: its PSS.
        decoders: PSS of the processes below it.
        answered: requests answered until then.
    """

    own_rss: int
    own: int
    decoders: int
    answered: int = 0

    @property
    def together(self) -> int:
        """PSS of all."""
        return self.own + self.decoders


def rollup(pid: int) -> dict[str, int]:
    """Return a process's memory by kind in bytes, as in proc(5)'s smaps_rollup; empty when it has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return {}
    return {name.rstrip(":"): int(value) * 1024 for name, value, *_ in (line.split() for line in lines)}


def file_pages(pids: Sequence[int]) -> int:
    """Return the bytes of mapped files that processes have resident, each file once: what PSS would say alone."""
    most: dict[str, int] = {}
    for pid in pids:
        mine: Counter[str] = Counter()
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in psutil.Process(pid).memory_maps(grouped=True):
                if one.path.startswith("/"):
                    mine[one.path] = one.rss - one.anonymous
        for path, size in mine.items():
            most[path] = max(size, most.get(path, 0))
    return sum(most.values())


def listener(port: int) -> psutil.Process:
    """Return the process that listens on a port.

    Raises:
        LookupError: there is none.
    """
    for found in psutil.net_connections("tcp"):
        if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port and found.pid:
            return psutil.Process(found.pid)
    raise LookupError(f"nothing listens on port {port}")


def look(gateway: psutil.Process, answered: int = 0) -> Held:
    """Look once."""
    own = rollup(gateway.pid)
    below = [rollup(child.pid) for child in gateway.children(recursive=True)]
    decoders = sum(one.get("Pss", 0) for one in below)
    return Held(own.get("Rss", 0), own.get("Pss", 0), decoders, answered)


class Watched:
    """Looks at a gateway while its block runs.

    Args:
        gateway: its process.
        every_s: between two looks.
        answered: tells how many requests have been answered.
    """

    def __init__(self, gateway: psutil.Process, every_s: float, answered: Callable[[], int] = lambda: 0) -> None:
        self.seen: list[Held] = []
        self._gateway = gateway
        self._every_s = every_s
        self._answered = answered
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def most(self) -> Held:
        """The look at which all processes held most."""
        return max(self.seen, key=lambda held: held.together)

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            self.seen.append(look(self._gateway, self._answered()))


@contextmanager
def started(model: str, plan: Plan) -> Iterator[Stack]:
    """Run a stack whose database has its tables already, as at every start but the first."""
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{folder}/gateway.sqlite"
        asyncio.run(_make_tables(database))
        with stack(model, plan.precision, plan.device, {"DATABASE_URL": database, "UPLOAD_WAIT_S": "60"}) as running:
            time.sleep(SETTLE_S)
            yield running


async def _make_tables(database: str) -> None:
    store = await open_store(database, timeout_s=30)
    await store.close()


@dataclass(slots=True)
class LongRun:
    """A number of requests over a few connections.

    Attributes:
        answered: so far.
        statuses: how many answers had which status.
    """

    answered: int
    statuses: Counter[int]

    async def send(self, address: tuple[str, int], requests: Iterator[bytes], count: int) -> None:
        """Send ``count`` requests, ``LONG_IN_FLIGHT`` at a time."""

        async def user() -> None:
            connection = Connection()
            for request in requests:
                if not connection.open:
                    _, connection = await asyncio.get_running_loop().create_connection(Connection, *address)
                self.statuses[await connection.ask(request)] += 1
                self.answered += 1
            connection.close()

        requests = itertools.islice(requests, count)
        await asyncio.gather(*(user() for _ in range(LONG_IN_FLIGHT)))


def mixed() -> Iterator[bytes]:
    """Yield uploads for ever: 640 x 480, and one of ``LARGE_EVERY`` of 4 MB."""
    small = [upload("/v1/classify", [picture], FIELDS) for picture in photographs(16)]
    large = upload("/v1/classify", photographs(1, *LARGE), FIELDS)
    for number in itertools.count(1):
        yield large if number % LARGE_EVERY == 0 else small[number % len(small)]


@dataclass(frozen=True, slots=True)
class Weights:
    """One model in Triton, bytes.

    Attributes:
        model: its name.
        file: size of its weights' file.
        instances: processes that serve it.
        mapped: PSS of the file's pages over all of them.
        anonymous: of each process: what it holds for itself, PyTorch among it.
    """

    model: str
    file: int
    instances: int
    mapped: int
    anonymous: tuple[int, ...]


def weights(running: Stack) -> list[Weights]:
    """Return what Triton's processes hold of each model."""
    found = []
    stubs = [
        (one, words)
        for one in psutil.Process(running.pid).children(recursive=True)
        if "triton_python_backend_stub" in (words := " ".join(one.cmdline()))
    ]
    for path in sorted(running.repository.glob("*/*/model.pt")):
        mine = [stub for stub, words in stubs if str(path.resolve()) in words]
        mapped = sum(one.pss for stub in mine for one in stub.memory_maps() if one.path == str(path.resolve()))
        anonymous = tuple(rollup(stub.pid).get("Anonymous", 0) for stub in mine)
        found.append(Weights(path.parts[-3], path.stat().st_size, len(mine), mapped, anonymous))
    return found


def modules() -> dict[str, int]:
    """Return the memory of a process that has only loaded the gateway's modules, by kind in bytes."""
    code = "import gateway.__main__; print(open('/proc/self/smaps_rollup').read())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in said.splitlines()[1:] if line}


def mb(count: float) -> str:
    """Return bytes in words."""
    return f"{count / MB:.0f} MB"


def uploads(running: Stack, gateway: psutil.Process, plan: Plan, picture: bytes) -> tuple[list[Held], int]:
    """Keep ``IN_FLIGHT`` uploads in flight for all rounds of a plan; return each round's most, and the answers' number.

    Raises:
        RuntimeError: an answer was not 200.
    """
    request = upload("/v1/classify", [picture], FIELDS)
    most, answered = [], 0
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds} ...", file=sys.stderr, flush=True)
        with Watched(gateway, SAMPLE_S) as watched:
            load = asyncio.run(closed_loop((running.host, running.port), [request], IN_FLIGHT, plan.seconds))
        if set(load.statuses) != {200}:
            raise RuntimeError(f"answers other than 200: {load.statuses}")
        most.append(watched.most)
        answered += len(load.latencies_s)
    return most, answered


def measure(plan: Plan) -> Section:
    """Measure what is held idle, at the peak of large uploads, and over a long run."""
    picture = photographs(1, *LARGE)[0]
    with started(plan.model, plan) as running:
        gateway = listener(running.port)
        idle = look(gateway)
        processes = [gateway.pid, *(child.pid for child in gateway.children(recursive=True))]
        shared = sum(rollup(pid).get("Pss_File", 0) for pid in processes)
        alone = file_pages(processes) - shared
        most, answered = uploads(running, gateway, plan, picture)
        time.sleep(SETTLE_S)
        after = look(gateway)
        models = weights(running)
    peak = max(most, key=lambda held: held.together)
    with started("demo", plan) as running:
        run = LongRun(0, Counter())
        with Watched(listener(running.port), 1.0, lambda: run.answered) as watched:
            asyncio.run(run.send((running.host, running.port), mixed(), plan.requests))
    first, last = quarters([one for one in watched.seen if one.answered >= WARM_UP * plan.requests])
    growth = last / first - 1
    write_curve(watched.seen)
    loaded = modules()
    copies = sum(one.mapped for one in models) / sum(one.file for one in models)
    return Section(
        title="Memory",
        targets=(
            Target(
                f"all processes of the gateway, PSS at its peak with {IN_FLIGHT} uploads of {len(picture) / MB:.1f} MB "
                "in flight",
                f"under {MOST_MB} MB",
                mb(peak.together),
                peak.together < MOST_MB * MB,
            ),
            Target(
                "of these the process that serves, resident",
                f"under {MOST_MB} MB",
                mb(max(held.own_rss for held in most)),
                max(held.own_rss for held in most) < MOST_MB * MB,
            ),
            Target(
                f"the gateway's PSS over {plan.requests:,} requests, last quarter against first",
                f"grows by less than {FLAT:.0%}",
                f"{growth:+.1%}",
                growth < FLAT,
            ),
            Target("each model's weights in Triton", "once", f"{copies:.2f} times", copies <= ONCE if copies else None),
        ),
        tables=(
            gateway_table({"idle": idle, "peak": peak, "after it": after}),
            Table(
                ("Triton", "weights' file", "instances", "of it resident, all together", "memory of each besides"),
                tuple(
                    (one.model, mb(one.file), str(one.instances), mb(one.mapped), ", ".join(map(mb, one.anonymous)))
                    for one in models
                ),
            ),
        ),
        notes=(
            (
                f"The peak is the highest of {plan.rounds} rounds ({', '.join(mb(held.together) for held in most)}), "
                f"sampled every {SAMPLE_S * 1e3:.0f} ms; {answered} uploads of 12 megapixels, each answered 200. "
                f"It stands with {len(processes) - 2} decoders. PSS splits library pages with other programs that "
                f"have them open; with nobody to share with, {mb(alone)} more would be counted."
            ),
            (
                f"The long run: the demo model, {LONG_IN_FLIGHT} in flight, 640 x 480 pictures and one 4 MB upload in "
                f"{LARGE_EVERY}; medians of the first and the last quarter after {WARM_UP:.0%} of the requests are "
                f"{mb(first)} and {mb(last)}, the most {mb(max(one.together for one in watched.seen))}; answers: "
                f"{dict(run.statuses)}. Curve: `reports/bench/memory.svg`."
            ),
            (
                f"What it is made of: a process that has loaded the gateway's modules and done nothing has "
                f"{mb(loaded['Anonymous'])} of its own and {mb(loaded['Rss'] - loaded['Anonymous'])} of library pages. "
                f"The rest of the idle figure is tokenizer, catalogue, connections and decoders; the peak adds "
                f"{Settings.model_fields['upload_room_mib'].default} MiB of uploads being read or waiting to be "
                "decoded, twice each picture that is being decoded (the decoder's own, and the gateway's, for another "
                "try if the process that forks decoders dies), the squares on their way to the model, and 64 KiB of "
                "each upload that waits."
            ),
            (
                "Weights that an operator packs in a form of its own (int8, fp16) are memory of each instance, in the "
                "last column; so is PyTorch."
            ),
        ),
        figures={"peak_mb": peak.together / MB, "idle_mb": idle.together / MB, "growth": growth},
    )


def gateway_table(held: dict[str, Held]) -> Table:
    """Return what the gateway held at some moments."""
    rows = tuple((name, mb(one.own_rss), mb(one.own), mb(one.decoders), mb(one.together)) for name, one in held.items())
    return Table(("gateway", "RSS of the serving process", "its PSS", "PSS of the decoders", "PSS together"), rows)


def quarters(seen: Sequence[Held]) -> tuple[float, float]:
    """Return the medians of the first and the last quarter of what was held, bytes."""
    together = [one.together for one in seen]
    quarter = max(1, len(together) // 4)
    return statistics.median(together[:quarter]), statistics.median(together[-quarter:])


def write_curve(seen: Sequence[Held]) -> None:
    """Write memory over requests as a picture."""
    kept = seen[:: max(1, len(seen) // SAMPLES)]
    lines = {
        "all processes": [one.together / MB for one in kept],
        "serving process": [one.own / MB for one in kept],
        "decoders": [one.decoders / MB for one in kept],
    }
    KEPT.mkdir(parents=True, exist_ok=True)
    chart = svg(
        "Memory of the gateway", [float(one.answered) for one in kept], lines, x_name="requests", y_name="PSS, MB"
    )
    (KEPT / "memory.svg").write_text(chart, encoding="utf-8")
