"""Drawings in coloured chalk on a blackboard: broken, grainy strokes, smears of the sponge. Never trained on."""

from __future__ import annotations

import math
import random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]
_BOARDS = ("#1d3b2f", "#22302c", "#1b1d20", "#2a2f36", "#16352f")
_CHALKS = ("#f2f2ea", "#f3d36b", "#8fc1e3", "#a9d39a", "#e9a0b4", "#c7a6e0")
_SKIN = ("#f3cfae", "#e8b58c", "#d69a6a", "#b87a50", "#f0c9b0")


class _Board:
    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._noise = np.random.default_rng(dice.randrange(1 << 30))
        self._size = dice.choice(((320, 240), (400, 250), (288, 288), (240, 300), (480, 320)))
        wide, high = self._size
        board = np.asarray(Image.new("RGB", self._size, dice.choice(_BOARDS))).astype(np.float32)
        self._pixels = board + self._smears()[..., np.newaxis] * 60
        self._grain = self._noise.random((high, wide), np.float32)
        self._unit = min(self._size) * dice.uniform(0.36, 0.44)
        self._x = wide / 2 + dice.uniform(-0.1, 0.1) * (wide - high if wide > high else 0)
        self._y = high / 2

    def _smears(self) -> npt.NDArray[np.float32]:
        """Return [H, W] of dust, 0 to 1, that the sponge left in broad curves."""
        dust = Image.new("L", self._size)
        pen, dice = ImageDraw.Draw(dust), self._dice
        for _ in range(dice.randint(3, 7)):
            y, bend = dice.uniform(0, self._size[1]), dice.uniform(-60, 60)
            curve = [(x, y + bend * math.sin(math.pi * x / self._size[0])) for x in range(-20, self._size[0] + 20, 10)]
            pen.line(curve, dice.randint(20, 90), dice.randint(15, 45))
        return np.asarray(dust.filter(ImageFilter.GaussianBlur(9)), dtype=np.float32) / np.float32(255)

    def _at(self, points: list[Point], wobble: float = 0.006) -> list[Point]:
        gauss = self._dice.gauss
        return [
            (self._x + (x + gauss(0, wobble)) * self._unit, self._y + (y + gauss(0, wobble)) * self._unit)
            for x, y in points
        ]

    def line(self, points: list[Point], colour: str, width: float = 0.035, covers: float = 0.8) -> None:
        """Draw a stroke through points in a square of -1 to 1; `covers` is how much sticks."""
        self._chalk(self._at(points), colour, covers, max(2, round(width * self._unit)))

    def area(self, points: list[Point], colour: str, edge: str | None = None) -> None:
        """Fill with the side of the chalk, then go along the edge."""
        self._chalk(self._at(points), colour, 0.72, None)
        self.line([*points, points[0]], edge or colour, 0.03, 0.9)

    def _chalk(self, place: list[Point], colour: str, covers: float, width: int | None) -> None:
        """Leave chalk along a line of a width in pixels, or (None) within a polygon."""
        margin = 4 + (width or 0)
        left, top = (max(0, int(min(part)) - margin) for part in zip(*place, strict=True))
        right, bottom = (
            min(most, int(max(part)) + margin) for part, most in zip(zip(*place, strict=True), self._size, strict=True)
        )
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", (right - left, bottom - top))
        moved = [(x - left, y - top) for x, y in place]
        if width is None:
            ImageDraw.Draw(mask).polygon(moved, fill=255)
        else:
            ImageDraw.Draw(mask).line(moved, 255, width, joint="curve")
        hold = np.asarray(mask.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.float32) / 255
        tooth = self._grain[top:bottom, left:right]
        share = np.clip((hold * covers * 1.15 - tooth) * 5 + 0.25 * hold, 0, 1)[..., np.newaxis]
        part = self._pixels[top:bottom, left:right]
        part += (np.asarray(Image.new("RGB", (1, 1), colour), dtype=np.float32)[0, 0] - part) * share

    def finished(self) -> Image.Image:
        """Return the drawing, one in four with the board's wooden frame below."""
        image = Image.fromarray(self._pixels.clip(0, 255).astype(np.uint8))
        if self._dice.random() < 0.25:
            wide, high = self._size
            ImageDraw.Draw(image).rectangle((0, high - high // 18, wide, high), fill="#7a5532")
        return image


def _ring(x: float, y: float, wide: float, high: float, corners: int = 26) -> list[Point]:
    angles = [math.tau * k / corners for k in range(corners)]
    return [(x + wide * math.cos(angle), y + high * math.sin(angle)) for angle in angles]


def splash(dice: random.Random, colour: str) -> Image.Image:
    """Return a splash of a colour: a blot with runs downwards and drops around it."""
    board = _Board(dice)
    lobes, turn = dice.randint(6, 10), dice.uniform(0, math.tau)
    blot = []
    for angle in (math.tau * k / 60 for k in range(60)):
        reach = 0.42 + 0.14 * math.sin(lobes * angle + turn) + dice.uniform(-0.03, 0.03)
        blot.append((reach * math.cos(angle), reach * math.sin(angle) - 0.15))
    board.area(blot, colour)
    for _ in range(dice.randint(2, 4)):
        x, end = dice.uniform(-0.35, 0.35), dice.uniform(0.5, 0.95)
        board.line([(x, 0.0), (x, end)], colour, 0.09, 0.9)
        board.area(_ring(x, end, 0.06, 0.08, 10), colour)
    for _ in range(dice.randint(7, 15)):
        angle, reach, size = dice.uniform(0, math.tau), dice.uniform(0.65, 1.0), dice.uniform(0.02, 0.08)
        board.area(_ring(reach * math.cos(angle), reach * math.sin(angle) - 0.1, size, size, 9), colour)
    return board.finished()


def scrawl(dice: random.Random) -> Image.Image:
    """Return an angry scrawl: tangled loops, then hard strokes through them."""
    board = _Board(dice)
    colour, width = dice.choice(("#f2f2ea", "#f2f2ea", "#e05a4e", "#f3d36b")), dice.uniform(0.04, 0.07)
    spin, drift = dice.uniform(5, 9), dice.uniform(0, math.tau)
    loops = []
    for k in range(160):
        t = k / 159
        reach = 0.45 + 0.3 * math.sin(7 * t + drift)
        x = -0.45 + 0.9 * t + reach * math.cos(math.tau * spin * t) + dice.gauss(0, 0.03)
        loops.append((x * 0.85, reach * math.sin(math.tau * spin * t * 1.07) + dice.gauss(0, 0.03)))
    board.line(loops, colour, width, 0.9)
    for _ in range(dice.randint(3, 6)):
        side, other = dice.uniform(-0.8, 0.8), dice.uniform(-0.8, 0.8)
        board.line([(-0.95, side), (dice.uniform(-0.2, 0.2), other), (0.95, -side)], colour, width * 1.3, 0.95)
    return board.finished()


def writing(dice: random.Random) -> Image.Image:
    """Return lines of joined-up handwriting, as a teacher's."""
    board = _Board(dice)
    colour = dice.choice(("#f2f2ea", "#f2f2ea", "#f3d36b", "#8fc1e3"))
    rows = dice.randint(3, 5)
    for row in range(rows):
        x, y, end = -1.0, -0.65 + 1.3 * row / (rows - 1), dice.uniform(0.4, 0.95)
        while x < end:
            word = []
            for letter in range(dice.randint(3, 7)):
                tall = dice.choice((0.07, 0.07, 0.07, 0.15, -0.1))
                for k in range(8):
                    angle = math.tau * k / 8
                    word.append(
                        (x + 0.09 * letter + 0.045 * k / 8 + 0.03 * math.sin(angle), y - tall * math.sin(angle))
                    )
            board.line(word, colour, 0.022, 0.85)
            x = word[-1][0] + 0.14
    return board.finished()


def figure(dice: random.Random, *, dressed: bool) -> Image.Image:
    """Return a standing figure, all skin or in clothes."""
    board = _Board(dice)
    skin = dice.choice(_SKIN)
    out, hand = dice.uniform(0.35, 0.55), dice.uniform(-0.1, 0.15)
    for side in (-1, 1):
        board.area([(side * 0.15, -0.42), (side * 0.23, -0.4), (side * out, hand), (side * (out - 0.09), hand)], skin)
        board.area([(side * 0.02, 0.2), (side * 0.2, 0.2), (side * 0.2, 0.92), (side * 0.09, 0.92)], skin)
        board.area(_ring(side * 0.18, 0.94, 0.1, 0.04, 10), skin)
    board.area([(-0.23, -0.43), (0.23, -0.43), (0.15, -0.05), (0.21, 0.26), (-0.21, 0.26), (-0.15, -0.05)], skin)
    board.area(_ring(0, -0.7, 0.17, 0.21), skin)
    for side in (-1, 1):
        board.line([(side * 0.06, -0.74), (side * 0.07, -0.72)], "#2b2b2b", 0.03, 1)
    board.line([(-0.05, -0.62), (0, -0.6), (0.05, -0.62)], "#2b2b2b", 0.02, 1)
    hair = dice.choice(("#f3d36b", "#8b5a35", "#d8d8d0", "#c8743a"))
    board.line([(-0.16, -0.78), (-0.1, -0.9), (0, -0.93), (0.1, -0.9), (0.16, -0.78)], hair, 0.09, 0.9)
    if dressed:
        top, low = dice.sample(("#5b8fd0", "#d9574f", "#79b36a", "#b38ad6", "#f0a04b", "#f2f2ea"), 2)
        for side in (-1, 1):
            board.area([(side * 0.0, 0.15), (side * 0.25, 0.15), (side * 0.24, 0.86), (side * 0.06, 0.86)], low)
            sleeve = out * 0.8
            board.area(
                [
                    (side * 0.1, -0.46),
                    (side * 0.27, -0.45),
                    (side * sleeve, hand - 0.1),
                    (side * (sleeve - 0.14), hand - 0.08),
                ],
                top,
            )
        board.area([(-0.26, -0.46), (0.26, -0.46), (0.24, 0.22), (-0.24, 0.22)], top)
    return board.finished()


def face(
    dice: random.Random, *, glasses: bool = False, beard: bool = False, hat: bool = False, smile: bool = True
) -> Image.Image:
    """Return a face with what it wears; without a smile it frowns."""
    board = _Board(dice)
    skin, hair = dice.choice(_SKIN), dice.choice(("#f3d36b", "#8b5a35", "#d8d8d0", "#c8743a"))
    board.area(_ring(0, 0.05, 0.62, 0.8), skin, "#f2f2ea")
    if beard:
        chin = [
            (0.6 * math.cos(angle), 0.12 + 0.75 * math.sin(angle)) for angle in (math.pi * k / 14 for k in range(15))
        ]
        board.area([*chin, (-0.3, 0.3), (0.3, 0.3)], hair)
    elif not hat:
        board.line(
            [(0.58 * math.cos(a), -0.05 + 0.72 * math.sin(a)) for a in (-math.pi * k / 12 for k in range(13))],
            hair,
            0.16,
            0.9,
        )
    for side in (-1, 1):
        board.area(_ring(side * 0.24, -0.12, 0.06, 0.08, 10), "#24282c")
    board.line([(0.02, -0.05), (-0.08, 0.17), (0.04, 0.19)], "#4a3020", 0.03, 0.95)
    bend = 0.14 if smile else -0.14
    mouth = [(-0.28 + 0.056 * k, 0.46 + bend * math.sin(math.pi * k / 10)) for k in range(11)]
    board.line(mouth, dice.choice(("#a02028", "#c8343c", "#7a1820")), 0.07, 1)
    if glasses:
        rim = dice.choice(("#1c1c1c", "#f2f2ea", "#3a5fa0"))
        for side in (-1, 1):
            ring = _ring(side * 0.27, -0.12, 0.22, 0.19, 20)
            board.line([*ring, ring[0]], rim, 0.055, 1)
            board.line([(side * 0.49, -0.14), (side * 0.62, -0.18)], rim, 0.05, 1)
        board.line([(-0.05, -0.13), (0.05, -0.13)], rim, 0.05, 1)
    if hat:
        felt = dice.choice(("#5b8fd0", "#d9574f", "#79b36a", "#b38ad6"))
        board.area([(-0.45, -0.55), (-0.38, -1.0), (0.38, -1.0), (0.45, -0.55)], felt)
        board.area([(-0.8, -0.48), (-0.78, -0.58), (0.78, -0.58), (0.8, -0.48)], felt)
    return board.finished()


def shape(dice: random.Random) -> Image.Image:
    """Return a plain shape."""
    board = _Board(dice)
    corners, turn = dice.choice((3, 4, 5, 6, 30)), dice.uniform(0, math.tau)
    colour = dice.choice((*_CHALKS, "#d9574f"))
    outline = [
        (0.78 * math.cos(turn + math.tau * k / corners), 0.78 * math.sin(turn + math.tau * k / corners))
        for k in range(corners)
    ]
    board.area(outline, colour, "#f2f2ea" if dice.random() < 0.5 else None)
    return board.finished()
