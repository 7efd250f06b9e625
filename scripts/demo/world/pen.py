"""A pen with a hand of its own: points in an item's unit box become lines and areas on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ImageDraw

from scripts.demo.world.palette import Rgb

Points = NDArray[np.float64]
"""Points [n, 2], x to the right and y down, in the unit box -1..1 of an item."""


@dataclass(frozen=True)
class Hand:
    """How one picture is drawn.

    line: width of lines, as a share of an item's half size. wobble: how far lines stray, in the same unit.
    mode: 'filled', 'edged' (filled with a line around), 'outline' or 'hatched'. shade: whether areas have a lighter
    middle.
    """

    line: float
    wobble: float
    mode: str
    shade: bool


def arc(cx: float, cy: float, rx: float, ry: float, start: float = 0.0, end: float = 360.0, n: int = 40) -> Points:
    """Return `n` points of an elliptic arc; angles in degrees, 0 to the right, growing clockwise on the picture."""
    angles = np.radians(np.linspace(start, end, n))
    return np.stack([cx + rx * np.cos(angles), cy + ry * np.sin(angles)], axis=1)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """Return the four corners of a rectangle."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def _dense(points: Points, *, closed: bool) -> Points:
    """Put points on long edges, so that wobble bends them."""
    following = np.roll(points, -1, axis=0) if closed else points[1:]
    first = points if closed else points[:-1]
    parts = []
    for a, b in zip(first, following, strict=True):
        steps = max(1, min(12, int(np.hypot(*(b - a)) / 0.15)))
        parts.append(a + (b - a) * np.linspace(0, 1, steps, endpoint=False)[:, None])
    if not closed:
        parts.append(points[-1:])
    return np.concatenate(parts)


class Pen:
    """Draws in the unit box of one item onto a Pillow picture."""

    def __init__(
        self,
        canvas: ImageDraw.ImageDraw,
        centre: tuple[float, float],
        half: tuple[float, float],
        angle: float,
        hand: Hand,
        backdrop: Rgb,
        rng: np.random.Generator,
    ) -> None:
        """Place a unit box on `canvas`: `centre` and half sizes in pixels, `angle` in degrees.

        `backdrop` is the colour that mostly lies behind the item.
        """
        self.canvas, self.hand, self.backdrop, self.rng = canvas, hand, backdrop, rng
        turn = np.radians(angle)
        self._matrix = np.array(
            [[half[0] * np.cos(turn), -half[1] * np.sin(turn)], [half[0] * np.sin(turn), half[1] * np.cos(turn)]]
        )
        self._centre = np.asarray(centre)
        self._half = float(min(half))
        self._waves = rng.uniform(0, 2 * np.pi, (2, 4))
        self._freqs = rng.uniform(1.0, 7.0, (2, 4))

    def width(self, share: float | None = None) -> int:
        """Return a line width in pixels, at least 1; `share` of the item's half size, the hand's own if None."""
        return max(1, round((self.hand.line if share is None else share) * self._half))

    def place(self, points: ArrayLike, *, closed: bool = False) -> list[tuple[float, float]]:
        """Return unit-box points [n, 2] in pixels, with the hand's wobble."""
        unit = np.asarray(points, dtype=np.float64)
        if self.hand.wobble > 0.0 and len(unit) > 1:
            if len(unit) < 20:
                unit = _dense(unit, closed=closed)
            phase = unit[:, :1] * self._freqs[0] + unit[:, 1:] * self._freqs[1]
            unit = unit + self.hand.wobble * np.stack(
                [np.sin(phase + self._waves[0]).mean(axis=1), np.sin(phase + self._waves[1]).mean(axis=1)], axis=1
            )
        pixels = unit @ self._matrix.T + self._centre
        return [(float(x), float(y)) for x, y in pixels]

    def area(self, points: ArrayLike, colour: Rgb) -> None:
        """Fill a polygon."""
        self.canvas.polygon(self.place(points, closed=True), fill=colour)

    def line(self, points: ArrayLike, colour: Rgb, share: float | None = None, *, closed: bool = False) -> None:
        """Draw a line through points, with round joints where it is thick."""
        placed = self.place(points, closed=closed)
        if closed:
            placed = [*placed, placed[0], placed[1]]
        width = self.width(share)
        self.canvas.line(placed, fill=colour, width=width, joint="curve")
        if width > 3 and not closed:
            for x, y in (placed[0], placed[-1]):
                r = width / 2 - 0.5
                self.canvas.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def dot(self, x: float, y: float, radius: float, colour: Rgb) -> None:
        """Fill a small disc, at least one pixel wide."""
        (px, py), r = self.place([[x, y]])[0], max(0.7, radius * self._half)
        self.canvas.ellipse((px - r, py - r, px + r, py + r), fill=colour)

    def part(self, points: ArrayLike, colour: Rgb, edge: Rgb | None = None) -> None:
        """Draw one closed part in the hand's mode: filled, edged, outlined or hatched in `colour`.

        `edge` is the colour of the surrounding line where the mode has one ('edged'; darker than `colour` if None).
        """
        mode = self.hand.mode
        if mode == "outline":
            self.line(points, colour, closed=True)
            return
        if mode == "hatched":
            self._hatch(np.asarray(points, dtype=np.float64), colour)
            self.line(points, colour, closed=True)
            return
        self.area(points, colour)
        if self.hand.shade:
            self._shade(np.asarray(points, dtype=np.float64), colour)
        if mode == "edged":
            darker: Rgb = (colour[0] // 2, colour[1] // 2, colour[2] // 2)
            self.line(points, darker if edge is None else edge, closed=True)

    def _hatch(self, points: Points, colour: Rgb) -> None:
        """Fill a polygon with loose parallel strokes."""
        low, high = points.min(axis=0), points.max(axis=0)
        slant = float(self.rng.uniform(-0.5, 0.5))
        gap = float(max(0.07, self.hand.line * self.rng.uniform(1.2, 2.2)))
        for y in np.arange(low[1] - 1, high[1] + 1, gap):
            a, b = np.array([low[0] - 0.1, y]), np.array([high[0] + 0.1, y + slant * (high[0] - low[0])])
            for start, end in _inside(points, a, b):
                self.line(np.stack([a + (b - a) * start, a + (b - a) * end]), colour, share=gap * 0.5)

    def _shade(self, points: Points, colour: Rgb) -> None:
        """Lighten the middle of a polygon, as a lamp from the upper left would."""
        centre = points.mean(axis=0)
        for step, lift in ((0.72, 14), (0.42, 28)):
            lit: Rgb = (min(255, colour[0] + lift), min(255, colour[1] + lift), min(255, colour[2] + lift))
            self.area(centre - 0.08 * (1 - step) + (points - centre) * step, lit)


def _inside(points: Points, a: Points, b: Points) -> Sequence[tuple[float, float]]:
    """Return the stretches (as shares 0..1 of a-b) where the line a-b runs inside a polygon."""
    p, q = points, np.roll(points, -1, axis=0)
    d, e = b - a, q - p
    cross = d[0] * e[:, 1] - d[1] * e[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = ((p[:, 0] - a[0]) * e[:, 1] - (p[:, 1] - a[1]) * e[:, 0]) / cross
        s = ((p[:, 0] - a[0]) * d[1] - (p[:, 1] - a[1]) * d[0]) / cross
    hits = np.sort(t[(np.abs(cross) > 1e-9) & (s >= 0) & (s < 1) & (t >= 0) & (t <= 1)])
    return [(float(hits[i]), float(hits[i + 1])) for i in range(0, len(hits) - 1, 2)]
