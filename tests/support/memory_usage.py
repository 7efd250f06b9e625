"""How much memory a running gateway holds, its worker processes included."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import psutil

from tests.conftest import Stack

MIB = 1 << 20


def gateway_process(stack: Stack) -> psutil.Process:
    """Return the gateway of a stack: the child that runs ``python -m gateway``."""
    for child in psutil.Process(stack.process.pid).children(recursive=True):
        if child.cmdline()[1:3] == ["-m", "gateway"]:
            return child
    raise LookupError("the stack has no gateway")


def resident_bytes(process: psutil.Process) -> int:
    """Return what a process and all below it hold; a page that they share counts once for each."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


class Peak:
    """Looks at the memory every few milliseconds while its block runs: ``grown_bytes`` is the most above the start."""

    def __init__(self, process: psutil.Process, *, every_s: float = 0.005) -> None:
        self._process = process
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._first = self._most = 0

    @property
    def grown_bytes(self) -> int:
        return self._most - self._first

    def __enter__(self) -> Self:
        self._first = self._most = resident_bytes(self._process)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.is_set():
            self._most = max(self._most, resident_bytes(self._process))
            time.sleep(self._every_s)
