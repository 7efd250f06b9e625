"""From whatever a decoder gives to 8-bit RGB, before any resizing.

The order matters: Pillow resizes palette pictures by nearest neighbour, and clips 16-bit grey to white when it converts
it plainly. The choices, each proven pixel by pixel in the tests:

* **Alpha** (RGBA, LA, palette or colour-key transparency) is composited on a stated background, white by default: what
  hides under alpha 0 is seen by no viewer either.
* **16-bit** samples give their high byte, grey and colour alike.
* **CMYK** is converted plainly, R = (255 - C)(255 - K) / 255 and so on, after Pillow has undone Adobe's inversion.
* **ICC profiles** are ignored, RGB and CMYK alike: the reference transform of CLIP ignores them, so the model was
  trained that way; and no profile parser meets hostile bytes.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

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


def to_rgb(picture: Image.Image, background: Colour) -> Image.Image:
    """Return the picture in mode RGB, 8 bits a channel.

    Args:
        picture: decoded, in any mode that the accepted formats give.
        background: colour (red, green, blue), 0 to 255, that transparent parts are composited on.

    Returns:
        ``picture`` itself when it is plain RGB already, else a new one of the same size.
    """
    if picture.mode.startswith("I;16"):
        return _from_16_bit_grey(picture, background)
    if picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in picture.info:
        return _composite(picture, background)
    if picture.mode == "RGB":
        return picture
    return picture.convert("RGB")


def turn_upright(rgb: Image.Image, orientation: int) -> Image.Image:
    """Return the picture as its EXIF orientation (1 to 8) means it to be seen."""
    turn = _TURNS.get(orientation)
    return rgb if turn is None else rgb.transpose(turn)


def _composite(picture: Image.Image, background: Colour) -> Image.Image:
    see_through = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    flat = Image.new("RGB", see_through.size, background)
    flat.paste(see_through, mask=see_through.getchannel("A"))
    return flat


def _from_16_bit_grey(picture: Image.Image, background: Colour) -> Image.Image:
    samples = np.asarray(picture)  # uint16 [height, width]
    rgb = Image.fromarray((samples >> 8).astype(np.uint8)).convert("RGB")
    key = picture.info.get("transparency")
    if key is not None:
        rgb.paste(background, mask=Image.fromarray((samples == key).astype(np.uint8) * 255))
    return rgb
