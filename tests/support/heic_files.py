"""HEIC files made on the spot, whole, and taken apart."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

from gateway.decoding.decoder import DecodeLimits, open_image
from gateway.decoding.headers.header import ALWAYS_ACCEPTED, Formats
from gateway.errors import GatewayError
from tests.support import awkward_images as make

WITH_HEIC: Formats = ALWAYS_ACCEPTED | {"heic"}
LIMITS = DecodeLimits(formats=WITH_HEIC)


def gradient(width: int, height: int, channels: int = 3) -> make.Pixels:
    """Smooth colours that lossy coding hardly changes; the fourth channel is 0 in the left half, 255 in the right."""
    y, x = np.mgrid[:height, :width]
    alpha = np.where(x < width // 2, 0, 255)
    planes = [x * 255 // (width - 1), y * 255 // (height - 1), (x + y) % 256, alpha]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def heic(heif: Any, samples: np.ndarray[Any, Any], mode: str = "RGB", **options: Any) -> bytes:
    """A HEIC of samples as they are stored; an EXIF orientation gets the boxes irot and imir beside it."""
    out = io.BytesIO()
    size = (samples.shape[1], samples.shape[0])
    heif.encode(mode, size, samples.tobytes(), out, **{"quality": 100, "chroma": 444} | options)
    return out.getvalue()


def pixels(data: bytes, limits: DecodeLimits = LIMITS) -> np.ndarray[Any, Any]:
    with open_image(data, limits, seed=1) as image:
        (frame,) = list(image.frames())
        assert (image.info.format, image.info.frames, frame.time_ms) == ("heic", 1, None)
        assert frame.rgb.mode == "RGB"
        assert frame.rgb.size == (image.info.width, image.info.height)
    return np.asarray(frame.rgb).astype(int)


def code_of(data: bytes, limits: DecodeLimits = LIMITS) -> str:
    try:
        pixels(data, limits)
    except GatewayError as fault:
        return fault.code if fault.detail.endswith(".") else fault.detail
    return "ok"


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def nal(kind: int, body: bytes) -> bytes:
    return struct.pack(">H", len(body) + 2) + bytes((kind << 1, 1)) + body
