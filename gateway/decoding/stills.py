"""Stills: small JPEGs of what was judged, for the people who review, without anything else that the file held.

They are made while a frame is in memory, in the process that decoded it. JPEG, since encoding one of 1024 pixels takes
2 ms; WebP takes 12 to 52 ms, and every image pays for it before anybody knows whether it will be reviewed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from gateway.decoding.decoder import Frame
from gateway.decoding.headers.jpeg import read_jpeg
from gateway.decoding.to_rgb import Colour
from gateway.errors import ImageError

QUALITY: Final = 80
LOWER_QUALITY: Final = 30
"""Of what takes more bytes than it may: noise takes 0.67 bytes a pixel at quality 80 and 0.28 at 30."""

LEAST_OF_SIDE: Final = 0.75
"""An image that was averaged down to at least this share of the side asked for is a still as it is, such as the one
that views are cut from: resampling takes 22 ms for 12 megapixels."""

DIFFERENCE: Final = 16
DIFFERENT_SHARE: Final = 0.005
"""What black behind transparent parts has to change to be looked at too: more than 16 levels in more than 0.5 %."""

_HEADER_BYTES: Final = 4096
_END: Final = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class StillPlace:
    """Which frame a still shows.

    Attributes:
        size: bytes of the JPEG.
        frame_ms: milliseconds into an animation; None of a still image.
        background: ``black`` where transparent parts are shown on black; None on white, and where there are none.
    """

    size: Annotated[int, Field(ge=1)]
    frame_ms: Annotated[int, Field(ge=0, le=1 << 31)] | None
    background: Literal["black"] | None = None


@dataclass(frozen=True, slots=True)
class Still:
    """A JPEG without metadata, upright and in sRGB, and which frame it shows."""

    jpeg: bytes
    place: StillPlace


class StillRefused(Exception):
    """Not what ``stills_of`` makes."""


def most_bytes(pixels: int, side_px: int) -> int:
    """Return the most bytes of a still of an image with so many pixels."""
    return _HEADER_BYTES + min(pixels, side_px**2)


def on_black(
    shown: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8], background: Colour
) -> npt.NDArray[np.uint8] | None:
    """Return uint8 [H, W, 3] as shown on black instead of ``background``; None where that makes no difference.

    Args:
        shown: uint8 [H, W, 3], on ``background``.
        alpha: uint8 [H, W], 255 is opaque.
        background: colour (red, green, blue), 0 to 255.
    """
    if ((255 - alpha) > DIFFERENCE).mean() <= DIFFERENT_SHARE:
        return None
    ground = np.outer(255 - alpha.astype(np.float32), background).reshape(shown.shape)
    return np.asarray((shown - ground / 255).round().clip(0, 255).astype(np.uint8))


def stills_of(frame: Frame, smaller: Image.Image, side_px: int, background: Colour | None) -> Iterator[Still]:
    """Yield the still of a frame, and a second one on black where transparent parts look different on it.

    Args:
        frame: upright.
        smaller: the frame as views are cut from it, mode RGB.
        side_px: the longest side that a still may have.
        background: colour under transparent parts; None to leave black out.
    """
    source = smaller if max(smaller.size) >= LEAST_OF_SIDE * side_px else frame.rgb
    shown = _shrunk(source, side_px)
    if frame.conversion is not None:
        shown = frame.conversion(shown)
    yield _still(shown, side_px, StillPlace(1, frame.time_ms))
    if frame.alpha is None or background is None:
        return
    alpha = _shrunk(frame.alpha, side_px)
    if alpha.size != shown.size:
        alpha = alpha.resize(shown.size, Image.Resampling.BILINEAR)
    dark = on_black(np.asarray(shown), np.asarray(alpha), background)
    if dark is not None:
        yield _still(Image.fromarray(dark), side_px, StillPlace(1, frame.time_ms, "black"))


def checked_still(jpeg: bytes, place: StillPlace, side_px: int) -> Still:
    """Return a still that a decoding process made: an image has met it, so its word is not taken.

    Raises:
        StillRefused: no JPEG, a larger one, or one with metadata or with anything behind its end.
    """
    try:
        header = read_jpeg(jpeg)
    except ImageError:
        raise StillRefused("a still is no JPEG") from None
    whole = header.keep == ((0, len(jpeg)),) and jpeg.endswith(_END)
    if not whole or header.orientation != 1 or max(header.width, header.height) > side_px:
        raise StillRefused("a still holds more than it may")
    return Still(jpeg, place)


def _shrunk(image: Image.Image, side_px: int) -> Image.Image:
    """Return an image whose longest side is ``side_px`` at most, averaged; itself where it is small enough."""
    longest = max(image.size)
    if longest <= side_px:
        return image
    width, height = (max(1, round(side * side_px / longest)) for side in image.size)
    factor = -(-longest // side_px)
    if longest >= factor * LEAST_OF_SIDE * side_px:
        return image.reduce(factor)
    if factor > 2:  # noqa: PLR2004 - what is left is between one and two times the side
        image = image.reduce(factor - 1)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _still(shown: Image.Image, side_px: int, place: StillPlace) -> Still:
    bare = Image.frombytes("RGB", shown.size, shown.tobytes())  # nothing but pixels: encoders write what `info` holds
    most = most_bytes(shown.width * shown.height, side_px)
    for quality in (QUALITY, LOWER_QUALITY):
        out = io.BytesIO()
        bare.save(out, "JPEG", quality=quality)
        if out.tell() <= most:
            break
    made = out.getvalue()
    return Still(made, StillPlace(len(made), place.frame_ms, place.background))
