"""How many instances, threads and queue places a model gets, from the machine and a short measurement."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

QUEUE_FLOOR = 128
QUEUE_SECONDS = 2.0
BATCH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Sizing:
    """What one model's config says about its share of the machine.

    Attributes:
        instances: copies of the model that run at the same time.
        threads: of PyTorch in each copy.
        max_batch: most rows that are computed at once.
        queue: requests that may wait; the next is refused.
        rows_per_s: measured in this process, with all cores.
    """

    instances: int
    threads: int
    max_batch: int
    queue: int
    rows_per_s: float


def usable_cores() -> int:
    """Return the cores this process may use: its affinity, cut by the control group's quota where there is one."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def instances_and_threads(cores: int) -> tuple[int, int]:
    """Divide ``cores`` between instances of a model and the threads of each."""
    return 1, cores


def rows_per_second(module: torch.jit.ScriptModule, batch: torch.Tensor, *, seconds: float = 1.0) -> float:
    """Measure rows a second over at least ``seconds``, after one call to warm up."""
    with torch.inference_mode():
        module(batch).cpu()
        begin = time.perf_counter()
        calls = 0
        while (passed := time.perf_counter() - begin) < seconds:
            module(batch).cpu()
            calls += 1
    return calls * len(batch) / passed


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
