"""The memory of a running gateway and of the processes below it, sampled while it is fuzzed."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

import psutil

MIB = 1 << 20
WARM_UP = 0.1
"""The share of a run that may fill caches and pools before its memory is compared with that of the end."""


def listener(port: int) -> int | None:
    """Return the id of the process of ours that listens on a port of this machine; None where there is none.

    The youngest: the launcher of gateways holds their listener too.
    """
    found: dict[float, int] = {}
    for process in psutil.process_iter():
        try:
            ends = process.net_connections("tcp")
            if any(end.status == psutil.CONN_LISTEN and end.laddr.port == port for end in ends):
                found[process.create_time()] = int(process.pid)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found[max(found)] if found else None


@dataclass(slots=True)
class Memory:
    """Samples of what a process and all below it hold.

    Attributes:
        pid: the gateway's.
        samples: bytes, in the order taken.
        gone: the process has ended.
    """

    pid: int
    samples: list[int] = field(default_factory=list)
    gone: bool = False

    def look(self) -> int:
        """Take a sample, unless the process is gone, and return it."""
        total = 0
        try:
            gateway = psutil.Process(self.pid)
            total = gateway.memory_info().rss
            children = gateway.children(recursive=True)
        except psutil.NoSuchProcess:
            self.gone = True
            return total
        for child in children:
            try:
                total += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.samples.append(total)
        return total

    def first_and_last(self) -> tuple[float, float]:
        """Return the median of the tenth of samples behind the warm-up, and that of the last tenth, in bytes."""
        tenth = max(1, int(len(self.samples) * WARM_UP))
        behind_warm_up = self.samples[tenth : 2 * tenth] or self.samples
        return statistics.median(behind_warm_up), statistics.median(self.samples[-tenth:])
