"""Pictures that cost what photographs cost to decode, the same at every run."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

COMMON_SIZE = (640, 480)


def photographs(count: int = 16, size: tuple[int, int] = COMMON_SIZE, quality: int = 85) -> list[bytes]:
    """Return JPEGs with the spectrum of photographs: smoothed noise under grain; 640 x 480 are about 50 KB each.

    Args:
        count: how many, each other.
        size: width and height in pixels.
        quality: of Pillow's JPEG encoder, 1 to 95.
    """
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        small = rng.integers(0, 255, (max(1, size[1] // 8), max(1, size[0] // 8), 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        noise = rng.normal(0, 6, (size[1], size[0], 3))
        picture = Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=quality)
        made.append(out.getvalue())
    return made
