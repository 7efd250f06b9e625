"""Cartoon faces with or without glasses, beard and hat, and with a smile, a frown or a straight mouth."""

from __future__ import annotations

import numpy as np

from scripts.demo.world.palette import ANCHORS, HAIRS, Rgb, apart_from, hair, jitter, skin, tint
from scripts.demo.world.pen import Pen, Points, arc, box

_INKS: tuple[Rgb, ...] = ((0, 0, 0), (30, 25, 25), (60, 40, 30), (20, 20, 80), (255, 255, 255))
_BRIGHT: tuple[Rgb, ...] = tuple(anchors[0] for name, anchors in ANCHORS.items())


def _skin(pen: Pen) -> Rgb:
    """A face colour: skin mostly, emoji yellow or anything at times."""
    die = pen.rng.random()
    if die < 0.62:
        return skin(pen.rng)
    if die < 0.82:
        return jitter((255, 214, 60), 12.0, pen.rng) if die < 0.76 else (255, 255, 0)
    if die < 0.92:
        return jitter((248, 246, 242), 6.0, pen.rng)
    return tint(("green", "blue", "pink", "orange", "gray")[int(pen.rng.integers(5))], pen.rng)


def _hat(pen: Pen, brow: float, avoid: tuple[Rgb, ...]) -> None:
    """Draw a hat whose lower edge lies at height `brow`."""
    u = pen.rng.uniform
    colour = apart_from(tuple(jitter(c, 10.0, pen.rng) for c in _BRIGHT), avoid, pen.rng)
    other = apart_from(_BRIGHT, (colour,), pen.rng)
    kind, wide = u(), float(u(0.55, 0.85))
    top = float(u(-1.3, -1.0))
    if kind < 0.34:  # a crown on a brim
        brim, thick = wide + float(u(0.12, 0.4)), float(u(0.07, 0.16))
        narrow = wide * float(u(0.75, 1.0))
        pen.area(np.array([[-narrow, top], [narrow, top], [wide * 0.9, brow], [-wide * 0.9, brow]]), colour)
        pen.area(box(-brim, brow - thick, brim, brow + thick * 0.3), colour)
        if u() < 0.5:
            pen.area(box(-wide * 0.9, brow - thick - 0.14, wide * 0.9, brow - thick), other)
    elif kind < 0.55:  # a pointed hat
        pen.area(np.array([[float(u(-0.1, 0.1)), top - 0.12], [wide, brow], [-wide, brow]]), colour)
        if u() < 0.5:
            pen.area(box(-wide - 0.25, brow - 0.1, wide + 0.25, brow + 0.02), colour)
        elif u() < 0.6:
            pen.dot(0, top - 0.1, 0.13, other)
    elif kind < 0.78:  # a cap or a woollen hat
        wide = float(u(0.68, 0.86))
        pen.area(arc(0, brow, wide, brow - top, 180, 360, 30), colour)
        if u() < 0.55:
            way = -1 if u() < 0.5 else 1
            pen.area(
                np.array([[0, brow - 0.13], [1.1 * way, brow - 0.08], [1.1 * way, brow + 0.06], [0, brow + 0.04]]),
                colour,
            )
        else:
            pen.area(box(-wide - 0.03, brow - 0.16, wide + 0.03, brow + 0.03), other)
            if u() < 0.6:
                pen.dot(0, top, 0.14, other)
    else:  # a plain block, with or without a brim
        pen.area(box(-wide, top, wide, brow), colour)
        if u() < 0.55:
            pen.line([[-wide - 0.3, brow], [wide + 0.3, brow]], colour, share=float(u(0.08, 0.18)))
    if pen.hand.mode == "edged" and u() < 0.5 and kind >= 0.78:
        pen.line(box(-wide, top, wide, brow), apart_from(_INKS, (colour,), pen.rng), closed=True)


