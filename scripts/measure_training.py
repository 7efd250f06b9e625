"""Measures how long training a head takes, its process included: `python -m scripts.measure_training`.

Vectors are made up: two kinds around two means, whose words point roughly where they are.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import numpy as np

from gateway.limits.deadline import Deadline
from gateway.training.examples import Examples, ZeroShot
from gateway.training.trainer import Trainer, TrainingLimits
from scripts.bench.machine import machine

SCALE = 100.0
"""CLIP's logit scale."""


def examples(count: int, dim: int) -> Examples:
    """Return `count` examples of a label and as many of none, as unit vectors of `dim` values."""
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((2, dim)) * 0.35
    kind = np.repeat([0, 1], count)
    vectors = 2 * rng.standard_normal(dim) + kinds[kind] + rng.standard_normal((2 * count, dim))
    vectors = np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
    text = kinds + 0.5 * rng.standard_normal((2, dim))
    text = text / np.linalg.norm(text, axis=1, keepdims=True)
    weight = np.asarray(SCALE * (text[:1] - text[1:]), np.float32)
    truth = (kind == 0)[:, np.newaxis].astype(np.float32)
    groups = np.arange(2 * count, dtype=np.int32)
    words = ZeroShot(np.asarray(vectors @ weight.T), weight)
    return Examples(("shown",), "sigmoid", vectors, truth, groups, words, np.ones(2 * count, np.float32))


def main() -> None:
    """Train, print the machine and the median of the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(machine())
    trainer_limits = TrainingLimits(max_examples=20_000, timeout_s=300, memory_bytes=2 << 30, processes=1)

    async def run() -> None:
        trainer = Trainer(trainer_limits)
        for count in (50, 500, 2500):
            given, taken = examples(count, options.dim), []
            for _ in range(options.rounds if count < 500 else 1):
                started = time.perf_counter()
                await trainer.train(given, Deadline.after(300))
                taken.append(time.perf_counter() - started)
            print(f"2 x {count:,} examples: {statistics.median(taken):.2f} s ({min(taken):.2f} to {max(taken):.2f})")

    asyncio.run(run())


if __name__ == "__main__":
    main()
