"""What processes hold, as the kernel tells: of a gateway and its decoders, of Triton, of the gateway's modules alone.

PSS (proportional set size) of all processes of the gateway together: a page that n processes share counts 1/n for each
of them.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from scripts.bench.report import ROOT
from scripts.bench.stack import Stack


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
    """Return the process that listens on a port, the youngest: the launcher of gateways holds their listener too.

    Raises:
        LookupError: there is none.
    """
    found = [
        psutil.Process(one.pid)
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid
    ]
    if not found:
        raise LookupError(f"nothing listens on port {port}")
    return max(found, key=psutil.Process.create_time)


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
