"""Sides that take turns, so that what else the machine does meets them all."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def alternate(sides: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Call each side once a round, every other round in the opposite order; return each side's results.

    Args:
        sides: by name; each measures once and returns what it found.
        rounds: at least 1.
    """
    found: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in order:
            found[name].append(sides[name]())
    return found


def medians(found: Mapping[str, list[float]]) -> dict[str, float]:
    """Return each side's median."""
    return {name: statistics.median(values) for name, values in found.items()}


def ratio(found: Mapping[str, list[float]], side: str, to: str) -> float:
    """Return the median over the rounds of one side's figure divided by another's of the same round."""
    return statistics.median(one / other for one, other in zip(found[side], found[to], strict=True))
