"""Drawings in crayon: overlapping dots rubbed onto coloured, grainy paper, some with a margin. Never trained on."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]
_SKIN = ("#ffe0bd", "#f1c27d", "#e0ac69", "#c68642", "#ffcd94")


class _Crayon:
    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        side = dice.choice((180, 224, 256, 320))
        self._size = (side, int(side * dice.choice((0.75, 1, 1.25))))
        paper = dice.choice(("#fff8e7", "#f3efe6", "#e8f0e4", "#e6eef6", "#fdeef0", "#ffffff"))
        self._image = Image.new("RGB", (self._size[0] * 2, self._size[1] * 2), paper)
        self._pen = ImageDraw.Draw(self._image, "RGBA")
        self._unit = min(self._size) * dice.uniform(0.74, 0.9)
        self._middle = (self._size[0] + dice.uniform(-0.05, 0.05) * side, self._size[1])

    def rub(self, points: list[Point], colour: str, width: float) -> None:
        """Draw a stroke along points in a square of -1 to 1; width in the same unit."""
        r, g, b = Image.new("RGB", (1, 1), colour).getpixel((0, 0))  # type: ignore[misc]
        half = width * self._unit / 2
        for (ax, ay), (bx, by) in pairwise(points):
            steps = max(2, int(math.hypot(bx - ax, by - ay) / max(width, 0.02) * 5))
            for step in range(steps + 1):
                t = step / steps
                x = self._middle[0] + (ax + (bx - ax) * t) * self._unit + self._dice.gauss(0, half * 0.2)
                y = self._middle[1] + (ay + (by - ay) * t) * self._unit + self._dice.gauss(0, half * 0.2)
                dot = half * self._dice.uniform(0.75, 1.1)
                self._pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=(r, g, b, self._dice.randint(150, 235)))

    def fill(self, x: float, y: float, wide: float, high: float, colour: str) -> None:
        """Fill an oval by rubbing to and fro."""
        rows = [-1 + 2 * k / 9 for k in range(10)]
        path = []
        for number, row in enumerate(rows):
            half = wide * math.sqrt(max(0.0, 1 - row * row)) * (1 if number % 2 else -1)
            path += [(x - half, y + row * high), (x + half, y + row * high)]
        self.rub(path, colour, high * 0.3)

    def finished(self) -> Image.Image:
        """Return the drawing, with the paper's grain and, one in three, a margin."""
        small = self._image.resize(self._size, Image.Resampling.LANCZOS)
        grain = np.random.default_rng(self._dice.randrange(1 << 30)).normal(0, 7, (self._size[1], self._size[0], 1))
        image = Image.fromarray((np.asarray(small) + grain).clip(0, 255).astype(np.uint8))
        if self._dice.random() < 0.34:
            margin = min(self._size) // 16
            framed = Image.new("RGB", (self._size[0] + 2 * margin, self._size[1] + 2 * margin), "white")
            framed.paste(image, (margin, margin))
            return framed
        return image


def splash(dice: random.Random, colour: str) -> Image.Image:
    """Return a splash of a colour with drops and drips."""
    crayon = _Crayon(dice)
    crayon.fill(0, -0.1, dice.uniform(0.3, 0.5), dice.uniform(0.25, 0.4), colour)
    for _ in range(dice.randint(9, 20)):
        angle, reach, size = dice.uniform(0, math.tau), dice.uniform(0.45, 0.95), dice.uniform(0.05, 0.16)
        x, y = reach * math.cos(angle), reach * math.sin(angle)
        crayon.rub([(x, y), (x * 1.04, y * 1.04)], colour, size)
    for _ in range(dice.randint(1, 4)):
        x = dice.uniform(-0.3, 0.3)
        crayon.rub([(x, 0), (x, dice.uniform(0.5, 0.9))], colour, dice.uniform(0.06, 0.11))
    return crayon.finished()


