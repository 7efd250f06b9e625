"""Measures an exported model in this process."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Sequence

import torch

from scripts.export.formats.makers import Model

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc
ROUNDS = 5


def rows_per_second(
    module: Model, example: torch.Tensor, batches: Sequence[int], *, seconds: float = 1.0
) -> dict[int, float]:
    """Measure rows a second by rows of a batch: the best of five rounds in which the batches take turns.

    The best, since what else a machine does only ever makes a model slower.

    Args:
        module: on the device of the example.
        example: one row at least; repeated to make up a batch.
        batches: to measure, each at least 1.
        seconds: for all of it, about; every batch is computed six times at least.
    """
    _keep_memory()
    inputs = {batch: example[[number % len(example) for number in range(batch)]] for batch in batches}
    found: dict[int, list[float]] = {batch: [] for batch in batches}
    with torch.inference_mode():
        for rows in inputs.values():
            module(rows).cpu()  # warms up
        for _ in range(ROUNDS):
            for batch, rows in inputs.items():
                calls, begin = 0, time.perf_counter()
                while calls == 0 or time.perf_counter() - begin < seconds / ROUNDS / len(batches):
                    module(rows).cpu()
                    calls += 1
                found[batch].append(calls * batch / (time.perf_counter() - begin))
    return {batch: max(rates) for batch, rates in found.items()}


def _keep_memory() -> None:
    """Let this process keep the memory of a batch for the next, as Triton's do: else larger batches look worse."""
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        allocator = ctypes.CDLL(None)
        for option, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, (1 << 31) - 1)):
            allocator.mallopt(option, value)
