"""PDQ: a hash that stays nearly the same when an image is resized, recompressed or made brighter.

PDQ (Facebook, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", ThreatExchange, 2019) gives
256 bits: luminance, two box-filter passes down to 64 x 64, a cosine transform of which 16 x 16 coefficients are kept,
each compared with their median. Two images are alike where few bits differ; a turned or mirrored image is another
image to it, and so is a strongly cropped one.

The arithmetic is the library ``pdqhash``, Facebook's own C++ with Python bindings. It has no wheel for Linux, so that
its install needs a C++ compiler: it comes with the optional extra ``pdq``, and without it nothing here fails, there is
just no hasher (:func:`load_hasher` gives None).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Annotated, Final

import numpy as np
from PIL import Image
from pydantic import Field

HASH_BITS: Final = 256
MIN_QUALITY: Final = 50
"""Of 0..100. Under it an image has too little structure for its hash to mean anything: ThreatExchange's own threshold
(``PdqSignal.QUALITY_THRESHOLD``)."""

WORKING_SIDE_PX: Final = 512
"""Longer sides are first shrunk to this, as Facebook's reference does (``DOWNSAMPLE_DIMS`` in pdqio.cpp), because the
library's cost and memory grow with the pixels: some 30 bytes for each.

Hashes made elsewhere of the same file differ by a few bits with the size they were made at: over nine images, these
differ by 5 bits on average (10 at most) from that reference, by 11 (18 at most) from hashes of the unshrunk image, as
python-threatexchange makes them; those two differ by 13 (20 at most) from each other."""


@dataclass(frozen=True, slots=True)
class PerceptualHash:
    """A PDQ hash.

    Attributes:
        hex: 64 lower-case hexadecimal digits, the first one the most significant, as in ThreatExchange.
        quality: 0..100, how much structure the image has; under ``MIN_QUALITY`` the hash is not to be matched.
    """

    hex: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{HASH_BITS // 4}}}$")]
    quality: Annotated[int, Field(ge=0, le=100)]


PerceptualHasher = Callable[[Image.Image], PerceptualHash]
"""Hashes an upright image of mode RGB with sides of at least 5 pixels; safe to call from several threads."""


def load_hasher() -> PerceptualHasher | None:
    """Return the hasher, or None where the library is not installed or cannot be loaded."""
    try:
        library = importlib.import_module("pdqhash")
    except (ImportError, ValueError):  # ValueError: built against another numpy's arrays
        return None
    return partial(_hash, library)


def available() -> bool:
    """Return whether images can be hashed here, by loading the library."""
    return load_hasher() is not None


def _hash(library: ModuleType, rgb: Image.Image) -> PerceptualHash:
    """Hash an image of bounded size; holds the interpreter's lock for a few milliseconds."""
    pixels = np.array(_working_size(rgb), dtype=np.uint8)  # a copy: the library asks for a writable one
    bits, quality = library.compute(pixels)
    return PerceptualHash(hex=np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes().hex(), quality=int(quality))


def _working_size(rgb: Image.Image) -> Image.Image:
    """Shrink the sides over ``WORKING_SIDE_PX``, each by itself: PDQ's 64 x 64 ignores the aspect ratio anyway.

    The mean over areas, since the reference's nearest neighbour lets single pixels decide.
    """
    width, height = min(rgb.width, WORKING_SIDE_PX), min(rgb.height, WORKING_SIDE_PX)
    if (width, height) == rgb.size:
        return rgb
    return rgb.resize((width, height), Image.Resampling.BOX)
