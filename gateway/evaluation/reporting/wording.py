"""Numbers as a report's sentences and cells have them."""

from __future__ import annotations

from gateway.evaluation.intervals import Interval

NOTHING = "-"
TO = "\N{NON-BREAKING HYPHEN}"  # between the ends of an interval: a line does not end there
PERCENT = "\N{NO-BREAK SPACE}%"
MANY = 100  # from there on a tenth says nothing
SMALL, ALMOST = 0.95, 0.095  # percent from 0 and from 100: nearer, a tenth says too little


def number(value: float) -> str:
    """Return a count or amount with a comma every three digits."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= MANY else f"{value:,.1f}"


def percent(value: float | None) -> str:
    """Return a share of 0 to 1 in percent; near the ends with the digits that tell it from 0 and 100 %."""
    return NOTHING if value is None else f"{_digits(value)}{PERCENT}"


def rate(value: float) -> str:
    """Return a rate that was stated, in percent with the digits it was stated with."""
    return f"{100 * value:g}{PERCENT}"


def percent_range(interval: Interval) -> str:
    """Return ``94 % (90-97)``: a share with its interval."""
    if interval.value is None or interval.low is None or interval.high is None:
        return percent(interval.value)
    return f"{percent(interval.value)} ({_digits(interval.low)}{TO}{_digits(interval.high)})"


def decimal_range(interval: Interval) -> str:
    """Return ``0.943 (0.921-0.961)``."""
    if interval.value is None or interval.low is None or interval.high is None:
        return NOTHING
    return f"{interval.value:.3f} ({interval.low:.3f}{TO}{interval.high:.3f})"


def listed(names: list[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))


def plural(count: int, noun: str) -> str:
    """Return ``1 image`` or ``1,200 images``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _digits(value: float) -> str:
    shown = 100 * value
    if value in {0, 1}:
        return f"{shown:.0f}"
    return f"{shown:.{2 if shown < SMALL or 100 - shown < ALMOST else 1}f}"
