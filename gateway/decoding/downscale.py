"""Images far larger than what the model looks at: decoded, or averaged, at a fraction of their size.

A model of 224 pixels sees a 12-megapixel photograph shrunk 13 times. Handing it out at a quarter of its size first
takes a fraction of the time and changes next to nothing, if enough is left for the last step, which is the same bicubic
one as ever: :data:`LEAST_GAP`. A JPEG is decoded at that size (libjpeg leaves out the fine coefficients of each block),
the other formats are averaged after decoding. Small images keep every pixel, and a perceptual hash is made of every
pixel too: some of its bits change with the size (up to 4 of 256 at a half of it).

A JPEG's samples may lie far outside 0 to 255. Viewers clip them; a decoder of a fraction averages them as they are, so
that a file can be made that shows it another image (``tests/decoding/test_scaling_attacks.py``). So nothing is decided
on such a rendition: what moderates decodes every pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from PIL import Image

Box = tuple[int, int, int, int]

LEAST_GAP: Final = 3
"""How many times larger than needed the shorter side stays.

Measured against the whole image on photographs and drawings shrunk to the model's square: at 3 the pixels differ by
0.6 levels of 255 (root mean square; rounding both to whole levels alone makes 0.4), the demo model's vectors by at most
0.0009 of cosine; at 2 by 0.8-1.1 levels, at 1 by 2-3 levels and 0.01."""

SMALL_PIXELS: Final = 1_000_000
"""Images of up to so many pixels are never made smaller before their views are cut: it would save a millisecond."""

_JPEG_FACTORS: Final = (8, 4, 2, 1)  # what Pillow asks of libjpeg
_MIRRORED_SIDEWAYS: Final = frozenset({2, 3, 6, 7})
_UPSIDE_DOWN: Final = frozenset({3, 4, 7, 8})


@dataclass(frozen=True, slots=True)
class Scale:
    """How an image lies in a rendition of it that is smaller, or not.

    Attributes:
        width: pixels of the upright image.
        height: likewise.
        factor: pixels of the image to one of the rendition, each way.
        left: where in the rendition the image begins, in its pixels; not 0 only where a mirrored image does not
            fill the first column.
        top: likewise.
    """

    width: int
    height: int
    factor: int = 1
    left: float = 0.0
    top: float = 0.0

    def region(self, box: Box) -> tuple[float, float, float, float]:
        """Return where a box of the image lies in the rendition; neither is rounded."""
        return (
            self.left + box[0] / self.factor,
            self.top + box[1] / self.factor,
            self.left + box[2] / self.factor,
            self.top + box[3] / self.factor,
        )


def factor_for(width: int, height: int, least_px: int) -> int:
    """Return how many times smaller an image may be handed out; 1 means whole.

    Args:
        width: of the image, pixels.
        height: likewise.
        least_px: what its shorter side will be shrunk to.
    """
    if width * height <= SMALL_PIXELS:
        return 1
    return max(1, min(width, height) // (LEAST_GAP * least_px))


def jpeg_factor_for(width: int, height: int, least_px: int) -> int:
    """Return the largest factor within ``factor_for`` that a JPEG can be decoded at: 1, 2, 4 or 8."""
    allowed = factor_for(width, height, least_px)
    return next(factor for factor in _JPEG_FACTORS if factor <= allowed)


def scale_of(rendition: tuple[int, int], image: tuple[int, int], factor: int, orientation: int) -> Scale:
    """Return how an upright image lies in its rendition, which its decoder rounded up to whole pixels before turning.

    Args:
        rendition: width and height, upright.
        image: likewise.
        factor: between them.
        orientation: by which both were turned, as EXIF counts.
    """
    (across, down), (width, height) = rendition, image
    return Scale(
        width,
        height,
        factor,
        across - width / factor if orientation in _MIRRORED_SIDEWAYS else 0.0,
        down - height / factor if orientation in _UPSIDE_DOWN else 0.0,
    )


def averaged(rgb: Image.Image, scale: Scale, least_px: int) -> tuple[Image.Image, Scale]:
    """Return a rendition as small as it may be, each pixel the mean of those that it stands for.

    Args:
        rgb: mode RGB, upright.
        scale: of the image in it.
        least_px: what the image's shorter side will be shrunk to.

    Returns:
        ``rgb`` itself where it is small enough.
    """
    further = factor_for(scale.width, scale.height, least_px) // scale.factor
    if further <= 1:
        return rgb, scale
    smaller = replace(scale, factor=scale.factor * further, left=scale.left / further, top=scale.top / further)
    return rgb.reduce(further), smaller


def resized(rgb: Image.Image, scale: Scale, box: Box, size: tuple[int, int]) -> Image.Image:
    """Return a box of the image at another size, by Pillow's bicubic; nothing outside of the box has a part in it.

    Args:
        rgb: the rendition.
        scale: of the image in it.
        box: left, top, right, bottom, in pixels of the image.
        size: width and height to make of it.
    """
    left, top, right, bottom = scale.region(box)
    outer = (math.floor(left), math.floor(top), min(math.ceil(right), rgb.width), min(math.ceil(bottom), rgb.height))
    part = rgb if outer == (0, 0, *rgb.size) else rgb.crop(outer)
    inner = (left - outer[0], top - outer[1], min(right - outer[0], part.width), min(bottom - outer[1], part.height))
    return part.resize(size, Image.Resampling.BICUBIC, box=inner)
