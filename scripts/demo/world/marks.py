"""Splatters, wounds, scrawls, writing and signs."""

from __future__ import annotations

import numpy as np

from scripts.demo.world.palette import Rgb, apart_from, jitter, skin, tint
from scripts.demo.world.pen import Pen, Points, arc, box

_INKS: tuple[Rgb, ...] = ((0, 0, 0), (40, 40, 40), (255, 255, 255), (20, 20, 90))


def blood(rng: np.random.Generator) -> Rgb:
    """Return a blood red, from bright to dark."""
    reds: tuple[Rgb, ...] = ((200, 0, 0), (180, 10, 15), (220, 10, 20), (140, 0, 0), (255, 0, 0), (160, 20, 20))
    return jitter(reds[int(rng.integers(len(reds)))], 8.0, rng)


def _blob(rng: np.random.Generator, cx: float, cy: float, r: float, spikes: float) -> Points:
    """A blob whose radius varies around `r`; `spikes` 0..1 tells how much."""
    n = int(rng.integers(18, 40))
    angles = np.linspace(0, 2 * np.pi, n, endpoint=False)
    radius = r * (1 + spikes * rng.uniform(-0.5, 1.0, n) * (rng.random(n) < 0.6))
    return np.stack([cx + radius * np.cos(angles), cy + radius * np.sin(angles)], axis=1)


