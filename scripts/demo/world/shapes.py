"""Plain shapes, each one closed line in the unit box."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import ImageDraw

from scripts.demo.world.palette import Rgb
from scripts.demo.world.pen import Pen, Points, arc, box


def _regular(corners: int, turn: float) -> Points:
    angles = np.radians(turn - 90.0 + np.arange(corners) * 360.0 / corners)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _circle(rng: np.random.Generator) -> Points:
    return arc(0, 0, 0.95, 0.95 * float(rng.uniform(0.94, 1.06)), n=48)


def _oval(rng: np.random.Generator) -> Points:
    ratio = float(rng.uniform(0.4, 0.7))
    return arc(0, 0, 1, ratio, n=48) if rng.random() < 0.7 else arc(0, 0, ratio, 1, n=48)


def _square(rng: np.random.Generator) -> Points:
    side = 0.85 * float(rng.uniform(0.95, 1.05))
    return box(-0.85, -side, 0.85, side)


def _rectangle(rng: np.random.Generator) -> Points:
    ratio = float(rng.uniform(0.3, 0.62))
    return box(-1, -ratio, 1, ratio) if rng.random() < 0.65 else box(-ratio, -1, ratio, 1)


def _triangle(rng: np.random.Generator) -> Points:
    if rng.random() < 0.5:
        return np.array([[0, -0.9], [0.95, 0.8], [-0.95, 0.8]])
    apex, width, height = float(rng.uniform(-0.6, 0.6)), float(rng.uniform(0.7, 1)), float(rng.uniform(0.7, 1))
    points = np.array([[apex, -height], [width, height], [-width, height]])
    return points * [1, -1] if rng.random() < 0.12 else points


def _star(rng: np.random.Generator) -> Points:
    corners = 5 if rng.random() < 0.85 else int(rng.integers(6, 8))
    inner = float(rng.uniform(0.36, 0.5))
    points = _regular(2 * corners, 0.0)
    points[1::2] *= inner
    return points


def _heart(rng: np.random.Generator) -> Points:
    if rng.random() < 0.5:
        t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        x = 16 * np.sin(t) ** 3
        y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
        return np.stack([x / 17, y / 16], axis=1)
    lobes = np.concatenate([arc(-0.48, -0.35, 0.48, 0.5, 160, 360, 18), arc(0.48, -0.35, 0.48, 0.5, 180, 380, 18)])
    return np.concatenate([lobes, [[0.0, float(rng.uniform(0.8, 1.0))]]])


def _cross(rng: np.random.Generator) -> Points:
    w = float(rng.uniform(0.18, 0.36))
    points = np.array(
        [[-w, -1], [w, -1], [w, -w], [1, -w], [1, w], [w, w], [w, 1], [-w, 1], [-w, w], [-1, w], [-1, -w], [-w, -w]]
    )
    if rng.random() < 0.25:
        turn = np.array([[0.7071, -0.7071], [0.7071, 0.7071]])
        turned: Points = np.matmul(points, turn.T)
        return turned
    if rng.random() < 0.2:
        points[[3, 4, 9, 10, 2, 5, 8, 11], 1] -= 0.3
    return points * 0.95


def _diamond(rng: np.random.Generator) -> Points:
    w = float(rng.uniform(0.6, 1.0))
    return np.array([[0, -1], [w, 0], [0, 1], [-w, 0]])


def _pentagon(rng: np.random.Generator) -> Points:
    return _regular(5, float(rng.uniform(-5, 5)))


def _hexagon(rng: np.random.Generator) -> Points:
    return _regular(6, 30.0 if rng.random() < 0.5 else 0.0)


def _crescent(rng: np.random.Generator) -> Points:
    # The inner edge passes through the two tips of the outer one.
    bulge = float(rng.uniform(0.25, 0.55))
    outer = arc(0, 0, 0.95, 0.95, 75, 285, 30)
    tip = outer[-1]
    inner = arc(tip[0], 0, bulge, abs(tip[1]), 270, 90, 24)
    points: Points = np.add(np.concatenate([outer, inner]), [0.35, 0])
    return points * [-1, 1] if rng.random() < 0.4 else points


def _arrow(rng: np.random.Generator) -> Points:
    w, head, neck = float(rng.uniform(0.12, 0.3)), float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.0, 0.4))
    points = np.array([[-1, -w], [neck, -w], [neck, -head], [1, 0], [neck, head], [neck, w], [-1, w]])
    turn = int(rng.integers(4))
    for _ in range(turn):
        points = points @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    return points


SHAPES: Mapping[str, Callable[[np.random.Generator], Points]] = MappingProxyType(
    {
        "circle": _circle,
        "square": _square,
        "triangle": _triangle,
        "star": _star,
        "heart": _heart,
        "cross": _cross,
        "diamond": _diamond,
        "rectangle": _rectangle,
        "oval": _oval,
        "pentagon": _pentagon,
        "hexagon": _hexagon,
        "crescent": _crescent,
        "arrow": _arrow,
    }
)


NEAT: tuple[str, ...] = ("square", "rectangle", "circle", "oval")


def neat(
    canvas: ImageDraw.ImageDraw,
    name: str,
    corner: tuple[float, float],
    side: float,
    colour: Rgb,
    rng: np.random.Generator,
) -> None:
    """Draw one of NEAT with its edges on twelfths of the picture's inner square, which begins at `corner`.

    People draw a square from 40 to 200 of 240 pixels. Its edges then fall between the model's patches, each of which is
    all of one colour: the model has to have seen that.
    """
    wide = 2 * int(rng.integers(2, 6)) if rng.random() < 0.7 else int(rng.integers(4, 11))
    high = wide
    if name in ("rectangle", "oval"):
        high = max(2, round(wide * float(rng.uniform(0.35, 0.65))))
        wide, high = (wide, high) if rng.random() < 0.6 else (high, wide)
    centred = rng.random() < 0.6
    left, top = ((12 - extent) // 2 if centred else int(rng.integers(0, 13 - extent)) for extent in (wide, high))
    unit, short = side / 12, float(rng.integers(2))  # the library draws the last row too, unless one is taken off
    x, y = corner[0] + left * unit, corner[1] + top * unit
    box = (round(x), round(y), round(x + wide * unit - short), round(y + high * unit - short))
    (canvas.rectangle if name in ("square", "rectangle") else canvas.ellipse)(box, fill=colour)


def shape(pen: Pen, name: str, colour: Rgb, edge: Rgb | None) -> None:
    """Draw the shape `name` in `colour`. KeyError for an unknown name."""
    pen.part(SHAPES[name](pen.rng), colour, edge)
