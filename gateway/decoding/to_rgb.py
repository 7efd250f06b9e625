"""From whatever a decoder gives to 8-bit RGB, before any resizing.

The order matters: Pillow resizes palette images by nearest neighbour, and clips 16-bit grey to white when it converts
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


def to_rgb(image: Image.Image, background: Colour) -> Image.Image:
    """Return the image in mode RGB, 8 bits a channel.

    Args:
        image: decoded, in any mode that the accepted formats give.
        background: colour (red, green, blue), 0 to 255, that transparent parts are composited on.

    Returns:
        ``image`` itself when it is plain RGB already, else a new one of the same size.
    """
    if image.mode.startswith("I;16"):
        return _from_16_bit_grey(image, background)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        return _composite(image, background)
    if image.mode == "RGB":
        return image
    return image.convert("RGB")


def turn_upright(rgb: Image.Image, orientation: int) -> Image.Image:
    """Return the image as its EXIF orientation (1 to 8) means it to be seen."""
    turn = _TURNS.get(orientation)
    return rgb if turn is None else rgb.transpose(turn)


def _composite(image: Image.Image, background: Colour) -> Image.Image:
    see_through = image if image.mode == "RGBA" else image.convert("RGBA")
    flat = Image.new("RGB", see_through.size, background)
    flat.paste(see_through, mask=see_through.getchannel("A"))
    return flat


def _from_16_bit_grey(image: Image.Image, background: Colour) -> Image.Image:
    samples = np.asarray(image)  # uint16 [height, width]
    rgb = Image.fromarray((samples >> 8).astype(np.uint8)).convert("RGB")
    key = image.info.get("transparency")
    if key is not None:
        rgb.paste(background, mask=Image.fromarray((samples == key).astype(np.uint8) * 255))
    return rgb
