"""Colour names and the RGB values that people mean by them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

Rgb = tuple[int, int, int]
"""Red, green, blue, each 0..255."""

# For each name, values that most people would call by it; the first one is the plain, most common one.
ANCHORS: Mapping[str, tuple[Rgb, ...]] = MappingProxyType(
    {
        "red": ((255, 0, 0), (220, 20, 20), (230, 30, 50), (200, 0, 0), (237, 28, 36), (214, 39, 40), (220, 20, 60)),
        "orange": ((255, 165, 0), (255, 140, 0), (255, 127, 14), (245, 130, 30), (240, 150, 40)),
        "yellow": ((255, 255, 0), (255, 230, 20), (250, 220, 40), (255, 215, 0), (240, 230, 60), (255, 240, 90)),
        "green": ((0, 128, 0), (0, 200, 0), (40, 160, 60), (0, 255, 0), (50, 205, 50), (34, 139, 34), (0, 100, 0)),
        "blue": (
            (0, 0, 255),
            (30, 60, 200),
            (20, 90, 220),
            (31, 119, 180),
            (30, 100, 255),
            (0, 0, 180),
            (65, 105, 225),
            (0, 0, 128),
        ),
        "purple": ((128, 0, 128), (140, 40, 170), (110, 30, 150), (148, 0, 211), (150, 60, 200), (106, 50, 160)),
        "pink": ((255, 192, 203), (255, 105, 180), (250, 150, 190), (255, 130, 190), (245, 120, 170), (255, 170, 200)),
        "brown": (
            (139, 69, 19),
            (165, 42, 42),
            (165, 42, 42),
            (120, 70, 30),
            (101, 67, 33),
            (150, 90, 45),
            (140, 86, 75),
        ),
        "black": ((0, 0, 0), (15, 15, 15), (25, 25, 30), (5, 5, 10), (35, 35, 35)),
        "white": ((255, 255, 255), (250, 250, 250), (245, 245, 240), (255, 252, 245)),
        "gray": ((128, 128, 128), (150, 150, 150), (110, 112, 115), (169, 169, 169), (105, 105, 105)),
    }
)
COLOURS: tuple[str, ...] = tuple(ANCHORS)

SKINS: tuple[Rgb, ...] = (
    (255, 224, 189), (255, 205, 148), (234, 192, 134), (255, 219, 172), (241, 194, 125), (224, 172, 105),
    (198, 134, 66), (141, 85, 36), (255, 218, 185), (250, 200, 170), (245, 190, 150), (255, 228, 196),
    (210, 160, 120), (160, 110, 75), (110, 70, 45), (232, 190, 172), (255, 220, 177), (222, 184, 135),
)  # fmt: skip
HAIRS: tuple[Rgb, ...] = (
    (30, 20, 15), (0, 0, 0), (80, 50, 20), (120, 70, 30), (139, 69, 19), (200, 150, 60), (170, 80, 30), (130, 130, 130),
    (190, 190, 190), (230, 230, 230), (101, 67, 33), (60, 40, 30), (70, 70, 70),
)  # fmt: skip


def jitter(rgb: Rgb, amount: float, rng: np.random.Generator) -> Rgb:
    """Return `rgb` with each channel moved by a normal step of `amount` (0..255 scale), kept within 0..255."""
    moved = np.clip(np.asarray(rgb, dtype=np.float64) + rng.normal(0.0, amount, 3), 0, 255)
    return (int(moved[0]), int(moved[1]), int(moved[2]))


def tint(name: str, rng: np.random.Generator) -> Rgb:
    """Return one RGB value for the colour `name`: often the plain one, else a nearby one. KeyError if unknown."""
    anchors = ANCHORS[name]
    if rng.random() < 0.3:
        return anchors[0]
    return jitter(anchors[int(rng.integers(len(anchors)))], 5.0 if name in ("black", "white") else 8.0, rng)


def skin(rng: np.random.Generator) -> Rgb:
    """Return a skin tone."""
    return jitter(SKINS[int(rng.integers(len(SKINS)))], 5.0, rng)


def hair(rng: np.random.Generator) -> Rgb:
    """Return a hair or beard colour."""
    return jitter(HAIRS[int(rng.integers(len(HAIRS)))], 8.0, rng)


def contrast(one: Rgb, other: Rgb) -> float:
    """Return how far two colours lie apart, 0 (same) to about 765; below about 130 they are hard to tell apart.

    The "redmean" approximation: Euclidean distance with weights that follow the eye.
    """
    mean_red = (one[0] + other[0]) / 2.0
    red, green, blue = (float(a - b) for a, b in zip(one, other, strict=True))
    return float(np.sqrt((2 + mean_red / 256) * red**2 + 4 * green**2 + (2 + (255 - mean_red) / 256) * blue**2))


def apart_from(candidates: tuple[Rgb, ...], others: tuple[Rgb, ...], rng: np.random.Generator) -> Rgb:
    """Return a candidate that stands out from all of `others`: a random one of those far enough, else the farthest."""
    scored = [(min((contrast(c, o) for o in others), default=999.0), c) for c in candidates]
    good = [c for distance, c in scored if distance > 175.0]
    return good[int(rng.integers(len(good)))] if good else max(scored)[1]
