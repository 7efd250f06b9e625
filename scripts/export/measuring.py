"""Measures a TorchScript model in this process."""

from __future__ import annotations

import time

import torch


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
