"""From whatever a decoder gives to 8-bit RGB, before any resizing.

The order matters: Pillow resizes palette images by nearest neighbour, and clips 16-bit grey to white when it converts
it plainly. The choices, each proven pixel by pixel in the tests:

* **Alpha** (RGBA, LA, palette or colour-key transparency) is composited on a stated background, white by default: what
  hides under alpha 0 is seen by no viewer either.
* **16-bit** samples give their high byte, grey and colour alike.
* **CMYK** is converted plainly, R = (255 - C)(255 - K) / 255 and so on, after Pillow has undone Adobe's inversion.
* **Colors** become sRGB where the image signals others (``color.py``): before it is composited, as browsers do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from gateway.decoding.color import Conversion

Colour = tuple[int, int, int]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes each EXIF orientation upright (CIPA DC-008, 4.6.4 A)."""


class Rgb(NamedTuple):
    """An image in mode RGB.

    Attributes:
        image: 8 bits a channel.
        alpha: how opaque it is, mode L; None where it is all over.
        conversion: to sRGB, still to be done.
    """

    image: Image.Image
    alpha: Image.Image | None
    conversion: Conversion | None


def to_rgb(image: Image.Image, background: Colour, conversion: Conversion | None = None) -> Rgb:
    """Return an image in mode RGB; ``image`` itself where it is plain RGB already, else a new one of the same size.

    Args:
        image: decoded, in any mode that the accepted formats give.
        background: colour (red, green, blue), 0 to 255, that transparent parts are composited on.
        conversion: to sRGB; left to the caller, who may shrink the image first, where that makes no difference.
    """
    colors, alpha = _separated(image)
    left = conversion if conversion is not None and conversion.smooth and alpha is None else None
    if conversion is not None and left is None:
        colors = conversion(colors)
    if alpha is None:
        return Rgb(colors if colors.mode == "RGB" else colors.convert("RGB"), None, left)
    flat = Image.new("RGB", colors.size, background)
    flat.paste(colors, mask=alpha)
    return Rgb(flat, alpha if alpha.getextrema() != (255, 255) else None, None)


def _is_see_through(image: Image.Image) -> bool:
    """Return whether a decoded image has an alpha channel or a transparent colour."""
    return image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info


def turn_upright(rgb: Image.Image, orientation: int) -> Image.Image:
    """Return the image as its EXIF orientation (1 to 8) means it to be seen."""
    turn = _TURNS.get(orientation)
    return rgb if turn is None else rgb.transpose(turn)


def _separated(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return an image of 8 bits a channel, and its alpha: of mode L, or None where it can have none."""
    if image.mode.startswith("I;16"):
        samples = np.asarray(image)  # uint16 [height, width]
        key = image.info.get("transparency")
        alpha = None if key is None else Image.fromarray((samples != key).astype(np.uint8) * 255)
        return Image.fromarray((samples >> 8).astype(np.uint8)), alpha
    if not _is_see_through(image):
        return image, None
    see_through = image if image.mode == "RGBA" else image.convert("RGBA")
    return see_through, see_through.getchannel("A")
