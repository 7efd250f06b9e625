"""Stick and cartoon figures, dressed and bare. Bare ones are plain dolls without any detail."""

from __future__ import annotations

import numpy as np

from scripts.demo.world.palette import ANCHORS, Rgb, apart_from, contrast, hair, jitter, skin, tint
from scripts.demo.world.pen import Pen, Points, arc, box

_INKS: tuple[Rgb, ...] = ((0, 0, 0), (40, 40, 40), (255, 255, 255), (20, 20, 90))


class _Body:
    """The joints of one figure, in the unit box."""

    def __init__(self, rng: np.random.Generator) -> None:
        u = rng.uniform
        self.head_r = float(u(0.15, 0.27))
        self.head_y = -0.97 + self.head_r
        self.neck = self.head_y + self.head_r * 0.9
        self.hip = float(u(0.15, 0.35))
        self.shoulder, self.waist = float(u(0.14, 0.3)), float(u(0.1, 0.24))
        self.limb = float(u(0.05, 0.13))
        spread, swing = float(u(0.08, 0.42)), float(u(-0.1, 0.1))
        self.feet = ((-spread + swing, 0.97), (spread + swing, 0.97))
        reach, lift = float(u(0.3, 0.62)), (float(u(-0.1, 0.75)), float(u(-0.1, 0.75)))
        if u() < 0.15:
            lift = (lift[0], -0.55)
        top = self.neck + 0.1
        self.hands = ((-reach, top + lift[0]), (reach, top + lift[1]))
        self.top = top

    def torso(self, grow: float = 0.0, down: float = 0.0) -> Points:
        """The trunk as a four-cornered area, wider by `grow` and longer by `down`."""
        s, w = self.shoulder + grow, self.waist + grow
        return np.array([[-s, self.neck], [s, self.neck], [w, self.hip + down], [-w, self.hip + down]])


def figure(pen: Pen, *, dressed: bool, clothes: str | None = None) -> None:
    """Draw a standing figure that fills the unit box; `clothes` names the colour of what a dressed one wears."""
    rng, u = pen.rng, pen.rng.uniform
    body = _Body(rng)
    flesh = apart_from(tuple(skin(rng) for _ in range(5)), (pen.backdrop,), rng)
    stick = u() < 0.38
    ink = apart_from((_INKS[0], *_INKS) if u() < 0.7 else (flesh, tint("brown", rng)), (pen.backdrop,), rng)
    if stick and u() < 0.5:
        ink = flesh
    lined = not stick and (pen.hand.mode in ("edged", "outline") or u() < 0.2)
    limb = float(u(0.025, 0.09)) if stick else body.limb
    _limbs(pen, body, ink if stick else flesh, limb)
    if not stick or u() < 0.15:
        _trunk(pen, body, ink if stick else flesh, ink if lined else None)
    else:
        pen.line([[0, body.neck], [0, body.hip]], ink, share=limb)
    if dressed:
        names = [clothes] if clothes else list(ANCHORS)
        avoid = (pen.backdrop, ink if stick else flesh)
        colour = _cloth(names, avoid, rng)
        _dress(pen, body, colour, limb, lined=lined, whole=bool(clothes))
    _head(pen, body, ink if stick else flesh, ink if lined else None, limb, stick=stick)


def _cloth(names: list[str], avoid: tuple[Rgb, ...], rng: np.random.Generator) -> Rgb:
    """A cloth colour that shows against the backdrop and is not taken for skin."""
    for _ in range(12):
        colour = tint(names[int(rng.integers(len(names)))], rng)
        if all(contrast(colour, other) > 130 for other in avoid) and _unlike_skin(colour):
            return colour
    return colour


def _unlike_skin(colour: Rgb) -> bool:
    red, green, blue = colour
    return not (red > green > blue and 25 < red - blue < 160 and red - green < 110) or red - green < 6


def _limbs(pen: Pen, body: _Body, colour: Rgb, share: float) -> None:
    wide = 0.0 if share < 0.05 else 1.0
    for side, hand, foot in zip((-1, 1), body.hands, body.feet, strict=True):
        elbow = (side * abs(hand[0]) * 0.8, (body.top + hand[1]) / 2 + 0.05)
        pen.line([(side * body.shoulder * 0.8 * wide, body.top), elbow, hand], colour, share=share * 2)
        pen.line([(side * body.waist * 0.5 * wide, body.hip - 0.02), foot], colour, share=share * 2.2)


