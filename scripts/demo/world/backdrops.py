"""What lies behind the things: plain colours, gradients, noise, paper, and patterns that are subjects themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from scripts.demo.world.palette import Rgb, jitter

PATTERNS: tuple[str, ...] = ("stripes", "dots", "checkerboard", "grid", "zigzag")
EMPTY_KINDS: tuple[str, ...] = ("plain", "tinted", "gradient", "noise")
"""Grounds that are no subject: a colour with a name, any other one colour, two colours, or noise."""


def plain(size: tuple[int, int], colour: Rgb) -> Image.Image:
    """Return one colour, `size` (width, height) in pixels."""
    return Image.new("RGB", size, colour)


def gradient(size: tuple[int, int], one: Rgb, other: Rgb, rng: np.random.Generator) -> Image.Image:
    """Return a smooth change from one colour to another in a random direction, at times round."""
    width, height = size
    x = np.linspace(-1, 1, width)[None, :]
    y = np.linspace(-1, 1, height)[:, None]
    if rng.random() < 0.25:
        share = np.clip(np.sqrt(x**2 + y**2) / 1.4, 0, 1)
    else:
        angle = float(rng.uniform(0, 2 * np.pi))
        share = np.clip((x * np.cos(angle) + y * np.sin(angle)) / 2.4 + 0.5, 0, 1)
    pixels = np.asarray(one) * (1 - share[..., None]) + np.asarray(other) * share[..., None]
    return Image.fromarray(pixels.astype(np.uint8))


def noise(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Return noise like that of a bad photograph: grains or soft clouds of colour."""
    width, height = size
    cell = int(rng.choice([1, 1, 2, 3, 6, 12]))
    grid = (max(2, height // cell), max(2, width // cell))
    coloured = rng.random() < 0.6
    pixels: NDArray[np.uint8] = rng.integers(0, 256, (*grid, 3 if coloured else 1), dtype=np.uint8)
    if not coloured:
        pixels = np.repeat(pixels, 3, axis=2)
    method = Image.Resampling.NEAREST if cell < 3 or rng.random() < 0.4 else Image.Resampling.BICUBIC
    return Image.fromarray(pixels).resize(size, method)


def grain(image: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Return the picture with normal noise of `amount` (0..255 scale) on every pixel."""
    pixels = np.asarray(image, dtype=np.float32)
    coarse = rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
    return Image.fromarray(np.clip(pixels + amount * coarse, 0, 255).astype(np.uint8))


def pattern(size: tuple[int, int], name: str, colour: Rgb, ground: Rgb, rng: np.random.Generator) -> Image.Image:
    """Return the pattern `name` (one of PATTERNS) in `colour` on `ground`, filling the picture."""
    width, height = size
    image = Image.new("RGB", size, ground)
    canvas = ImageDraw.Draw(image)
    unit = max(4.0, min(size) / float(rng.uniform(3.0, 8.0)))
    if name == "stripes":
        reach = width + height
        angle = np.radians(float(rng.choice([0, 90, 45, 135])) + float(rng.uniform(-8, 8)))
        way, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        thick, centre = float(rng.uniform(0.35, 0.65)) * unit, np.array([width / 2, height / 2])
        for k in np.arange(-reach, reach, unit) + float(rng.uniform(0, unit)):
            a, b = centre + across * k, centre + across * (k + thick)
            canvas.polygon(
                [(float(x), float(y)) for x, y in (a - way * reach, a + way * reach, b + way * reach, b - way * reach)],
                fill=colour,
            )
    elif name == "dots":
        r, shift = unit * float(rng.uniform(0.2, 0.38)), rng.random() < 0.5
        for row, y in enumerate(np.arange(-unit * 0.3, height + unit, unit)):
            for x in np.arange(-unit * 0.3, width + unit, unit) + (unit / 2 if shift and row % 2 else 0):
                canvas.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif name == "checkerboard":
        for row, y in enumerate(np.arange(0, height, unit)):
            for column, x in enumerate(np.arange(0, width, unit)):
                if (row + column) % 2 == 0:
                    canvas.rectangle((x, y, x + unit - 1, y + unit - 1), fill=colour)
    elif name == "grid":
        line = max(1, round(unit * float(rng.uniform(0.06, 0.22))))
        for x in np.arange(float(rng.uniform(0, unit)), width, unit):
            canvas.line((x, 0, x, height), fill=colour, width=line)
        for y in np.arange(float(rng.uniform(0, unit)), height, unit):
            canvas.line((0, y, width, y), fill=colour, width=line)
    else:
        line, step = max(2, round(unit * float(rng.uniform(0.18, 0.4)))), unit * 0.6
        for y in np.arange(-unit, height + unit, unit * 1.1):
            points = [
                (x, y + (unit * 0.45 if k % 2 else -unit * 0.1))
                for k, x in enumerate(np.arange(-step, width + 2 * step, step))
            ]
            canvas.line(points, fill=colour, width=line, joint="curve")
    return image


def paper(image: Image.Image, ground: Rgb, rng: np.random.Generator) -> Image.Image:
    """Return the backdrop with faint ruled lines or soft blotches, as on used paper."""
    canvas = ImageDraw.Draw(image)
    width, height = image.size
    if rng.random() < 0.5:
        faint = jitter(ground, 14.0, rng)
        step = max(5, int(height * float(rng.uniform(0.06, 0.15))))
        for row in range(int(rng.integers(step)), height, step):
            canvas.line((0, row, width, row), fill=faint)
        return image
    for _ in range(int(rng.integers(3, 12))):
        x, y, r = float(rng.uniform(0, width)), float(rng.uniform(0, height)), float(rng.uniform(0.05, 0.3)) * width
        canvas.ellipse((x - r, y - r, x + r, y + r), fill=jitter(ground, 9.0, rng))
    return image
