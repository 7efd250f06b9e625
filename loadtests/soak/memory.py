"""What the processes of a stack hold: proportional set size, so that memory which they share counts once."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

import psutil

MIB = 2**20


class Died(Exception):
    """A process that is measured is gone; the text says which."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look; memory in MiB.

    Attributes:
        requests: answered so far.
        elapsed_s: since the start.
        gateway: the gateway's process.
        gateway_children: its child processes together.
        children: how many these are.
        triton: Triton with its children.
        files: file descriptors that the gateway's process has open.
        threads: of the gateway's process.
    """

    requests: int
    elapsed_s: float
    gateway: float
    gateway_children: float
    children: int
    triton: float
    files: int
    threads: int


def listening(port: int) -> psutil.Process | None:
    """Return the process that listens on a TCP port of this machine, None if none can be seen.

    The youngest: the launcher of gateways holds their listener too.
    """
    found = [
        psutil.Process(one.pid)
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid is not None
    ]
    return max(found, key=psutil.Process.create_time, default=None)


def pss_mib(process: psutil.Process) -> float:
    """Return a process's proportional set size in MiB; 0 for one that has just ended."""
    try:
        return float(process.memory_full_info().pss) / MIB
    except psutil.NoSuchProcess:
        return 0.0


def sample(requests: int, elapsed_s: float, gateway: psutil.Process, triton: psutil.Process | None) -> Sample:
    """Look once.

    Raises:
        Died: the gateway or Triton is gone.
    """
    for process, name in ((gateway, "the gateway"), (triton, "Triton")):
        if process is not None and not process.is_running():
            raise Died(f"{name} ended after {requests} requests")
    try:
        children = gateway.children(recursive=True)
        backends = [] if triton is None else [triton, *triton.children(recursive=True)]
        return Sample(
            requests=requests,
            elapsed_s=round(elapsed_s, 1),
            gateway=round(pss_mib(gateway), 1),
            gateway_children=round(sum(map(pss_mib, children)), 1),
            children=len(children),
            triton=round(sum(map(pss_mib, backends)), 1),
            files=gateway.num_fds(),
            threads=gateway.num_threads(),
        )
    except psutil.NoSuchProcess:
        raise Died(f"the gateway or Triton ended after {requests} requests") from None


@dataclass(frozen=True, slots=True)
class Growth:
    """Medians of the first and the last quarter after the warm-up, and the most seen; MiB or a count."""

    name: str
    first: float
    last: float
    most: float

    @property
    def share(self) -> float:
        """How much larger the last is than the first: 0.1 is 10 %."""
        return self.last / self.first - 1 if self.first else 0.0


def growth(samples: Sequence[Sample], warm_up: float) -> list[Growth]:
    """Return the growth of each part.

    Args:
        samples: in order, at least 8 after the warm-up.
        warm_up: share of the requests before which nothing is compared, 0 to 1.
    """
    total = samples[-1].requests
    kept = [one for one in samples if one.requests >= warm_up * total]
    quarter = max(1, len(kept) // 4)
    columns = {
        "gateway with children": [one.gateway + one.gateway_children for one in kept],
        "gateway process": [one.gateway for one in kept],
        "Triton": [one.triton for one in kept],
        "open files": [float(one.files) for one in kept],
        "threads": [float(one.threads) for one in kept],
    }
    return [
        Growth(name, median(values[:quarter]), median(values[-quarter:]), max(values))
        for name, values in columns.items()
    ]


def write_csv(path: Path, samples: Sequence[Sample]) -> None:
    """Write all samples, one a line."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [column.name for column in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(one) for one in samples)