def splatter(pen: Pen, colour: Rgb) -> None:
    """Draw a splash: blobs with drops thrown about it and drips running down."""
    rng, u = pen.rng, pen.rng.uniform
    core, kind = float(u(0.25, 0.58)), u()
    if kind < 0.85:
        pen.area(_blob(rng, 0, 0, core, float(u(0.05, 0.6))), colour)
        for _ in range(int(u(0, 4))):
            pen.area(
                _blob(rng, float(u(-0.5, 0.5)), float(u(-0.5, 0.4)), float(u(0.12, 0.35)), float(u(0.0, 0.5))), colour
            )
    dark: Rgb = (colour[0] * 3 // 4, colour[1] * 3 // 4, colour[2] * 3 // 4)
    drops = int(u(4, 26)) if kind < 0.85 else int(u(18, 50))
    for _ in range(drops):
        angle, reach = float(u(0, 2 * np.pi)), float(u(0.3 if kind < 0.85 else 0.0, 1.0))
        r = float(u(0.03, 0.13)) * (1.25 - reach * 0.7) * (1.0 if kind < 0.85 else 1.6)
        x, y = reach * np.cos(angle), reach * np.sin(angle)
        if u() < 0.7:
            pen.dot(x, y, r, colour if u() < 0.85 else dark)
        else:
            pen.line([[x * 0.75, y * 0.75], [x, y]], colour, share=r)
    if u() < 0.6:
        for _ in range(int(u(1, 6))):
            x, top, low = float(u(-core, core)), float(u(-0.1, 0.3)), float(u(0.5, 1.0))
            share = float(u(0.05, 0.16))
            pen.line([[x, top], [x, low]], colour, share=share)
            pen.dot(x, low, share * 0.7, colour)


def wound(pen: Pen) -> None:
    """Draw a piece of skin (an arm, a patch, a hand-sized oval) with a bleeding cut."""
    rng, u = pen.rng, pen.rng.uniform
    flesh, red = apart_from(tuple(skin(rng) for _ in range(4)), (pen.backdrop,), rng), blood(rng)
    if u() < 0.55:
        pen.area(box(-1, -float(u(0.35, 0.6)), 1, float(u(0.35, 0.6))), flesh)
    else:
        pen.area(arc(0, 0, float(u(0.75, 1)), float(u(0.55, 0.95))), flesh)
    dark: Rgb = (red[0] // 2, red[1] // 3, red[2] // 3)
    kind, x, y = u(), float(u(-0.25, 0.25)), float(u(-0.15, 0.1))
    if kind < 0.45:  # a gash
        t, slant = np.linspace(-1, 1, 12), float(u(-0.3, 0.3))
        half, deep = float(u(0.25, 0.5)), float(u(0.08, 0.2))
        upper = np.stack([x + half * t, y + slant * t - deep * (1 - t**2)], axis=1)
        lower = np.stack([x + half * t, y + slant * t + deep * (1 - t**2)], axis=1)
        pen.area(np.concatenate([upper, lower[::-1]]), red)
        if u() < 0.5:
            pen.line(np.stack([x + half * 0.8 * t, y + slant * t], axis=1), dark, share=0.05)
    elif kind < 0.75:  # a hole
        r = float(u(0.18, 0.34))
        pen.area(_blob(rng, x, y, r, 0.3), red)
        if u() < 0.6:
            pen.area(_blob(rng, x, y, r * 0.5, 0.3), dark)
    else:  # scratches
        for k in range(int(u(2, 5))):
            pen.line([[x - 0.3 + 0.2 * k, y - 0.3], [x - 0.1 + 0.2 * k, y + 0.3]], red, share=float(u(0.06, 0.12)))
    for _ in range(int(u(1, 5))):
        dx, low = x + float(u(-0.2, 0.2)), float(u(0.4, 0.95))
        pen.line([[dx, y], [dx, low]], red, share=float(u(0.04, 0.11)))
        pen.dot(dx, low, 0.07, red)


def scrawl(pen: Pen, colour: Rgb) -> None:
    """Draw an angry scrawl: fast jagged strokes back and forth over each other."""
    rng, u = pen.rng, pen.rng.uniform
    n, kind = int(u(10, 36)), u()
    share = float(u(0.03, 0.13))
    if kind < 0.45:  # back and forth
        t = np.linspace(-0.95, 0.95, n)
        side = np.where(np.arange(n) % 2 == 0, -1.0, 1.0) * rng.uniform(0.45, 1.0, n)
        points = np.stack([t + rng.normal(0, 0.12, n), side], axis=1)
        if u() < 0.5:
            points = points[:, ::-1]
    elif kind < 0.8:  # all over the place
        points = rng.uniform(-1, 1, (n, 2))
    else:  # crossed out
        points = np.array([[-1, -1], [1, 1], [0.9, -1], [-1, 0.9], [1, 0.7], [-0.9, -0.8], [0.7, -1], [-0.7, 1]])
        points = points + rng.normal(0, 0.12, points.shape)
    pen.line(points, colour, share=share)
    if u() < 0.4:
        again = rng.uniform(-0.9, 0.9, (int(u(4, 12)), 2))
        pen.line(again, colour if u() < 0.6 else apart_from((blood(rng), (0, 0, 0)), (pen.backdrop,), rng), share=share)


def _curses(pen: Pen, ink: Rgb, x0: float, x1: float, y: float, tall: float) -> None:
    """Write the signs that stand for a curse in comics: # @ ! % $ * and lightning."""
    u = pen.rng.uniform
    count = int(u(3, 6))
    share = tall * float(u(0.14, 0.26))
    step = (x1 - x0) / count
    for k in range(count):
        x, r = x0 + step * (k + 0.5), min(tall, step * 0.45)
        kind = int(pen.rng.integers(6))
        if k == count - 1 or kind == 0:  # !
            pen.line([[x, y - tall], [x, y + tall * 0.35]], ink, share=share * 1.2)
            pen.dot(x, y + tall * 0.85, share * 0.8, ink)
        elif kind == 1:  # #
            for d in (-0.35, 0.35):
                pen.line([[x + d * r + 0.15 * r, y - tall], [x + d * r - 0.15 * r, y + tall]], ink, share=share)
                pen.line([[x - r, y + d * tall], [x + r, y + d * tall]], ink, share=share)
        elif kind == 2:  # @
            pen.line(arc(x, y, r, tall, 40, 340, 20), ink, share=share)
            pen.line(arc(x, y, r * 0.4, tall * 0.4, n=14), ink, share=share, closed=True)
        elif kind == 3:  # *
            for a in (0, 60, 120):
                pen.line(
                    np.stack([arc(x, y, r, tall, a, a, 1)[0], arc(x, y, r, tall, a + 180, a + 180, 1)[0]]),
                    ink,
                    share=share,
                )
        elif kind == 4:  # lightning
            pen.line(
                [[x + r * 0.5, y - tall], [x - r * 0.4, y], [x + r * 0.4, y], [x - r * 0.5, y + tall]], ink, share=share
            )
        else:  # %
            pen.line([[x + r * 0.7, y - tall], [x - r * 0.7, y + tall]], ink, share=share)
            pen.dot(x - r * 0.6, y - tall * 0.5, share * 1.2, ink)
            pen.dot(x + r * 0.6, y + tall * 0.5, share * 1.2, ink)


def sign(pen: Pen, *, rude: bool) -> None:
    """Draw a board on a post or a speech bubble: with curse signs or a skull on it if `rude`, else something kind."""
    rng, u = pen.rng, pen.rng.uniform
    board = apart_from(
        tuple(tint(n, rng) for n in ("white", "yellow", "white", "gray", "orange")), (pen.backdrop,), rng
    )
    ink = apart_from(((0, 0, 0), (200, 0, 0), (40, 40, 40), (120, 0, 120)) if rude else _INKS, (board,), rng)
    edge = apart_from(_INKS, (pen.backdrop,), rng)
    low = float(u(0.3, 0.5))
    if u() < 0.55:
        pen.line(
            [[0.0, low], [0.0, 1.0]], apart_from(((101, 67, 33), (120, 120, 120)), (pen.backdrop,), rng), share=0.12
        )
        outline = box(-0.95, -0.8, 0.95, low)
    else:
        middle, tall = (low - 0.8) / 2, (low + 0.8) / 2
        pen.area(np.array([[-0.4, low - 0.2], [-0.05, low - 0.1], [-0.6, 0.95]]), board)
        outline = arc(0, middle, 1, tall)
    pen.area(outline, board)
    pen.line(outline, edge, share=float(u(0.04, 0.09)), closed=True)
    y = (low - 0.8) / 2
    if rude:
        if u() < 0.65:
            _curses(pen, ink, -0.75, 0.75, y, float(u(0.2, 0.38)))
        elif u() < 0.5:
            _finger(pen, 0, y, 0.45, apart_from((skin(rng), ink), (board,), rng))
        else:
            _skull(pen, 0, y, 0.4, ink, board)
        return
    kind = u()
    if kind < 0.25:
        pen.line(
            [[-0.3, y], [-0.05, y + 0.28], [0.4, y - 0.3]], apart_from(((0, 140, 0), ink), (board,), rng), share=0.13
        )
    elif kind < 0.45:
        pen.line([[-0.55, y], [0.5, y]], ink, share=0.12)
        pen.area(np.array([[0.35, y - 0.25], [0.65, y], [0.35, y + 0.25]]), ink)
    elif kind < 0.65:
        for side in (-1, 1):
            pen.dot(side * 0.22, y - 0.15, 0.07, ink)
        pen.line(arc(0, y, 0.35, 0.3, 20, 160, 14), ink, share=0.08)
    elif kind < 0.9:
        for row in np.linspace(y - 0.25, y + 0.25, int(u(2, 4))):
            pen.line([[-0.6, row], [float(u(0.2, 0.6)), row]], ink, share=0.08)


def _finger(pen: Pen, x: float, y: float, r: float, colour: Rgb) -> None:
    """Draw a fist with one finger up: a very simple one."""
    pen.line([[x, y + r * 0.3], [x, y - r]], colour, share=r * 0.45)
    pen.area(arc(x, y + r * 0.5, r * 0.75, r * 0.5, n=24), colour)
    for k in (-0.5, 0.5):
        pen.dot(x + k * r, y + r * 0.15, r * 0.26, colour)


def _skull(pen: Pen, x: float, y: float, r: float, ink: Rgb, hole: Rgb) -> None:
    pen.area(arc(x, y - r * 0.2, r * 0.9, r * 0.75, n=26), ink)
    pen.area(box(x - r * 0.5, y + r * 0.2, x + r * 0.5, y + r * 0.9), ink)
    for side in (-1, 1):
        pen.dot(x + side * r * 0.38, y - r * 0.15, r * 0.22, hole)
    for k in (-0.25, 0.0, 0.25):
        pen.line([[x + k * r, y + r * 0.5], [x + k * r, y + r * 0.9]], hole, share=0.03)


def finger(pen: Pen) -> None:
    """Draw a large hand that shows one finger."""
    _finger(pen, 0, 0, 0.95, apart_from((skin(pen.rng), skin(pen.rng), (0, 0, 0)), (pen.backdrop,), pen.rng))


def curses(pen: Pen) -> None:
    """Write large curse signs without a board."""
    ink = apart_from(((0, 0, 0), blood(pen.rng), (255, 255, 255), (90, 0, 90)), (pen.backdrop,), pen.rng)
    _curses(pen, ink, -0.95, 0.95, 0.0, float(pen.rng.uniform(0.35, 0.6)))


def writing(pen: Pen) -> None:
    """Draw neat handwriting: even loops along straight lines."""
    rng, u = pen.rng, pen.rng.uniform
    ink = apart_from(((0, 0, 0), (20, 30, 120), (70, 70, 70), (255, 255, 255)), (pen.backdrop,), rng)
    rows = int(u(2, 6))
    tall = 0.8 / rows * 0.5
    for row in np.linspace(-0.75, 0.75, rows):
        t = np.linspace(0, 1, 60)
        turns = float(u(8, 14)) * 2 * np.pi
        end = float(u(1.2, 1.85))
        x = -0.92 + end * t + 0.04 * np.cos(turns * t)
        pen.line(np.stack([x, row + tall * np.sin(turns * t)], axis=1), ink, share=float(u(0.02, 0.05)))
