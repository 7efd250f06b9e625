"""Everyday objects: each is drawn from a few parts, its main part in the asked colour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from scripts.demo.world.palette import Rgb, apart_from, hair, tint
from scripts.demo.world.pen import Pen, arc, box

_DETAILS: tuple[Rgb, ...] = ((0, 0, 0), (255, 255, 255), (60, 60, 60), (200, 200, 200), (120, 80, 40), (240, 220, 120))


def _detail(pen: Pen, colour: Rgb) -> Rgb:
    """A colour for windows, wheels and stems: visible on the main part (or on the backdrop, where it is hollow)."""
    behind = pen.backdrop if pen.hand.mode in ("outline", "hatched") else colour
    return apart_from(_DETAILS, (behind,), pen.rng)


def _ink(pen: Pen, colour: Rgb) -> Rgb:
    """A colour for thin parts beside the main one."""
    return apart_from((colour, *_DETAILS[:4]), (pen.backdrop,), pen.rng)


def _house(pen: Pen, colour: Rgb) -> None:
    u = pen.rng.uniform
    top, wide = float(u(-0.3, 0.05)), float(u(0.6, 0.85))
    pen.part(box(-wide, top, wide, 0.95), colour)
    roof = colour if u() < 0.4 else tint(("red", "brown", "gray", "black")[int(pen.rng.integers(4))], pen.rng)
    roof = apart_from((roof, colour), (pen.backdrop,), pen.rng)
    pen.part(np.array([[-wide - 0.15, top], [0, -0.95], [wide + 0.15, top]]), roof)
    detail = _detail(pen, colour)
    door = float(u(-0.35, 0.15))
    pen.area(box(door, 0.4, door + 0.28, 0.95), detail)
    if u() < 0.8:
        pen.area(box(-0.5, top + 0.2, -0.22, top + 0.45), detail)
        pen.area(box(0.25, top + 0.2, 0.53, top + 0.45), detail)


def _tree(pen: Pen, colour: Rgb) -> None:
    u = pen.rng.uniform
    trunk = apart_from(((101, 67, 33), (139, 69, 19), (80, 50, 30), (60, 60, 60)), (pen.backdrop,), pen.rng)
    w = float(u(0.09, 0.18))
    pen.area(box(-w, 0.1, w, 0.98), trunk)
    kind = u()
    if kind < 0.4:
        pen.part(arc(0, -0.3, float(u(0.55, 0.8)), 0.65), colour)
    elif kind < 0.75:
        for y, r in ((-0.1, 0.75), (-0.45, 0.55)):
            pen.part(np.array([[-r, y + 0.45], [0, y - 0.5], [r, y + 0.45]]), colour)
    else:
        for x, y in ((-0.4, -0.1), (0.4, -0.1), (0, -0.5), (0, -0.1)):
            pen.part(arc(x, y, 0.45, 0.42), colour)


def _car(pen: Pen, colour: Rgb) -> None:
    low = float(pen.rng.uniform(0.0, 0.12))
    pen.part(np.array([[-0.55, low], [-0.35, -0.45], [0.3, -0.45], [0.6, low]]), colour)
    pen.part(box(-1, low, 1, 0.5), colour)
    pen.area(np.array([[-0.38, low - 0.03], [-0.27, -0.32], [-0.03, -0.32], [-0.03, low - 0.03]]), _detail(pen, colour))
    pen.area(np.array([[0.05, low - 0.03], [0.05, -0.32], [0.24, -0.32], [0.42, low - 0.03]]), _detail(pen, colour))
    wheel = apart_from(((0, 0, 0), (50, 50, 50), (90, 90, 90), (230, 230, 230)), (pen.backdrop,), pen.rng)
    for x in (-0.55, 0.55):
        pen.area(arc(x, 0.5, 0.24, 0.24, n=20), wheel)
        pen.dot(x, 0.5, 0.09, _detail(pen, wheel))


def _sun(pen: Pen, colour: Rgb) -> None:
    r, rays = float(pen.rng.uniform(0.4, 0.58)), int(pen.rng.integers(7, 15))
    for k in range(rays):
        a = 2 * np.pi * k / rays
        way = np.array([np.cos(a), np.sin(a)])
        pen.line(np.stack([way * (r + 0.1), way]), colour, share=max(0.06, pen.hand.line))
    pen.part(arc(0, 0, r, r), colour)


def _cup(pen: Pen, colour: Rgb) -> None:
    slope, up = float(pen.rng.uniform(0, 0.2)), float(pen.rng.uniform(-0.75, -0.45))
    pen.line(arc(0.6, 0.05, 0.38, 0.4, -95, 95, 20), colour, share=max(0.1, pen.hand.line))
    pen.part(np.array([[-0.7, up], [0.6, up], [0.6 - slope, 0.8], [-0.7 + slope, 0.8]]), colour)
    if pen.rng.random() < 0.4:
        pen.part(arc(-0.05, up, 0.65, 0.14, n=24), _detail(pen, colour))


def _fish(pen: Pen, colour: Rgb) -> None:
    way = 1 if pen.rng.random() < 0.5 else -1
    flip = np.array([way, 1])
    tall = float(pen.rng.uniform(0.38, 0.55))
    pen.part(np.array([[0.45, 0], [1, -0.5], [0.9, 0], [1, 0.5]]) * flip, colour)
    pen.part(arc(-0.2, 0, 0.75, tall) * flip, colour)
    pen.dot(-0.62 * way, -0.12, 0.07, _detail(pen, colour))
    if pen.rng.random() < 0.5:
        pen.line(arc(-0.65, 0, 0.3, tall * 0.8, -60, 60, 12) * flip, _detail(pen, colour), share=0.04)


def _flower(pen: Pen, colour: Rgb) -> None:
    green = apart_from(((0, 128, 0), (50, 160, 60), (20, 90, 30)), (pen.backdrop,), pen.rng)
    pen.line([[0.0, 0.0], [float(pen.rng.uniform(-0.1, 0.1)), 1.0]], green, share=max(0.07, pen.hand.line))
    if pen.rng.random() < 0.6:
        pen.area(arc(0.2, 0.65, 0.22, 0.1, n=16), green)
    petals = int(pen.rng.integers(5, 9))
    for k in range(petals):
        a = 2 * np.pi * k / petals
        pen.part(arc(0.36 * np.cos(a), -0.4 + 0.36 * np.sin(a), 0.24, 0.24, n=20), colour)
    pen.area(
        arc(0, -0.4, 0.22, 0.22, n=20), apart_from(((255, 220, 0), (120, 70, 20), (255, 255, 255)), (colour,), pen.rng)
    )


def _cloud(pen: Pen, colour: Rgb) -> None:
    if pen.hand.mode in ("outline", "hatched"):
        bumps = [arc(-0.6, 0.1, 0.38, 0.32, 90, 250, 12), arc(-0.15, -0.2, 0.42, 0.4, 190, 320, 12)]
        bumps += [arc(0.35, -0.05, 0.35, 0.35, 230, 350, 12), arc(0.65, 0.15, 0.33, 0.27, 280, 450, 12)]
        pen.part(np.concatenate(bumps), colour)
        return
    for x, y, r in ((-0.6, 0.1, 0.36), (-0.15, -0.15, 0.46), (0.35, 0.0, 0.4), (0.68, 0.15, 0.3)):
        pen.area(arc(x, y, r, r), colour)
    pen.area(box(-0.6, 0.05, 0.68, 0.45), colour)


def _boat(pen: Pen, colour: Rgb) -> None:
    pen.part(np.array([[-0.95, 0.35], [0.95, 0.35], [0.6, 0.85], [-0.6, 0.85]]), colour)
    pen.line([[0, 0.35], [0, -0.95]], _ink(pen, colour), share=0.06)
    sail = apart_from(((255, 255, 255), (230, 230, 210), colour, (180, 180, 180)), (pen.backdrop,), pen.rng)
    pen.part(np.array([[0.06, -0.9], [0.06, 0.25], [0.75, 0.25]]), sail)
    if pen.rng.random() < 0.5:
        pen.part(np.array([[-0.06, -0.7], [-0.06, 0.25], [-0.6, 0.25]]), sail)


def _umbrella(pen: Pen, colour: Rgb) -> None:
    pen.line([[0, -0.1], [0, 0.75]], _ink(pen, colour), share=0.07)
    pen.line(arc(0.15, 0.75, 0.15, 0.17, 180, 0, 10), _ink(pen, colour), share=0.07)
    canopy = [arc(0, 0, 0.95, 0.85, 180, 360, 30)]
    if pen.rng.random() < 0.6:
        canopy += [arc(x, 0, 0.24, 0.12, 0, -180, 8) for x in (0.71, 0.24, -0.24, -0.71)]
    pen.part(np.concatenate(canopy), colour)


def _apple(pen: Pen, colour: Rgb) -> None:
    pen.line(
        [[0, -0.5], [0.12, -0.92]],
        apart_from(((101, 67, 33), (60, 40, 20), (150, 120, 90)), (pen.backdrop,), pen.rng),
        0.08,
    )
    halves = np.concatenate([arc(-0.33, 0.1, 0.52, 0.72, 85, 290, 22), arc(0.33, 0.1, 0.52, 0.72, 250, 455, 22)])
    pen.part(halves, colour)
    pen.area(
        arc(0.35, -0.75, 0.22, 0.1, n=14),
        apart_from(((0, 150, 40), (60, 180, 60), (20, 90, 30)), (pen.backdrop,), pen.rng),
    )


def _balloon(pen: Pen, colour: Rgb) -> None:
    bend = float(pen.rng.uniform(-0.25, 0.25))
    t = np.linspace(0, 1, 14)
    pen.line(np.stack([bend * np.sin(t * 5), 0.45 + 0.55 * t], axis=1), _ink(pen, colour), share=0.035)
    pen.part(arc(0, -0.3, 0.55, 0.68), colour)
    pen.area(np.array([[0, 0.34], [0.1, 0.5], [-0.1, 0.5]]), colour)


def _key(pen: Pen, colour: Rgb) -> None:
    share = max(0.14, pen.hand.line)
    pen.line(arc(-0.6, 0, 0.33, 0.33), colour, share=share, closed=True)
    pen.line([[-0.25, 0], [0.95, 0]], colour, share=share)
    pen.line([[0.6, 0], [0.6, 0.3]], colour, share=share)
    pen.line([[0.88, 0], [0.88, 0.36]], colour, share=share)


def _book(pen: Pen, colour: Rgb) -> None:
    page = _detail(pen, colour)
    if pen.rng.random() < 0.5:
        pen.part(np.array([[0, -0.5], [-0.95, -0.65], [-0.95, 0.55], [0, 0.7]]), colour)
        pen.part(np.array([[0, -0.5], [0.95, -0.65], [0.95, 0.55], [0, 0.7]]), colour)
        for y in (-0.3, -0.05, 0.2):
            pen.line([[-0.75, y - 0.08], [-0.2, y]], page, share=0.05)
            pen.line([[0.2, y], [0.75, y - 0.08]], page, share=0.05)
    else:
        pen.part(box(-0.65, -0.9, 0.65, 0.9), colour)
        pen.line([[-0.45, -0.88], [-0.45, 0.88]], page, share=0.06)
        for y in (-0.45, -0.25):
            pen.line([[-0.2, y], [0.4, y]], page, share=0.07)


def _mushroom(pen: Pen, colour: Rgb) -> None:
    stem = apart_from(((245, 235, 210), (220, 200, 170), (150, 130, 110)), (pen.backdrop,), pen.rng)
    pen.part(box(-0.25, 0, 0.25, 0.9), stem)
    pen.part(np.concatenate([arc(0, 0.1, 0.9, 0.95, 180, 360, 30), arc(0, 0.1, 0.9, 0.12, 0, 180, 10)]), colour)
    spot = _detail(pen, colour)
    for x, y in ((-0.45, -0.25), (0.05, -0.5), (0.45, -0.2)):
        pen.dot(x, y, 0.12, spot)


def _bird(pen: Pen, colour: Rgb) -> None:
    way = 1 if pen.rng.random() < 0.5 else -1
    flip = np.array([way, 1])
    pen.area(
        np.array([[0.7, -0.5], [1, -0.38], [0.7, -0.28]]) * flip,
        apart_from(((255, 165, 0), (255, 210, 0), (90, 60, 0)), (pen.backdrop,), pen.rng),
    )
    pen.part(np.array([[-0.5, 0.1], [-1, -0.25], [-0.95, 0.2]]) * flip, colour)
    pen.part(arc(-0.1, 0.15, 0.6, 0.42) * flip, colour)
    pen.part(arc(0.45, -0.4, 0.3, 0.28) * flip, colour)
    pen.dot(0.52 * way, -0.45, 0.06, _detail(pen, colour))
    pen.part(np.array([[-0.4, 0.0], [0.2, 0.05], [-0.2, 0.4]]) * flip, _detail(pen, colour))
    for x in (-0.15, 0.1):
        pen.line([[x * way, 0.55], [x * way, 0.9]], _ink(pen, colour), share=0.05)


def _cat(pen: Pen, colour: Rgb) -> None:
    for side in (-1, 1):
        pen.part(np.array([[0.75 * side, -0.1], [0.7 * side, -0.95], [0.15 * side, -0.5]]), colour)
    pen.part(arc(0, 0.1, 0.8, 0.7), colour)
    detail = _detail(pen, colour)
    for side in (-1, 1):
        pen.area(arc(0.3 * side, -0.05, 0.11, 0.14, n=14), detail)
        for y in (0.25, 0.38):
            pen.line([[0.2 * side, 0.3], [0.95 * side, y + (y - 0.3) * 0.8]], detail, share=0.035)
    pen.area(np.array([[-0.1, 0.2], [0.1, 0.2], [0, 0.33]]), detail)


def _chair(pen: Pen, colour: Rgb) -> None:
    share = max(0.11, pen.hand.line)
    way = 1 if pen.rng.random() < 0.5 else -1
    for points in ([[-0.5, -0.95], [-0.5, 0.95]], [[-0.5, 0.15], [0.55, 0.15]], [[0.55, 0.15], [0.55, 0.95]]):
        pen.line(np.array(points) * [way, 1], colour, share=share)
    if pen.rng.random() < 0.5:
        pen.part(np.array([[-0.58, -0.95], [-0.4, -0.95], [-0.4, 0.1], [-0.58, 0.1]]) * [way, 1], colour)


def _table(pen: Pen, colour: Rgb) -> None:
    share = max(0.1, pen.hand.line)
    top = float(pen.rng.uniform(-0.45, -0.2))
    pen.part(box(-1, top, 1, top + 0.2), colour)
    inset = float(pen.rng.uniform(0.1, 0.3))
    for side in (-1, 1):
        pen.line([[side * (1 - inset), top + 0.2], [side * (1 - inset), 0.8]], colour, share=share)


def _clock(pen: Pen, colour: Rgb) -> None:
    pen.part(arc(0, 0, 0.92, 0.92), colour)
    detail = _detail(pen, colour)
    for k in range(12):
        way = np.array([np.cos(k * np.pi / 6), np.sin(k * np.pi / 6)])
        pen.line(np.stack([way * 0.7, way * 0.82]), detail, share=0.06)
    for length, angle in ((0.42, pen.rng.uniform(0, 6.28)), (0.62, pen.rng.uniform(0, 6.28))):
        pen.line([[0.0, 0.0], [float(length * np.cos(angle)), float(length * np.sin(angle))]], detail, share=0.07)


def _ladder(pen: Pen, colour: Rgb) -> None:
    share, rungs = max(0.09, min(0.14, pen.hand.line)), int(pen.rng.integers(4, 7))
    for x in (-0.38, 0.38):
        pen.line([[x, -0.98], [x, 0.98]], colour, share=share)
    for y in np.linspace(-0.78, 0.78, rungs):
        pen.line([[-0.38, y], [0.38, y]], colour, share=share)


def _leaf(pen: Pen, colour: Rgb) -> None:
    t = np.linspace(-1, 1, 20)
    side = 0.5 * (1 - t**2) * (1 - 0.25 * t)
    pen.line([[0, 0.6], [0, 1.0]], colour, share=0.08)
    pen.part(np.concatenate([np.stack([side, 0.85 * t - 0.1], 1), np.stack([-side, 0.85 * t - 0.1], 1)[::-1]]), colour)
    pen.line([[0, -0.8], [0, 0.7]], _detail(pen, colour), share=0.04)
    for y in (-0.3, 0.05, 0.4):
        for way in (-1, 1):
            pen.line([[0, y], [0.25 * way, y - 0.2]], _detail(pen, colour), share=0.03)


def _flag(pen: Pen, colour: Rgb) -> None:
    pen.line([[-0.7, -0.95], [-0.7, 0.98]], _ink(pen, hair(pen.rng)), share=0.08)
    if pen.rng.random() < 0.3:
        pen.part(np.array([[-0.66, -0.9], [0.8, -0.45], [-0.66, 0.0]]), colour)
        return
    t = np.linspace(0, 1, 14)
    sway = float(pen.rng.uniform(0, 0.12)) * np.sin(t * 6)
    top = np.stack([-0.66 + 1.55 * t, -0.9 + sway], axis=1)
    pen.part(np.concatenate([top, np.add(top, [0, 0.95])[::-1]]), colour)


OBJECTS: Mapping[str, Callable[[Pen, Rgb], None]] = MappingProxyType(
    {
        "house": _house, "tree": _tree, "car": _car, "sun": _sun, "cup": _cup, "fish": _fish, "flower": _flower,
        "cloud": _cloud, "boat": _boat, "umbrella": _umbrella, "apple": _apple, "balloon": _balloon, "key": _key,
        "book": _book, "mushroom": _mushroom, "bird": _bird, "cat": _cat, "chair": _chair, "table": _table,
        "clock": _clock, "ladder": _ladder, "leaf": _leaf, "flag": _flag,
    }
)  # fmt: skip


def thing(pen: Pen, name: str, colour: Rgb) -> None:
    """Draw the object `name` with its main part in `colour`. KeyError for an unknown name."""
    OBJECTS[name](pen, colour)
