"""Numbers as a report's sentences and cells have them."""

from __future__ import annotations

from gateway.evaluation.intervals import Interval

NOTHING = "-"
MANY = 100  # from there on a tenth says nothing
SMALL = 0.95  # percent: below, a tenth says too little


def number(value: float) -> str:
    """Return a count or amount with a comma every three digits."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= MANY else f"{value:,.1f}"


def percent(value: float | None) -> str:
    """Return a share of 0 to 1 in percent; near the ends with the digits that tell it from 0 and 100 %."""
    return NOTHING if value is None else f"{_digits(value)} %"


def percent_range(interval: Interval) -> str:
    """Return ``94 % (90-97)``: a share with its interval."""
    if interval.value is None or interval.low is None or interval.high is None:
        return percent(interval.value)
    return f"{percent(interval.value)} ({_digits(interval.low)}-{_digits(interval.high)})"


def decimal_range(interval: Interval) -> str:
    """Return ``0.943 (0.921-0.961)``."""
    if interval.value is None or interval.low is None or interval.high is None:
        return NOTHING
    return f"{interval.value:.3f} ({interval.low:.3f}-{interval.high:.3f})"


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
    edge = min(shown, 100 - shown)
    return f"{shown:.{1 if edge >= SMALL else 2}f}"