def _trunk(pen: Pen, body: _Body, colour: Rgb, line: Rgb | None) -> None:
    if pen.rng.random() < 0.5:
        middle = (body.neck + body.hip) / 2
        outline = arc(0, middle, body.shoulder * 1.05, (body.hip - body.neck) / 2 + 0.04)
    else:
        outline = body.torso()
    pen.area(outline, colour)
    if line is not None and pen.rng.random() < 0.6:
        pen.line(outline, line, share=min(pen.hand.line, 0.04), closed=True)
    if pen.rng.random() < 0.35:
        dark: Rgb = (colour[0] * 2 // 3, colour[1] * 2 // 3, colour[2] * 2 // 3)
        pen.dot(0, body.hip - 0.12, 0.025, dark)


def _dress(pen: Pen, body: _Body, colour: Rgb, limb: float, *, lined: bool, whole: bool) -> None:
    """Draw clothes: a dress or a shirt with trousers or a skirt; all in `colour` when `whole`."""
    u, rng = pen.rng.uniform, pen.rng
    lower = colour if whole or u() < 0.3 else _cloth(list(ANCHORS), (pen.backdrop,), rng)
    grow = max(0.03, 0.16 - body.shoulder) + float(u(0.0, 0.06))
    parts: list[Points] = []
    if u() < 0.35:  # a dress, down to the knees or so
        hem, flare = body.hip + float(u(0.15, 0.45)), float(u(0.08, 0.3))
        s, w = body.shoulder + grow, body.waist + grow
        parts.append(np.array([[-s, body.neck], [s, body.neck], [w + flare, hem], [-w - flare, hem]]))
        pen.area(parts[0], colour)
    else:
        if u() < 0.65:  # trousers
            for side, foot in zip((-1, 1), body.feet, strict=True):
                end = float(u(0.45, 0.95))
                hip = np.array([side * body.waist * 0.5, body.hip - 0.02])
                pen.line(np.stack([hip, hip + (np.asarray(foot) - hip) * end]), lower, share=max(0.11, limb * 2.5))
            pen.area(box(-body.waist - grow, body.hip - 0.08, body.waist + grow, body.hip + 0.08), lower)
        else:  # a skirt
            hem, flare = body.hip + float(u(0.2, 0.4)), float(u(0.1, 0.3))
            w = body.waist + grow
            pen.area(
                np.array([[-w, body.hip - 0.05], [w, body.hip - 0.05], [w + flare, hem], [-w - flare, hem]]), lower
            )
        parts.append(body.torso(grow, 0.03))
        pen.area(parts[0], colour)
    if u() < 0.65:  # sleeves
        end = float(u(0.4, 1.0))
        for side, hand in zip((-1, 1), body.hands, strict=True):
            start = np.array([side * (body.shoulder * 0.8 + grow * 0.5), body.top])
            elbow = np.array([side * abs(hand[0]) * 0.8, (body.top + hand[1]) / 2 + 0.05])
            pen.line(
                np.stack([start, start + (elbow - start) * min(1.0, end * 1.5)]), colour, share=max(0.1, limb * 2.4)
            )
    if lined:
        edge = apart_from(_INKS, (colour,), rng)
        for outline in parts:
            pen.line(outline, edge, share=min(pen.hand.line, 0.05), closed=True)
    if u() < 0.3:
        mark = apart_from(_INKS, (colour,), rng)
        for y in np.linspace(body.neck + 0.1, body.hip - 0.1, 3):
            if u() < 0.5:
                pen.dot(0, float(y), 0.03, mark)
            else:
                pen.line([[-body.waist * 0.8, y], [body.waist * 0.8, y]], mark, share=0.04)
    if u() < 0.35:
        for foot in body.feet:
            pen.area(arc(foot[0], 0.95, 0.13, 0.07, n=14), apart_from(_INKS, (pen.backdrop,), rng))


def _head(pen: Pen, body: _Body, colour: Rgb, line: Rgb | None, limb: float, *, stick: bool) -> None:
    u, r = pen.rng.uniform, body.head_r
    outline = arc(0, body.head_y, r * float(u(0.85, 1.0)), r, n=26)
    if stick and u() < 0.6:
        pen.area(outline, pen.backdrop if u() < 0.5 else jitter(skin(pen.rng), 4.0, pen.rng))
        pen.line(outline, colour, share=min(limb * 2, r * 0.4), closed=True)
    else:
        pen.area(outline, colour)
        if line is not None:
            pen.line(outline, line, share=min(pen.hand.line, 0.05), closed=True)
    if u() < 0.55:
        locks = hair(pen.rng)
        start = float(u(5, 40))
        pen.area(arc(0, body.head_y, r * 1.05, r * 1.08, 180 + start, 360 - start, 16), locks)
        if u() < 0.3:
            for side in (-1, 1):
                pen.line([[side * r, body.head_y - 0.05], [side * r * 1.05, body.neck + 0.15]], locks, share=0.08)
    if u() < 0.55:
        ink = apart_from(_INKS, (colour,), pen.rng)
        for side in (-1, 1):
            pen.dot(side * r * 0.4, body.head_y - r * 0.1, r * 0.12, ink)
        bend = float(u(-0.25, 0.25))
        t = np.linspace(-1, 1, 7)
        pen.line(np.stack([t * r * 0.4, body.head_y + r * 0.45 + r * bend * (0.5 - t**2)], axis=1), ink, share=0.03)