def _beard(pen: Pen, rx: float, ry: float, mouth: float, face: Rgb) -> None:
    """Draw a beard on the lower part of a face with half sizes `rx`, `ry` and a mouth at height `mouth`."""
    u = pen.rng.uniform
    colour = apart_from(tuple(jitter(c, 8.0, pen.rng) for c in (*HAIRS, (255, 140, 40))), (face,), pen.rng)
    kind = u()
    if kind < 0.4:  # full, along the jaw
        start = float(u(0, 28))
        jaw = arc(0, 0, rx * float(u(1.0, 1.06)), ry * float(u(1.0, 1.18)), start, 180 - start, 26)
        inner = arc(
            0,
            jaw[0, 1],
            abs(jaw[0, 0]) * float(u(0.7, 0.98)),
            max(0.05, mouth - jaw[0, 1] - float(u(0.0, 0.2))),
            180,
            0,
            18,
        )
        pen.area(np.concatenate([jaw, inner]), colour)
    elif kind < 0.62:  # half a face, cut straight
        low = mouth - float(u(0.08, 0.28))
        edge = rx * np.sqrt(max(0.05, 1 - (low / ry) ** 2))
        start = float(np.degrees(np.arctan2(low / ry, edge / rx)))
        pen.area(arc(0, 0, rx, ry * float(u(1.0, 1.25)), start, 180 - start, 26), colour)
    elif kind < 0.8:  # pointed or rounded, below the mouth and around it
        wide, tip = rx * float(u(0.45, 0.95)), ry * float(u(1.15, 1.55))
        low = mouth - float(u(0.02, 0.2))
        if u() < 0.5:
            pen.area(np.array([[-wide, low], [wide, low], [0, tip]]), colour)
        else:
            pen.area(arc(0, (low + tip) / 2, wide, (tip - low) / 2), colour)
    elif kind < 0.9:  # a goatee
        pen.area(arc(0, ry * 0.9, rx * float(u(0.3, 0.5)), ry * float(u(0.28, 0.45))), colour)
    else:  # single hairs
        share = float(u(0.03, 0.07))
        for _ in range(int(u(25, 60))):
            angle = float(u(10, 170))
            p = arc(0, 0, rx * 0.85, ry * 0.85, angle, angle, 1)[0]
            pen.line(np.stack([p, p * [1.08, float(u(1.2, 1.45))]]), colour, share=share)
    if u() < 0.45:  # a moustache with it
        pen.area(arc(0, mouth - 0.17, rx * float(u(0.35, 0.55)), 0.09, n=20), colour)


def _mouth(pen: Pen, mood: str, y: float, rx: float, ink: Rgb) -> Points:
    """Draw a mouth of mood 'smile', 'frown' or 'straight' around height `y`; return its line."""
    u = pen.rng.uniform
    wide, deep = rx * float(u(0.4, 0.72)), float(u(0.18, 0.36))
    share = float(u(0.055, 0.14))
    if mood == "straight":
        tilt = float(u(-0.03, 0.03))
        points = np.array([[-wide, y - tilt], [wide, y + tilt]])
        pen.line(points, ink, share=share)
        return points
    if u() < 0.75:
        points = arc(0, y - deep / 2, wide, deep, 180, 0, 22)
        cut = int(u(0, 5))
        points = points[cut : len(points) - cut]
        points[:, 1] += y - points[:, 1].mean()
    else:
        t = np.linspace(-1, 1, 15)
        points = np.stack([wide * t, y + deep * (0.5 - t**2) * 0.9], axis=1)
    if mood == "frown":
        points = points * [1, -1] + [0, 2 * y]
    if u() < 0.2:
        pen.area(points, ink if u() < 0.5 else (180, 30, 40))
        if u() < 0.4:
            pen.line(points, ink, share=share * 0.7, closed=True)
    elif u() < 0.1 and mood == "smile":
        pen.area(points, (255, 255, 255))
        pen.line(points, ink, share=share * 0.7, closed=True)
    else:
        pen.line(points, ink, share=share)
    return points


def _glasses(pen: Pen, gap: float, y: float, rx: float, behind: Rgb) -> None:
    """Draw glasses around eyes at (+-gap, y)."""
    u = pen.rng.uniform
    colours: tuple[Rgb, ...] = (
        (0, 0, 0),
        (20, 20, 20),
        (60, 60, 60),
        (120, 60, 20),
        (200, 30, 30),
        (30, 60, 200),
        (255, 255, 255),
    )
    colour = apart_from(colours[:3] if u() < 0.6 else colours, (behind,), pen.rng)
    r, tall, share = gap * float(u(0.62, 0.92)), float(u(0.75, 1.15)), float(u(0.035, 0.11))
    square, dark = u() < 0.35, u() < 0.22
    for side in (-1, 1):
        x = gap * side
        lens = box(x - r, y - r * tall, x + r, y + r * tall) if square else arc(x, y, r, r * tall, n=26)
        if dark:
            pen.area(lens, colour)
        pen.line(lens, colour, share=share, closed=True)
        if u() < 0.7:
            pen.line([[side * (gap + r), y], [side * rx * 0.97, y - float(u(-0.02, 0.1))]], colour, share=share)
    pen.line([[-gap + r, y], [gap - r, y]], colour, share=share)


