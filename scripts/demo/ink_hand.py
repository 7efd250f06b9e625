"""Drawings in ink: wobbly outlines with hatching on cream paper, off centre, as a poor JPEG. Never trained on."""

from __future__ import annotations

import io
import math
import random

from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]
_SKIN = ("#ffe0bd", "#f1c27d", "#e0ac69", "#c68642", "#ffcd94")
_CLOTHS = (
    ("#3060b0", "#203f80"), ("#b03040", "#702028"), ("#308050", "#205030"),
    ("#704090", "#482860"), ("#d08030", "#905818"), ("#505058", "#303038"),
)  # fmt: skip


class _Ink:
    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self._wide, self._high = dice.choice(((240, 320), (400, 300), (300, 300), (512, 384)))
        self._image = Image.new(
            "RGB", (self._wide, self._high), dice.choice(("#fbf3dc", "#f5ead0", "#fffdf5", "#eee6d2"))
        )
        self._pen = ImageDraw.Draw(self._image)
        self._unit = min(self._wide, self._high) * dice.uniform(0.36, 0.44)
        self._x = self._wide / 2 + dice.uniform(-0.08, 0.08) * self._wide
        self._y = self._high / 2 + dice.uniform(-0.04, 0.04) * self._high

    def _at(self, points: list[Point], wobble: float) -> list[Point]:
        gauss = self.dice.gauss
        return [
            (self._x + (x + gauss(0, wobble)) * self._unit, self._y + (y + gauss(0, wobble)) * self._unit)
            for x, y in points
        ]

    def line(self, points: list[Point], colour: str = "#101018", width: float = 0.02, passes: int = 2) -> None:
        """Draw an open line, as often as a nervous pen does."""
        for _ in range(passes):
            self._pen.line(self._at(points, 0.008), colour, max(1, round(width * self._unit)), joint="curve")

    def area(self, points: list[Point], wash: str, hatch: str) -> None:
        """Draw an outline with a wash of colour and hatching over it."""
        place = self._at(points, 0.01)
        mask = Image.new("1", self._image.size)
        ImageDraw.Draw(mask).polygon(place, fill=1)
        filled = Image.new("RGB", self._image.size, wash)
        pen, step = ImageDraw.Draw(filled), max(4, round(self._unit * 0.07))
        for start in range(-self._high, self._wide, step):
            pen.line((start, self._high, start + self._high, 0), hatch, 1)
        self._image.paste(filled, mask=mask)
        self.line([*points, points[0]])

    def finished(self) -> Image.Image:
        """Return the drawing, a little soft, after JPEG of a low quality."""
        packed = io.BytesIO()
        self._image.filter(ImageFilter.GaussianBlur(0.6)).save(packed, "JPEG", quality=self.dice.randint(45, 70))
        return Image.open(packed).convert("RGB")


def _ring(x: float, y: float, wide: float, high: float, corners: int = 28) -> list[Point]:
    angles = [math.tau * k / corners for k in range(corners)]
    return [(x + wide * math.cos(angle), y + high * math.sin(angle)) for angle in angles]


def splash(dice: random.Random, colours: tuple[str, str]) -> Image.Image:
    """Return a splash of a colour with drops and drips."""
    ink = _Ink(dice)
    spikes = dice.randint(9, 14)
    star = []
    for k in range(spikes * 2):
        reach = dice.uniform(0.6, 0.95) if k % 2 else dice.uniform(0.3, 0.42)
        star.append((reach * math.cos(math.pi * k / spikes), reach * math.sin(math.pi * k / spikes)))
    ink.area(star, *colours)
    for _ in range(dice.randint(6, 14)):
        angle, size = dice.uniform(0, math.tau), dice.uniform(0.03, 0.09)
        ink.area(_ring(1.0 * math.cos(angle), 1.0 * math.sin(angle), size, size, 10), *colours)
    return ink.finished()


