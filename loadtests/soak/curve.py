"""Memory over requests as a picture: a small SVG, no library needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 960, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 50, 50
FONT = 'font-family="sans-serif" font-size="12"'
COLOURS = ("#1f6fb2", "#c2570c", "#2e7d32", "#7b1fa2")
STEPS = (1, 2, 5, 10)


def svg(title: str, xs: Sequence[float], lines: Mapping[str, Sequence[float]], *, x_name: str, y_name: str) -> str:
    """Return a line chart from zero up.

    Args:
        title: above it.
        xs: at least two, rising.
        lines: one value for each of ``xs``, by the line's name.
        x_name: of the lower axis, with its unit.
        y_name: of the left axis, with its unit.
    """
    most_x, most_y = max(xs), max(max(values) for values in lines.values()) * 1.1 or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + x / most_x * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y / most_y * (HEIGHT - TOP - BOTTOM),
        )

    aside = f'x="16" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 {HEIGHT / 2})"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_name)}</text>',
        f"<text {aside}>{escape(y_name)}</text>",
    ]
    for value in ticks(most_y):
        x, y = at(0, value)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:,.0f}</text>')
    for value in ticks(most_x):
        x, y = at(value, 0)
        parts.append(f'<path d="M{x:.1f} {TOP}V{y:.1f}" stroke="#eee"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{value:,.0f}</text>')
    for number, (name, values) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in zip(xs, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        x = LEFT + 180 * number
        parts.append(f'<path d="M{x} 36h20" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 26}" y="40">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def ticks(most: float) -> list[float]:
    """Return round values from 0 to ``most``, about five of them."""
    rough = most / 5
    power = 10.0 ** (len(f"{int(rough)}") - 1) if rough >= 1 else 1.0
    step = next(step * power for step in STEPS if step * power >= rough)
    return [step * number for number in range(int(most / step) + 1)]
