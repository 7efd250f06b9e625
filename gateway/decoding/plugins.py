"""Which formats are accepted, and the Pillow plugin that decodes each of them.

HEIC comes with the optional extra ``heic`` (pillow-heif, which brings libheif and libde265) and has to be switched on.
Its Pillow plugin is constructed directly like the others: nothing is registered with Pillow.
"""

from __future__ import annotations

import importlib
from typing import Final

from PIL import AvifImagePlugin, ImageFile, JpegImagePlugin, WebPImagePlugin

from gateway.decoding.gif_pixels import GifFile
from gateway.decoding.headers.header import ALWAYS_ACCEPTED, UNPROVEN, Formats, ImageFormat
from gateway.decoding.png_pixels import PngFile

_PLUGINS: Final[dict[ImageFormat, type[ImageFile.ImageFile]]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngFile,
    "gif": GifFile,
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
