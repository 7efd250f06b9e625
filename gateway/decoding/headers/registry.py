"""Which formats are accepted, and who reads and who decodes each of them.

HEIC comes with the optional extra ``heic`` (pillow-heif, which brings libheif and libde265) and has to be switched on.
Its Pillow plugin is constructed directly like the others: nothing is registered with Pillow.
"""

from __future__ import annotations

import importlib
from typing import Final

from PIL import AvifImagePlugin, GifImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from gateway.decoding.headers.avif import read_avif
from gateway.decoding.headers.gif import read_gif
from gateway.decoding.headers.header import (
    ALWAYS_ACCEPTED,
    UNPROVEN,
    Formats,
    ImageFormat,
    ImageHeader,
    accepted_words,
    sniff,
)
from gateway.decoding.headers.heic import read_heic
from gateway.decoding.headers.jpeg import read_jpeg
from gateway.decoding.headers.png import read_png
from gateway.decoding.headers.webp import read_webp
from gateway.errors import UnsupportedImage

_PLUGINS: Final[dict[ImageFormat, type[ImageFile.ImageFile]]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}


class DecoderMissing(Exception):
    """A format is switched on that cannot be decoded here; the text says what to do."""


def accepted_formats(*, heic: bool, isolated: bool) -> Formats:
    """Return the formats that are accepted.

    Args:
        heic: HEIC too.
        isolated: decoders are processes with limits of memory and time, which AVIF and HEIC need.

    Raises:
        DecoderMissing: HEIC is wanted, and its decoder cannot be loaded or is not isolated.
    """
    if heic and not isolated:
        raise DecoderMissing("HEIC=true needs DECODE_ISOLATION=true: its decoder has to have limits of memory and time")
    if not heic:
        return ALWAYS_ACCEPTED if isolated else ALWAYS_ACCEPTED - UNPROVEN
    try:
        plugin_of("heic")
    except (ImportError, AttributeError) as fault:
        raise DecoderMissing(
            "HEIC=true needs the optional extra heic: install it (pip install '.[heic]') or set HEIC=false"
        ) from fault
    return ALWAYS_ACCEPTED | {"heic"}


def plugin_of(name: ImageFormat) -> type[ImageFile.ImageFile]:
    """Return what decodes a format.

    Raises:
        ImportError: HEIC, and the extra is not installed.
    """
    if name != "heic":
        return _PLUGINS[name]
    library = importlib.import_module("pillow_heif")
    importlib.import_module("_pillow_heif")  # the library defers the failure of its own C part
    plugin: type[ImageFile.ImageFile] = library.HeifImageFile
    return plugin


def read_header(data: bytes, formats: Formats, *, max_frames: int) -> ImageHeader:
    """Read a picture's header.

    Args:
        data: the whole file.
        formats: those accepted.
        max_frames: counting frames may stop beyond these.

    Raises:
        UnsupportedImage: by its content none of the formats.
        ImageCorrupt: broken in a way that shows without decoding.
    """
    name = sniff(data)
    if name == "heic" and name not in formats:
        raise UnsupportedImage(
            f"HEIC pictures are not accepted here, unless whoever runs this service switches them on with HEIC=true; "
            f"send {accepted_words(formats)}."
        )
    if name == "avif" and name not in formats:
        raise UnsupportedImage(
            "AVIF pictures are decoded in processes of their own only, and this service runs without "
            f"(DECODE_ISOLATION=false); send {accepted_words(formats)}."
        )
    if name is None or name not in formats:
        raise UnsupportedImage(f"The file is not a picture of an accepted format; send {accepted_words(formats)}.")
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
            return read_avif(data)
        case "heic":
            return read_heic(data)
