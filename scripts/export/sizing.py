"""How many instances, threads and queue places a model gets, from the machine and a short measurement.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path

QUEUE_FLOOR = 128
QUEUE_SECONDS = 2.0
BATCH_SECONDS = 2.0
MOST_INSTANCES = 8
ENOUGH_ROWS_PER_S = 1500
INSTANCE_BYTES = 250_000_000


@dataclass(frozen=True, slots=True)
class Sizing:
    """What one model's config says about its share of the machine.

    Attributes:
        instances: copies of the model that run at the same time.
        threads: of PyTorch in each copy.
        max_batch: most rows that are computed at once.
        queue: requests that may wait beside those that are computed; the gateway refuses the next.
        rows_per_s: of all instances together, from what one did in the export.
    """

    instances: int
    threads: int
    max_batch: int
    queue: int
    rows_per_s: float


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


def usable_cores() -> int:
    """Return the cores this process may use: its affinity, cut by the control group's quota where there is one."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def instances_and_threads(cores: int, model_bytes: int) -> tuple[int, int]:
    """Divide a CPU between instances of a model and the threads of each.

    One thread each, as many instances as cores: the threads of one inference wait for each other after every operation,
    and where other programs (the gateway's decoders, to begin with) run on the same cores, one that has to wait holds
    up all. Measured with ViT-B/32 on four cores that were also used by others: 12 pictures/s on one thread, 0.4 on
    four. Beyond eight cores instances get more threads instead, since each holds a copy of the model; and as many
    instances are left out as would fill more than half of the memory.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fitting = memory // 2 // (INSTANCE_BYTES + model_bytes * 3 // 2)
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
    """Return the largest power of two, 4 to ``most``, that is computed within about two seconds.

    A larger one would only make requests wait for each other: on a CPU throughput hardly grows beyond eight rows.
    """
    batch = most
    while batch > 4 and batch > BATCH_SECONDS * rows_per_s:
        batch //= 2
    return batch


def queue_places(rows_per_s: float) -> int:
    """Return the queue bound: what is computed in two seconds, and 128 at least."""
    return max(QUEUE_FLOOR, round(QUEUE_SECONDS * rows_per_s))
