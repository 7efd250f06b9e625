"""Pictures of cut paper: pieces with straight scissor cuts, fibres and shadows, glued onto card. Never trained on."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Point = tuple[float, float]
_LIGHT_CARDS = ("#e8d9b0", "#cfe3e6", "#f2f0ea", "#d9b98a", "#f4c9c4", "#b9cf9f", "#e9b44c")
_DARK_CARDS = ("#1f4a52", "#3b3f55")
_MARGIN = 16
_SKIN = ("#f6d5b8", "#e3b48d", "#c98f63", "#9a6440", "#6b4226")
_HAIR = ("#2b1b12", "#5b3a1e", "#b07a34", "#8c8c8c", "#111111")
_CLOTHS = ("#2a6f97", "#bc4749", "#588157", "#6d597a", "#e07a1f", "#264653", "#d9a5b3", "#4a4e69")


class _Collage:
    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._size = dice.choice(((256, 256), (320, 240), (240, 320), (300, 300), (420, 315)))
        wide, high = self._size
        noise = np.random.default_rng(dice.randrange(1 << 30))
        fibres = noise.normal(0, 6, (high, wide // 4 + 1, 1)).repeat(4, axis=1)[:, :wide]
        self._fibres = fibres + noise.normal(0, 2, (high, wide, 1))
        card = dice.choice((*_LIGHT_CARDS, *_DARK_CARDS))
        self.dark = card in _DARK_CARDS
        self._pixels = np.asarray(Image.new("RGB", self._size, card)) + self._fibres
        self._unit = min(self._size) * dice.uniform(0.36, 0.45)
        self._x = wide / 2 + dice.uniform(-0.06, 0.06) * wide
        self._y = high / 2
        self._lean = dice.uniform(-0.07, 0.07)
        self._light = (dice.choice((-1, 1)) * dice.uniform(0.02, 0.05), dice.uniform(0.03, 0.06))

    def cut(self, points: list[Point], colour: str, wobble: float = 0.015) -> None:
        """Glue a piece with these corners on, in a square of -1 to 1; its shadow falls on what lies below."""
        gauss, sine, cosine = self._dice.gauss, math.sin(self._lean), math.cos(self._lean)
        place = []
        for x, y in ((x + gauss(0, wobble), y + gauss(0, wobble)) for x, y in points):
            place.append(
                (self._x + (x * cosine - y * sine) * self._unit, self._y + (x * sine + y * cosine) * self._unit)
            )
        left, top = (max(0, int(min(part)) - _MARGIN) for part in zip(*place, strict=True))
        right, bottom = (
            min(most, int(max(part)) + _MARGIN) for part, most in zip(zip(*place, strict=True), self._size, strict=True)
        )
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", ((right - left) * 2, (bottom - top) * 2))
        ImageDraw.Draw(mask).polygon([((x - left) * 2, (y - top) * 2) for x, y in place], fill=255)
        mask = mask.resize((right - left, bottom - top), Image.Resampling.BOX)
        across, down = (round(part * self._unit) for part in self._light)
        shadow = ImageChops.offset(mask, across, down).filter(ImageFilter.GaussianBlur(2.5))
        part = self._pixels[top:bottom, left:right]
        part *= 1 - 0.4 * np.asarray(shadow)[..., np.newaxis] / 255
        piece = np.asarray(Image.new("RGB", (1, 1), colour))[0, 0] + self._fibres[top:bottom, left:right]
        part += (piece - part) * (np.asarray(mask)[..., np.newaxis] / 255)

    def strip(self, start: Point, end: Point, width: float, colour: str) -> None:
        """Glue a straight strip on, a little wider at one end."""
        angle = math.atan2(end[1] - start[1], end[0] - start[0]) + math.pi / 2
        corners = []
        for (x, y), side in ((start, 1), (end, 1), (end, -1), (start, -1)):
            half = side * width / 2 * self._dice.uniform(0.8, 1.2)
            corners.append((x + half * math.cos(angle), y + half * math.sin(angle)))
        self.cut(corners, colour, width * 0.04)

    def finished(self) -> Image.Image:
        """Return the picture as somebody photographed it: light falls off to one corner."""
        wide, high = self._size
        across, along = np.meshgrid(np.linspace(-1, 1, wide), np.linspace(-1, 1, high))
        angle = self._dice.uniform(0, math.tau)
        falls = 1 + 0.1 * (across * math.cos(angle) + along * math.sin(angle))
        lit = self._pixels * falls[..., np.newaxis]
        return Image.fromarray(lit.clip(0, 255).astype(np.uint8))


def _oval(x: float, y: float, wide: float, high: float, corners: int = 13) -> list[Point]:
    angles = [math.tau * k / corners for k in range(corners)]
    return [(x + wide * math.cos(angle), y + high * math.sin(angle)) for angle in angles]


def splash(dice: random.Random, colour: str) -> Image.Image:
    """Return a splash cut from paper of a colour: a blob with long tongues, drops that flew off, and drips."""
    collage = _Collage(dice)
    tongues = dice.randint(7, 11)
    blob = []
    for k in range(tongues * 3):
        reach = dice.uniform(0.55, 0.85) if k % 3 == 0 else dice.uniform(0.3, 0.42)
        angle = math.tau * k / (tongues * 3)
        blob.append((reach * math.cos(angle), reach * math.sin(angle) * 0.85))
    collage.cut(blob, colour)
    for _ in range(dice.randint(6, 13)):
        angle, reach, size = dice.uniform(0, math.tau), dice.uniform(0.7, 1.0), dice.uniform(0.04, 0.1)
        collage.cut(_oval(reach * math.cos(angle), reach * math.sin(angle), size, size, 7), colour)
    for _ in range(dice.randint(1, 3)):
        x, low = dice.uniform(-0.35, 0.35), dice.uniform(0.6, 0.95)
        collage.cut([(x - 0.05, 0.1), (x + 0.05, 0.1), (x + 0.06, low), (x, low + 0.06), (x - 0.06, low)], colour)
    return collage.finished()


def scrawl(dice: random.Random) -> Image.Image:
    """Return an angry scrawl: strips in one wild zigzag over each other, some crossed out."""
    collage = _Collage(dice)
    colour = dice.choice(("#f7f3e9", "#d7263d") if collage.dark else ("#101010", "#1a1a2e", "#7a0c14", "#2d1b12"))
    width = dice.uniform(0.05, 0.09)
    x, y = -0.9, dice.uniform(-0.3, 0.3)
    for turn in range(dice.randint(14, 24)):
        towards = (dice.uniform(-0.9, 0.9), (1 if turn % 2 else -1) * dice.uniform(0.35, 0.9))
        collage.strip((x, y), towards, width, colour)
        x, y = towards
    for _ in range(dice.randint(1, 3)):
        slope = dice.uniform(-0.7, 0.7)
        collage.strip((-0.95, slope), (0.95, -slope), width * 1.5, colour)
    return collage.finished()


def writing(dice: random.Random) -> Image.Image:
    """Return lines of small letters, each of a few snips of dark paper."""
    collage = _Collage(dice)
    colour = dice.choice(("#f7f3e9", "#e9c46a") if collage.dark else ("#141414", "#23305c", "#4b2e1a"))
    rows = dice.randint(3, 5)
    for row in range(rows):
        x, y, end = -0.9, -0.7 + 1.4 * row / (rows - 1), dice.uniform(0.45, 0.9)
        until_space = dice.randint(2, 6)
        while x < end:
            kind, high = dice.randrange(4), dice.choice((0.12, 0.12, 0.2))
            collage.strip((x, y + 0.08), (x, y + 0.08 - high), 0.03, colour)
            if kind in (0, 1):
                collage.strip((x + 0.07, y + 0.08), (x + 0.07, y - 0.04), 0.03, colour)
            if kind in (0, 2):
                collage.strip((x, y - 0.03), (x + 0.08, y - 0.03), 0.028, colour)
            if kind in (1, 3):
                collage.strip((x, y + 0.07), (x + 0.08, y + 0.07), 0.028, colour)
            until_space -= 1
            x += 0.13
            if not until_space:
                x, until_space = x + 0.12, dice.randint(2, 6)
    return collage.finished()


def figure(dice: random.Random, *, dressed: bool) -> Image.Image:
    """Return a standing figure, all skin or in clothes."""
    collage = _Collage(dice)
    skin, hair = dice.choice(_SKIN), dice.choice(_HAIR)
    out, low = dice.uniform(0.38, 0.6), dice.uniform(-0.05, 0.2)
    for side in (-1, 1):
        collage.cut([(side * 0.14, -0.4), (side * 0.22, -0.44), (side * out, low), (side * (out - 0.1), low)], skin)
        collage.cut([(side * 0.01, 0.22), (side * 0.2, 0.22), (side * 0.24, 0.97), (side * 0.1, 0.97)], skin)
    collage.cut([(-0.06, -0.55), (0.06, -0.55), (0.06, -0.4), (-0.06, -0.4)], skin)
    collage.cut([(-0.22, -0.45), (0.22, -0.45), (0.16, -0.08), (0.22, 0.28), (-0.22, 0.28), (-0.16, -0.08)], skin)
    collage.cut(_oval(0, -0.73, 0.16, 0.21), skin)
    collage.cut([(-0.18, -0.7), (-0.15, -0.92), (0, -0.99), (0.15, -0.92), (0.18, -0.7), (0.08, -0.84)], hair)
    if dressed:
        top, low_cloth = dice.sample(_CLOTHS, 2)
        if dice.random() < 0.5:
            for side in (-1, 1):
                collage.cut([(0, 0.15), (side * 0.24, 0.15), (side * 0.27, 0.9), (side * 0.07, 0.9)], low_cloth)
        else:
            collage.cut([(-0.2, 0.1), (0.2, 0.1), (0.42, 0.62), (-0.42, 0.62)], low_cloth)
        for side in (-1, 1):
            collage.cut([(side * 0.1, -0.47), (side * 0.26, -0.47), (side * out, low - 0.1), (side * 0.3, low)], top)
        collage.cut([(-0.25, -0.47), (0.25, -0.47), (0.23, 0.2), (-0.23, 0.2)], top)
    return collage.finished()


def face(
    dice: random.Random, *, glasses: bool = False, beard: bool = False, hat: bool = False, smile: bool = True
) -> Image.Image:
    """Return a face with what it wears; without a smile it frowns."""
    collage = _Collage(dice)
    skin, hair = dice.choice(_SKIN), dice.choice(_HAIR)
    collage.cut(_oval(0, -0.05, 0.72, 0.88, 17), hair)
    if beard:
        collage.cut([(-0.6, 0.15), (0.6, 0.15), (0.45, 0.8), (0, 1.0), (-0.45, 0.8)], hair)
    collage.cut(_oval(0, 0.05, 0.6, 0.6 if beard else 0.78, 17), skin)
    if beard:
        collage.cut([(-0.52, 0.3), (0, 0.22), (0.52, 0.3), (0.4, 0.8), (0, 0.95), (-0.4, 0.8)], hair)
    for side in (-1, 1):
        collage.cut(_oval(side * 0.25, -0.12, 0.12, 0.08, 8), "#fbfbf5")
        collage.cut(_oval(side * 0.25, -0.12, 0.05, 0.06, 7), "#1c1c1c")
    collage.cut([(0, -0.02), (0.09, 0.2), (-0.09, 0.2)], dice.choice(_SKIN))
    bend = 0.16 if smile else -0.16
    upper = [(-0.32 + 0.064 * k, 0.43 + bend * math.sin(math.pi * k / 10)) for k in range(11)]
    lower = [(x, y + 0.09 * math.sin(math.pi * k / 10)) for k, (x, y) in enumerate(upper)]
    collage.cut([*upper, *reversed(lower)], dice.choice(("#b3202c", "#d1495b", "#7a1020")), 0.004)
    if glasses:
        frame = dice.choice(("#101010", "#23305c", "#6b1f2a"))
        for side in (-1, 1):
            ring = [*_oval(side * 0.27, -0.12, 0.24, 0.2, 14), (side * 0.27 + 0.24, -0.12)]
            for start, end in zip(ring, [*ring[1:], ring[0]], strict=True):
                collage.strip(start, end, 0.055, frame)
            collage.strip((side * 0.5, -0.14), (side * 0.66, -0.18), 0.05, frame)
        collage.strip((-0.05, -0.13), (0.05, -0.13), 0.05, frame)
    if hat:
        felt = dice.choice(_CLOTHS)
        collage.cut([(-0.5, -0.55), (-0.42, -1.05), (0.42, -1.05), (0.5, -0.55)], felt)
        collage.cut([(-0.85, -0.5), (-0.8, -0.6), (0.8, -0.6), (0.85, -0.5)], felt)
    return collage.finished()


def shape(dice: random.Random) -> Image.Image:
    """Return a plain shape."""
    collage = _Collage(dice)
    corners, turn = dice.choice((3, 4, 5, 6, 16)), dice.uniform(0, math.tau)
    colour = dice.choice(("#bc4749", "#2a6f97", "#588157", "#e9c46a", "#6d597a", "#e07a1f", "#222222", "#f7f3e9"))
    angles = [turn + math.tau * k / corners for k in range(corners)]
    collage.cut([(0.8 * math.cos(angle), 0.8 * math.sin(angle)) for angle in angles], colour)
    return collage.finished()
