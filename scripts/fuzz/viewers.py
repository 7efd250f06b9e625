"""What other decoders make of a picture: plain Pillow, and libvips, which brings libraries of its own."""

from __future__ import annotations

import importlib
import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from gateway.decoding.color import conversion_of
from gateway.decoding.headers.exif import read_orientation
from gateway.decoding.headers.header import ImageHeader
from gateway.decoding.png_pixels import scale_key
from gateway.decoding.to_rgb import to_rgb, turn_upright
from scripts.fuzz.pieces import split

MOST_PIXELS = 1_000_000
WHITE = (255, 255, 255)
PILLOW = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "HEIF")

Pixels = npt.NDArray[np.uint8]


def vips() -> Any:  # noqa: ANN401 - untyped, and optional
    """Return pyvips; None where it is not installed."""
    try:
        library = importlib.import_module("pyvips")
    except (ImportError, OSError):
        return None
    library._remove_log_handler()  # noqa: SLF001 - which fails at messages that quote a damaged picture
    return library


def decoded_by_pillow(data: bytes, header: ImageHeader | None) -> Pixels | None:
    """Return the first frame as plain Pillow decodes it; None where it refuses."""
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                return None
            if isinstance(picture, PngImagePlugin.PngImageFile):
                scale_key(picture)
            picture.load()
            conversion = conversion_of(header.color, data, header.format, picture.mode) if header else None
            rgb, _, left = to_rgb(picture, WHITE, conversion)
            rgb = rgb if left is None else left(rgb)
            exif = picture.info.get("exif", b"").removeprefix(b"Exif\0\0")
    except Exception:  # noqa: BLE001 - whatever a library thinks of
        return None
    if header is None:
        return np.asarray(rgb)
    return np.asarray(turn_upright(rgb, read_orientation(exif) if header.format == "avif" else header.orientation))


def decoded_by_libvips(pyvips: Any, data: bytes, header: ImageHeader) -> npt.NDArray[Any] | None:  # noqa: ANN401 - untyped
    """Return the first frame as libvips decodes it, [height, width, 3]; None where it refuses."""
    try:
        picture = pyvips.Image.new_from_buffer(data, "", fail_on="error")
        if picture.width * picture.height > MOST_PIXELS:
            return None
        samples: npt.NDArray[Any] = picture.numpy()
        space = picture.interpretation
    except Exception:  # noqa: BLE001 - whatever a library thinks of
        return None
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.dtype == np.uint16:
        samples = samples >> 8
    samples = samples.astype(float)
    if space == "cmyk":
        samples = (255 - samples[..., :3]) * (255 - samples[..., 3:4]) / 255
    if samples.shape[2] in {2, 4}:
        share = samples[..., -1:] / 255
        samples = samples[..., :-1] * share + 255 * (1 - share)
    rgb = Image.fromarray(np.broadcast_to(samples, (*samples.shape[:2], 3)).round().clip(0, 255).astype(np.uint8))
    return np.asarray(turn_upright(rgb, header.orientation))


def cut_to_first_frame(data: bytes, samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what a GIF's first frame covers: what none does is Pillow's background colour and nothing for others."""
    _, pieces = split(data) or ("gif", [])
    frames = [piece.data for piece in pieces if piece.data.startswith(b",")]
    left, top, width, height = struct.unpack_from("<4H", frames[0], 1) if frames else (0, 0, 0, 0)
    return samples[top : top + height, left : left + width]


def averaged(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return means of 8 x 8 pixels: each AVIF library enlarges the halved colour planes in its own way."""
    height, width = (size // 8 * 8 for size in samples.shape[:2])
    blocks = samples[:height, :width].reshape(height // 8, 8, width // 8, 8, 3)
    return np.asarray(blocks.mean((1, 3)))