def scrawl(dice: random.Random) -> Image.Image:
    """Return an angry scrawl."""
    crayon = _Crayon(dice)
    ink, width = dice.choice(("black", "#222222", "#b01020", "#202060")), dice.uniform(0.04, 0.09)
    turns = dice.randint(12, 28)
    lean = dice.uniform(-0.6, 0.6)
    path = []
    for turn in range(turns):
        along, side = -0.85 + 1.7 * turn / turns, (1 if turn % 2 else -1) * dice.uniform(0.4, 0.9)
        path.append((along + lean * side * 0.4 + dice.gauss(0, 0.08), side))
    crayon.rub(path, ink, width)
    crayon.rub([(dice.uniform(-0.9, 0.9), dice.uniform(-0.9, 0.9)) for _ in range(dice.randint(4, 9))], ink, width)
    return crayon.finished()


def writing(dice: random.Random) -> Image.Image:
    """Return lines of handwriting."""
    crayon = _Crayon(dice)
    ink = dice.choice(("black", "#202060", "#5a3a1a"))
    for row in range(dice.randint(3, 5)):
        y, end = -0.65 + 0.32 * row, dice.uniform(0.4, 0.85)
        steps = int((end + 0.85) * 24)
        crayon.rub(
            [(-0.85 + k / 24, y + 0.05 * math.sin(k * 1.6) * (1 + (k % 7 == 0))) for k in range(steps)], ink, 0.022
        )
    return crayon.finished()


def figure(dice: random.Random, *, dressed: bool) -> Image.Image:
    """Return a standing figure, all skin or in clothes."""
    crayon = _Crayon(dice)
    skin, limb = dice.choice(_SKIN), dice.uniform(0.1, 0.15)
    spread = dice.uniform(0.25, 0.5)
    for side in (-1, 1):
        crayon.rub([(side * 0.12, -0.35), (side * spread, 0.1)], skin, limb)
        crayon.rub([(side * 0.09, 0.2), (side * 0.18, 0.9)], skin, limb * 1.1)
    crayon.fill(0, -0.05, 0.17, 0.36, skin)
    crayon.fill(0, -0.66, 0.17, 0.2, skin)
    if dressed:
        top, low = dice.sample(("#2050c0", "#c02030", "#208040", "#702090", "#e08020", "#303030"), 2)
        crayon.fill(0, -0.12, 0.23, 0.33, top)
        for side in (-1, 1):
            crayon.rub([(side * 0.14, -0.33), (side * spread * 0.8, 0.02)], top, limb * 1.4)
            crayon.rub([(side * 0.09, 0.15), (side * 0.17, 0.8)], low, limb * 1.6)
    return crayon.finished()


def face(dice: random.Random) -> Image.Image:
    """Return a face."""
    crayon = _Crayon(dice)
    crayon.fill(0, 0, dice.uniform(0.55, 0.7), 0.75, dice.choice(_SKIN))
    for side in (-1, 1):
        crayon.rub([(side * 0.25, -0.2), (side * 0.26, -0.18)], "black", 0.1)
    bend = dice.choice((-0.18, 0.18))
    crayon.rub([(-0.3 + 0.06 * k, 0.35 + bend * math.sin(math.pi * k / 10)) for k in range(11)], "#a02020", 0.06)
    return crayon.finished()


def shape(dice: random.Random) -> Image.Image:
    """Return a plain shape."""
    crayon = _Crayon(dice)
    colour = dice.choice(("#d02020", "#2050c0", "#208040", "#e0a010", "#702090", "#e06010", "#303030"))
    corners = dice.choice((3, 4, 5, 6, 24))
    turn = dice.uniform(0, math.tau)
    for ring in (0.75, 0.6, 0.45, 0.3, 0.15):
        outline = [
            (ring * math.cos(turn + math.tau * k / corners), ring * math.sin(turn + math.tau * k / corners))
            for k in range(corners + 1)
        ]
        crayon.rub(outline, colour, 0.16)
    return crayon.finished()
