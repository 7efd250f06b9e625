"""How many instances, threads and queue places a model gets, from the machine and a short measurement.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

QUEUE_FLOOR = 128
QUEUE_SECONDS = 2.0
BATCH_SECONDS = 2.0
BATCHES = (4, 6, 8, 12, 16, 24, 32)
WORTH_SECONDS = 1.0
WORTH = 0.05  # of throughput: less is no reason to let more requests wait for each other
BATCH_COST_S = 0.001  # of Triton and its stub, whatever is in the batch: the demo model, 12 rows against 32
DELAY_SHARE = 0.01
MOST_DELAY_US = 2000
MOST_INSTANCES = 8
ENOUGH_ROWS_PER_S = 1500
INSTANCE_BYTES = 250_000_000
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Sizing:
    """What one model's config says about its share of the machine.

    Attributes:
        instances: copies of the model that run at the same time.
        threads: of PyTorch in each copy.
        max_batch: most rows that are computed at once.
        queue: requests that may wait beside those that are computed; the gateway refuses the next.
        rows_per_s: of all instances together, from what one did in the export.
        delay_us: microseconds that a request waits for others to be computed with.
    """

    instances: int
    threads: int
    max_batch: int
    queue: int
    rows_per_s: float
    delay_us: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator asks for in place of what was measured; 0 leaves it to that.

    Attributes:
        instances: of the image model (``INSTANCES``).
        text_instances: of the text model (``TEXT_INSTANCES``).
        threads: of PyTorch in each instance of both (``THREADS``): libtorch has one number for all models.
    """

    instances: int = 0
    text_instances: int = 0
    threads: int = 0

    def applied(self, measured: Sizing, instances: int) -> Sizing:
        """Return a model's share of the machine with so many instances, or as many as were measured."""
        return dataclasses.replace(
            measured, instances=instances or measured.instances, threads=self.threads or measured.threads
        )


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Return the cores this process may use: its affinity, cut by the control group's quota where there is one."""
    cores = len(os.sched_getaffinity(0))
    quota = _words(cgroup / "cpu.max")  # version 2: quota and period in one file
    quota = quota or _words(cgroup / "cpu" / "cpu.cfs_quota_us") + _words(cgroup / "cpu" / "cpu.cfs_period_us")
    if len(quota) == 2 and all(word.isdecimal() for word in quota):
        return max(1, min(cores, int(quota[0]) // int(quota[1])))
    return cores


def usable_memory(cgroup: Path = CGROUP) -> int:
    """Return the bytes of memory this process may use: the machine's, cut by the control group's limit likewise."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _words(cgroup / "memory.max") or _words(cgroup / "memory" / "memory.limit_in_bytes")
    return min([memory, *(int(word) for word in limit if word.isdecimal())])


def _words(path: Path) -> list[str]:
    """Return the words of a control group's file; none where there is no such file."""
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def instances_and_threads(cores: int, model_bytes: int) -> tuple[int, int]:
    """Divide a CPU between instances of a model and the threads of each.

    One thread each, as many instances as cores: the threads of one inference wait for each other after every operation,
    and where other programs (the gateway's decoders, to begin with) run on the same cores, one that has to wait holds
    up all. Measured with ViT-B/32 on four cores that were also used by others: 12 pictures/s on one thread, 0.4 on
    four. Beyond eight cores instances get more threads instead, since each holds a copy of the model; and as many
    instances are left out as would fill more than half of the memory.
    """
    fitting = usable_memory() // 2 // (INSTANCE_BYTES + model_bytes * 3 // 2)
    most = max(1, min(cores, MOST_INSTANCES, fitting))
    # Of the counts that fit, the largest that leaves the fewest cores without a thread.
    instances = max(range(1, most + 1), key=lambda count: (count * (cores // count), count))
    return instances, cores // instances


def instances_needed(most: int, rows_per_s: float) -> int:
    """Return how many instances a model is worth: a small one is fast enough alone, and each costs memory.

    Args:
        most: that the machine has room for.
        rows_per_s: of one instance.
    """
    return max(1, min(most, math.ceil(ENOUGH_ROWS_PER_S / rows_per_s)))


def largest_batch(rows_per_s: float, most: int) -> int:
    """Return the largest power of two, 4 to ``most``, that is computed within about two seconds."""
    batch = most
    while batch > 4 and batch > BATCH_SECONDS * rows_per_s:
        batch //= 2
    return batch


def batches_worth_trying(rows_per_s: float) -> tuple[int, ...]:
    """Return the batches from 4 to 32 rows that one instance on a CPU computes within about a second, 4 in any case.

    A larger one would only make requests wait for each other.

    Args:
        rows_per_s: of one instance, a row at a time.
    """
    return tuple(batch for batch in BATCHES if batch <= max(BATCHES[0], WORTH_SECONDS * rows_per_s))


def best_batch(rows_per_s: Mapping[int, float]) -> int:
    """Return the smallest batch whose throughput is within 5 % of the best.

    Throughput hardly grows beyond some rows (ViT-B/32 in fp32: 6), while the largest batch decides how long a request
    waits for others, and how unevenly a queue falls to the instances: with batches of 32 one of four took half of 64
    requests at once, and the others ran single ones meanwhile. Batches of 6 served as much as such of 12, which compute
    4 % more alone, and at 70 % load the 99th percentile was 1.4 times the median where it had been 1.7 times.

    Args:
        rows_per_s: of one instance that nobody has to hand batches to, by batch.
    """
    served = {batch: 1 / (1 / rate + BATCH_COST_S / batch) for batch, rate in rows_per_s.items()}
    enough = (1 - WORTH) * max(served.values())
    return min(batch for batch, rate in served.items() if rate >= enough)


def queue_delay_us(rows_per_s: float) -> int:
    """Return how long a request waits for others: a hundredth of the time that it takes alone, 2 ms at most.

    The answers of a batch leave one after the other, and the next requests of their clients come so too. Without a
    delay an idle instance takes the first of them by itself, and the others wait for it.

    Args:
        rows_per_s: of one instance, a row at a time.
    """
    return min(MOST_DELAY_US, round(DELAY_SHARE / rows_per_s * 1e6))


def queue_places(rows_per_s: float) -> int:
    """Return the queue bound: what is computed in two seconds, and 128 at least."""
    return max(QUEUE_FLOOR, round(QUEUE_SECONDS * rows_per_s))