def _hair(pen: Pen, rx: float, ry: float, brow: float, colour: Rgb, *, behind: bool) -> None:
    """Draw hair: long hair goes behind the head, the rest onto it, down to height `brow`."""
    u = pen.rng.uniform
    if behind:
        pen.area(arc(0, -0.05, rx * 1.18, ry * 1.12, 180, 360, 24), colour)
        pen.area(box(-rx * 1.18, -0.06, rx * 1.18, ry * float(u(0.5, 1.1))), colour)
        return
    start = float(np.degrees(np.arcsin(min(0.98, max(0.1, -brow / ry)))))
    if u() < 0.7:
        pen.area(arc(0, 0, rx * 1.03, ry * 1.05, 180 + start, 360 - start, 26), colour)
    else:
        share = float(u(0.04, 0.1))
        for angle in np.linspace(200 + start / 2, 340 - start / 2, int(u(7, 20))):
            p = arc(0, 0, rx, ry, float(angle), float(angle), 1)[0]
            pen.line(np.stack([p, p * float(u(1.08, 1.25))]), colour, share=share)


def _eyes(pen: Pen, gap: float, y: float, ink: Rgb) -> None:
    u = pen.rng.uniform
    kind, r = u(), float(u(0.05, 0.11))
    for side in (-1, 1):
        x = gap * side
        if kind < 0.5:
            pen.dot(x, y, r, ink)
        elif kind < 0.8:
            pen.area(arc(x, y, r * 1.9, r * 1.5, n=18), (255, 255, 255))
            pen.line(arc(x, y, r * 1.9, r * 1.5, n=18), ink, share=0.03, closed=True)
            pen.dot(x, y, r * 0.8, ink if u() < 0.6 else (40, 90, 160))
        elif kind < 0.92:
            pen.area(arc(x, y, r * 0.7, r * 1.5, n=14), ink)
        else:
            pen.line([[x - r, y], [x + r, y]], ink, share=0.05)
    if u() < 0.3:
        lift = float(u(0.18, 0.3))
        tilt = float(u(-0.05, 0.05))
        for side in (-1, 1):
            pen.line([[side * (gap - 0.13), y - lift + tilt], [side * (gap + 0.13), y - lift - tilt]], ink, share=0.05)


def face(pen: Pen, mood: str, *, glasses: bool, beard: bool, hat: bool) -> None:
    """Draw a face that fills the unit box; `mood` is 'smile', 'frown' or 'straight'."""
    u = pen.rng.uniform
    rx, ry = (0.8, 0.8) if u() < 0.35 else (float(u(0.62, 0.85)), float(u(0.75, 0.92)))
    hollow = pen.hand.mode in ("outline", "hatched")
    fill = pen.backdrop if hollow else _skin(pen)
    ink = apart_from(_INKS, (fill,), pen.rng)
    edge = apart_from((ink, *_INKS), (pen.backdrop,), pen.rng)
    brow, eye_y = -ry * float(u(0.42, 0.62)), -ry * float(u(0.12, 0.3))
    gap, mouth = rx * float(u(0.34, 0.5)), ry * float(u(0.4, 0.58))
    haired, locks = u() < 0.55, hair(pen.rng)
    if haired and u() < 0.3:
        _hair(pen, rx, ry, brow, locks, behind=True)
    if u() < 0.25 and not hollow:
        for side in (-1, 1):
            pen.area(arc(side * rx, 0, 0.13, 0.18, n=14), fill)
    outline = arc(0, 0, rx, ry)
    if not hollow:
        pen.area(outline, fill)
    if hollow or pen.hand.mode == "edged":
        pen.line(outline, edge, closed=True)
    if haired:
        _hair(pen, rx, ry, brow, locks, behind=False)
    if beard:
        _beard(pen, rx, ry, mouth, fill)
    lips: tuple[Rgb, ...] = (ink, ink, (200, 30, 40), (150, 40, 40), (255, 255, 255), (0, 0, 0))
    behind_lips = fill
    if beard:
        x, y = pen.place([[0.0, mouth]])[0]
        image = pen.canvas.im
        if image is not None and 0 <= x < image.size[0] and 0 <= y < image.size[1]:
            seen = image.getpixel((int(x), int(y)))
            behind_lips = (int(seen[0]), int(seen[1]), int(seen[2]))
    lip = ink if behind_lips == fill and u() < 0.6 else apart_from(lips, (behind_lips,), pen.rng)
    _mouth(pen, mood, mouth, rx, lip)
    _eyes(pen, gap, eye_y, ink)
    if glasses:
        _glasses(pen, gap, eye_y, rx, fill)
    if u() < 0.45:
        nose = float(u(0.0, 0.12))
        if u() < 0.5:
            pen.line([[0, eye_y + 0.1], [nose, 0.12 * ry], [0, 0.14 * ry]], ink, share=0.04)
        else:
            pen.dot(0, 0.06, 0.06, ink)
    if hat:
        _hat(pen, brow, (pen.backdrop, locks if haired else fill))