def scrawl(dice: random.Random) -> Image.Image:
    """Return an angry scrawl."""
    ink = _Ink(dice)
    colour, width = dice.choice(("#101018", "#401010", "#101040")), dice.uniform(0.03, 0.06)
    x, y, path = 0.0, 0.0, []
    for _ in range(dice.randint(40, 80)):  # loops that wander and tear
        x, y = dice.uniform(-0.9, 0.9) * 0.7 + x * 0.3, dice.uniform(-0.8, 0.8) * 0.7 + y * 0.3
        path.append((x, y))
    ink.line(path, colour, width, passes=1)
    for _ in range(dice.randint(2, 5)):
        side = dice.uniform(-0.8, 0.8)
        ink.line([(-0.95, side), (0.95, -side)], colour, width * 1.4)
    return ink.finished()


def writing(dice: random.Random) -> Image.Image:
    """Return lines of handwriting."""
    ink = _Ink(dice)
    for row in range(dice.randint(4, 7)):
        x, y = -0.95, -0.75 + 0.24 * row
        while x < dice.uniform(0.5, 0.95):
            letters = dice.randint(3, 7)
            word = [
                (x + 0.022 * k, y - 0.045 * math.sin(k * math.pi / 2) * (2 if k % 9 == 1 else 1))
                for k in range(letters * 4)
            ]
            ink.line(word, dice.choice(("#101018", "#182050")), 0.016, passes=1)
            x += 0.022 * letters * 4 + 0.07
    return ink.finished()


def figure(dice: random.Random, *, dressed: bool) -> Image.Image:
    """Return a standing figure, all skin or in clothes."""
    ink = _Ink(dice)
    skin = dice.choice(_SKIN)
    shade = dice.choice(("#d8a878", "#c89868"))
    out = dice.uniform(0.3, 0.5)
    for side in (-1, 1):
        ink.area([(side * 0.1, -0.42), (side * 0.2, -0.4), (side * out, 0.06), (side * (out - 0.1), 0.1)], skin, shade)
        ink.area([(side * 0.02, 0.2), (side * 0.19, 0.2), (side * 0.22, 0.95), (side * 0.1, 0.95)], skin, shade)
    ink.area([(-0.2, -0.45), (0.2, -0.45), (0.14, -0.1), (0.2, 0.24), (-0.2, 0.24), (-0.14, -0.1)], skin, shade)
    ink.area(_ring(0, -0.7, 0.17, 0.22), skin, shade)
    if dressed:
        cloth, fold = dice.choice(_CLOTHS)
        low, crease = dice.choice((("#404048", "#202028"), ("#705030", "#503818"), ("#305070", "#203048")))
        for side in (-1, 1):
            ink.area([(0, 0.15), (side * 0.24, 0.15), (side * 0.25, 0.85), (side * 0.07, 0.85)], low, crease)
            ink.area(
                [(side * 0.1, -0.48), (side * 0.26, -0.42), (side * out, -0.05), (side * (out - 0.16), 0)], cloth, fold
            )
        ink.area([(-0.25, -0.48), (0.25, -0.48), (0.25, 0.2), (-0.25, 0.2)], cloth, fold)
    return ink.finished()


def face(dice: random.Random) -> Image.Image:
    """Return a face."""
    ink = _Ink(dice)
    ink.area(_ring(0, 0, 0.66, 0.85), dice.choice(_SKIN), "#d8a878")
    for side in (-1, 1):
        ink.line(_ring(side * 0.26, -0.2, 0.09, 0.06, 12), width=0.03)
    ink.line([(0, -0.1), (-0.08, 0.15), (0.04, 0.17)])
    bend = dice.choice((-0.14, 0.14))
    ink.line([(-0.3 + 0.06 * k, 0.42 + bend * math.sin(math.pi * k / 10)) for k in range(11)], width=0.03)
    return ink.finished()


def shape(dice: random.Random) -> Image.Image:
    """Return a plain shape."""
    ink = _Ink(dice)
    wash, hatch = dice.choice(
        (
            ("#d04040", "#902020"),
            ("#4060c0", "#203880"),
            ("#40a060", "#206838"),
            ("#e0b040", "#a07818"),
            ("#909090", "#505050"),
        )
    )
    ink.area(_ring(0, 0, 0.8, dice.choice((0.8, 0.5)), dice.choice((3, 4, 5, 6, 28))), wash, hatch)
    return ink.finished()
