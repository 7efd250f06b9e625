"""Reads the header of an image of any accepted format."""

from __future__ import annotations

from typing import Final

from gateway.decoding.headers.avif import read_avif
from gateway.decoding.headers.gif import read_gif
from gateway.decoding.headers.header import Formats, ImageFormat, ImageHeader, accepted_words, sniff
from gateway.decoding.headers.heic import read_heic
from gateway.decoding.headers.jpeg import read_jpeg
from gateway.decoding.headers.png import read_png
from gateway.decoding.headers.webp import read_webp
from gateway.errors import UnsupportedImage

_SWITCHED_OFF: Final[dict[ImageFormat | None, str]] = {
    "heic": "HEIC images are not accepted here, unless whoever runs this service switches them on with HEIC=true",
    "avif": "AVIF images are decoded in processes of their own only, and this service runs without "
    "(DECODE_ISOLATION=false)",
}


def read_header(data: bytes, formats: Formats, *, max_frames: int) -> ImageHeader:
    """Read an image's header.

    Args:
        data: the whole file.
        formats: those accepted.
        max_frames: counting frames may stop beyond these.

    Raises:
        UnsupportedImage: by its content none of the formats.
        ImageCorrupt: broken in a way that shows without decoding.
    """
    name = sniff(data)
    if name is None or name not in formats:
        refusal = _SWITCHED_OFF.get(name, "The file is not an image of an accepted format")
        raise UnsupportedImage(f"{refusal}; send {accepted_words(formats)}.")
    match name:
        case "jpeg":
            return read_jpeg(data)
        case "png":
            return read_png(data)
        case "gif":
            return read_gif(data, max_frames=max_frames)
        case "webp":
            return read_webp(data, max_frames=max_frames)
        case "avif":
            return read_avif(data, max_frames=max_frames)
        case "heic":
            return read_heic(data)
