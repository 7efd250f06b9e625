"""Ramps as a picture: throughput over users, and latency over throughput, one row a protocol. A plain SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from loadtests.ramp.steps import Ramp, Step, saturation
from loadtests.soak.curve import ticks

WIDTH, ROW, HEAD, FOOT_LINE = 1120, 400, 64, 18
LEFTS, PANEL, TOP, BOTTOM = (78, 650), 430, 44, 64
LINES = (("p50", "#1f6fb2"), ("p95", "#c2570c"), ("p99", "#7b1fa2"))
RATE, MARK = "#2e7d32", "#b71c1c"
FONT = 'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="13" fill="#222"'
LINE_CHARS = 165
LEGEND = 145  # wide enough for 99,999 ms
Place = Callable[[float], float]


def svg(ramps: Sequence[Ramp], title: str, caption: str) -> str:
    """Return the picture.

    Args:
        ramps: at least one, each with at least one step.
        title: above it.
        caption: below it: machine, date, rule, and what shares the machine; empty where it stands elsewhere.
    """
    foot = wrapped(caption)
    height = HEAD + ROW * len(ramps) + FOOT_LINE * len(foot) + 24
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFTS[0], 34, title, size=20),
    ]
    for number, ramp in enumerate(ramps):
        top = HEAD + number * ROW
        parts += [_text(LEFTS[0], top + 14, f"{ramp.kind}: {ramp.request}", size=15)]
        parts += _throughput(ramp, top + TOP)
        parts += _latency(ramp, top + TOP)
    first = HEAD + ROW * len(ramps) + 14
    parts += [_text(LEFTS[0], first + FOOT_LINE * n, line, size=12, fill="#555") for n, line in enumerate(foot)]
    return "\n".join([*parts, "</svg>\n"])


def _throughput(ramp: Ramp, top: float) -> list[str]:
    """Throughput over users: the steps stand side by side, since their users grow by a factor."""
    steps, left = ramp.steps, LEFTS[0]
    floor = top + ROW - TOP - BOTTOM
    most = max(step.rate for step in steps) * 1.12 or 1.0
    y = _linear(0, most, floor, top)
    x = _linear(-0.5, len(steps) - 0.5, left, left + PANEL)
    parts = _frame(left, top, floor, "users at a time (offered)", "right answers a second")
    for value in ticks(most):
        parts += _across(left, y(value), f"{value:,.0f}")
    parts += [_text(x(n), floor + 18, str(step.users), anchor="middle") for n, step in enumerate(steps)]
    parts.append(_line([(x(n), y(step.rate)) for n, step in enumerate(steps)], RATE))
    for n, step in enumerate(steps):
        parts.append(f'<circle cx="{x(n):.1f}" cy="{y(step.rate):.1f}" r="3.5" fill="{RATE}"/>')
    knee = saturation(steps)
    if knee is not None:
        at = x(steps.index(knee))
        parts.append(f'<path d="M{at:.1f} {top}V{floor}" stroke="{MARK}" stroke-dasharray="5 4"/>')
        parts.append(
            f'<circle cx="{at:.1f}" cy="{y(knee.rate):.1f}" r="7" fill="none" stroke="{MARK}" stroke-width="2"/>'
        )
        words = f"saturation: {knee.rate:,.1f}/s at {knee.users} user{'s' if knee.users > 1 else ''}"
        near_end = at > left + PANEL / 2
        anchor, aside = ("end", -10) if near_end else ("start", 10)
        parts.append(_text(at + aside, floor - 12, words, anchor=anchor, fill=MARK))
    return parts


def _latency(ramp: Ramp, top: float) -> list[str]:
    """Percentiles of latency over throughput, each step joined to the next; beyond saturation they climb in place.

    The legend says what they are at saturation.
    """
    left = LEFTS[1]
    steps = [step for step in ramp.steps if step.answers]
    floor = top + ROW - TOP - BOTTOM
    parts = _frame(left, top, floor, "right answers a second (achieved)", "latency, ms (logarithmic)")
    if not steps:
        return parts
    low = 10 ** math.floor(math.log10(max(0.1, min(step.p50_ms for step in steps))))
    high = max(step.p99_ms for step in steps) * 1.3
    y = _linear(math.log10(low), math.log10(max(high, low * 10)), floor, top)
    most = max(step.rate for step in steps) * 1.12
    x = _linear(0, most, left, left + PANEL)
    for value in ticks(most):
        parts.append(_text(x(value), floor + 18, f"{value:,.0f}", anchor="middle"))
        parts.append(f'<path d="M{x(value):.1f} {top}V{floor}" stroke="#eee"/>')
    for value in decades(low, max(high, low * 10)):
        parts += _across(left, y(math.log10(value)), f"{value:g}")
    knee = saturation(steps)
    if knee is not None:
        at = x(knee.rate)
        anchor, aside = ("end", -10) if at > left + PANEL / 2 else ("start", 10)
        parts.append(f'<path d="M{at:.1f} {top}V{floor}" stroke="{MARK}" stroke-dasharray="5 4"/>')
        parts.append(_text(at + aside, floor - 12, "saturation", anchor=anchor, fill=MARK))
    for name, colour in LINES:
        points = [(x(step.rate), y(math.log10(max(low, _of(step, name))))) for step in steps]
        parts.append(_line(points, colour))
        parts += [f'<circle cx="{at:.1f}" cy="{on:.1f}" r="3" fill="{colour}"/>' for at, on in points]
    for number, (name, colour) in enumerate(LINES):
        start = left + LEGEND * number
        words = name if knee is None else f"{name} {_of(knee, name):,.0f} ms"
        parts.append(f'<path d="M{start} {top - 14}h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(start + 23, top - 10, words))
    return parts


def _of(step: Step, name: str) -> float:
    return {"p50": step.p50_ms, "p95": step.p95_ms, "p99": step.p99_ms}[name]


def _linear(low: float, high: float, start: float, end: float) -> Place:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten from ``low`` to ``high``."""
    power, found = 10.0 ** math.floor(math.log10(low)), []
    while power <= high:
        found += [power * step for step in (1, 2, 5) if low <= power * step <= high]
        power *= 10
    return found


def _frame(left: float, top: float, floor: float, x_name: str, y_name: str) -> list[str]:
    middle = (top + floor) / 2
    aside = f'transform="rotate(-90 {left - 56} {middle})"'
    return [
        f'<path d="M{left} {top}V{floor}H{left + PANEL}" fill="none" stroke="#888"/>',
        _text(left + PANEL / 2, floor + 42, x_name, anchor="middle"),
        f'<text x="{left - 56}" y="{middle}" text-anchor="middle" {aside}>{escape(y_name)}</text>',
    ]


def _across(left: float, y: float, words: str) -> list[str]:
    line = f'<path d="M{left} {y:.1f}H{left + PANEL}" stroke="#ddd"/>'
    return [line, _text(left - 8, y + 4, words, anchor="end")]


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "start", fill: str = "#222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{escape(words)}</text>'
    )


def wrapped(words: str) -> list[str]:
    """Return a text in lines that fit under the picture."""
    lines = [""]
    for word in words.split():
        if len(lines[-1]) + len(word) >= LINE_CHARS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
