"""Which formats are accepted, and the Pillow plugin that decodes each of them.

HEIC comes with the optional extra ``heic`` (pillow-heif, which brings libheif and libde265) and has to be switched on.
Its Pillow plugin is constructed directly like the others: nothing is registered with Pillow.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Final

from PIL import AvifImagePlugin, ImageFile, JpegImagePlugin, WebPImagePlugin, features

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


_LEAST_VERSIONS: Final = {"Pillow": (13, 0), "libavif": (1, 4, 2), "libheif": (1, 23, 4)}
"""Older ones have known holes: CVE-2026-84383 in libheif let a file run code of its choice."""


class DecoderMissing(Exception):
    """A format is switched on that cannot be decoded here, or not safely; the text says what to do."""


def accepted_formats(*, heic: bool, isolated: bool) -> Formats:
    """Return the formats that are accepted.

    Args:
        heic: HEIC too.
        isolated: decoders are processes with limits of memory and time, which AVIF and HEIC need.

    Raises:
        DecoderMissing: HEIC is wanted, and its decoder cannot be loaded or is not isolated; or a library is too old.
    """
    versions = {"Pillow": features.version_module("pil") or ""}
    if isolated:
        versions["libavif"] = features.version_module("avif") or ""
    if heic and not isolated:
        raise DecoderMissing("HEIC=true needs DECODE_ISOLATION=true: its decoder has to have limits of memory and time")
    if not heic:
        refuse_old(versions)
        return ALWAYS_ACCEPTED if isolated else ALWAYS_ACCEPTED - UNPROVEN
    try:
        plugin_of("heic")
    except (ImportError, AttributeError) as fault:
        raise DecoderMissing(
            "HEIC=true needs the optional extra heic: install it (pip install '.[heic]') or set HEIC=false"
        ) from fault
    refuse_old({**versions, "libheif": importlib.import_module("pillow_heif").libheif_version()})
    return ALWAYS_ACCEPTED | {"heic"}


def refuse_old(versions: Mapping[str, str]) -> None:
    """Compare versions of libraries, as they tell them, with the least that are safe.

    Raises:
        DecoderMissing: one is older.
    """
    for name, version in versions.items():
        least = _LEAST_VERSIONS[name]
        if tuple(map(int, re.findall(r"\d+", version)[:3])) < least:
            raise DecoderMissing(
                f"{name} {version} has known security holes; the gateway needs {'.'.join(map(str, least))} or newer: "
                "install the versions of requirements/gateway.txt"
            )


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
