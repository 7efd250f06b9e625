"""JPEG (ITU-T T.81): size, orientation and memory, from its markers as libjpeg reads them.

The decoder is given the file's own bytes, all of those behind the first scan's header: what libjpeg does at a marker
inside a scan depends on the data before it, so a filter of ours could turn the image into another one. Left out are
whole metadata segments before the first scan, and padding between segments there: EXIF, XMP, ICC, Photoshop blocks,
comments and the MPO index never reach a parser; where an ICC profile lies is noted. libjpeg stops at the end-of-image
marker, so an **MPO** (two or more JPEGs in a row) is its first image, as every browser shows it, and a gain map behind
it is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.decoding.headers.color import Color, kind_of_profile, read_profile
from gateway.decoding.headers.exif import read_orientation
from gateway.decoding.headers.header import ImageHeader, all_but
from gateway.errors import ImageCorrupt, UnsupportedImage

_SOI, _EOI, _SOS, _APP1, _APP2 = 0xD8, 0xD9, 0xDA, 0xE1, 0xE2
_PROFILE = b"ICC_PROFILE\0"
_METADATA = frozenset({*range(0xE0, 0xF0), 0xFE})  # APP0-15, comments
_DECIDING = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
"""Those by which libjpeg chooses colours: how they begin and bytes that they have at least; it passes over others."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0-15 without DHT, JPG and DAC: T.81 table B.1
_CUT = "This JPEG is cut short or its markers are broken; send the complete file."
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""Whatever libjpeg may take for the start of a segment, the start and the end of the image included.

It passes over stuffed zeros, restarts, and reserved markers under 0xC0, which have no length (``next_marker`` and
``jpeg_resync_to_restart``), wherever it looks for the next segment. So no scan that libjpeg sees is missed.
Of fill bytes (T.81 B.1.1.2, any number of 0xFF before a marker) it finds the last, so that nothing is looked at twice:
with ``\\xff+`` a long run takes the square of its length.
"""
_LAST_ODD = re.compile(rb".*\xff[^\x00\xff]", re.DOTALL)
"""Up to the last marker without a length that stands between two segments; what follows it is padding."""

_MOST_LOOKED_INTO = 1 << 16
"""Bytes of a profile whose curves are looked at while the header is read; those of displays have 500 to 4,000."""

MAX_SEGMENTS = 4096
"""An ICC profile or extended XMP needs hundreds; hundreds of thousands are an attack on parsers."""

MAX_SCANS = 100
"""Encoders write about 10. Each scan of a progressive JPEG costs a pass over all coefficients for a few dozen bytes,
inside one library call ("scan bomb"): measured 45 ms a scan at 49 megapixels."""

MAX_SCANNED_PIXELS = 1_500_000_000
"""Scans x pixels, about 1.5 seconds: 30 scans of a 50-megapixel image."""


def read_jpeg(data: bytes) -> ImageHeader:
    """Read a JPEG's markers up to its end.

    Args:
        data: the whole file, starting with the JPEG signature.

    Raises:
        ImageCorrupt: no frame header, cut short, more than one frame header, or absurdly many segments or scans.
        UnsupportedImage: a sample precision other than 8 bits, or other than 1, 3 or 4 components.
    """
    frame: _Frame | None = None
    dropped: list[tuple[int, int]] = []
    profile: list[tuple[int, int]] = []
    orientation, scans, at = 0, 0, 2
    for marker, body, end in _segments(data):
        if not scans:
            odd = _LAST_ODD.match(data, at, body - 4)
            dropped.append(
                (odd.end() if odd else at, end if _is_metadata(marker, data[body : min(end, body + 16)]) else body - 4)
            )
            at = end
        if marker in _FRAMES:
            if frame is not None:
                raise ImageCorrupt("This JPEG has more than one frame header; send one image.")
            frame = _read_frame(data[body:end], progressive=marker in _PROGRESSIVE)
        elif marker == _SOS:
            scans += 1
        elif marker == _APP1 and not scans and not orientation and data.startswith(b"Exif\0\0", body):
            orientation = read_orientation(data[body + 6 : end])
        elif marker == _APP2 and not scans and data.startswith(_PROFILE, body) and end - body > len(_PROFILE) + 1:
            profile.append((body, end))
        if scans > MAX_SCANS or (frame and scans * frame.width * frame.height > MAX_SCANNED_PIXELS and scans > 1):
            raise ImageCorrupt(f"This JPEG has {scans} scans or more, too many for its size; save it again as usual.")
    if frame is None or not scans:
        raise ImageCorrupt(_CUT)
    return ImageHeader(
        format="jpeg",
        width=frame.width,
        height=frame.height,
        orientation=orientation or 1,
        bytes_per_pixel=_bytes_per_pixel(frame, scans=scans, turned=orientation > 1),
        keep=all_but(dropped, len(data)),
        coefficient_bytes=_coefficient_bytes(frame, scans),
        color=_color(data, profile),
    )


def _color(data: bytes, segments: list[tuple[int, int]]) -> Color | None:
    """Return the profile that is spread over segments (ICC.1:2022, B.4), and what it is like; None without a whole one.

    Each begins with its number and how many there are; as in libjpeg, all have to be there once.
    """
    found = {data[body + len(_PROFILE)]: (body + len(_PROFILE) + 2, end) for body, end in segments}
    totals = {data[body + len(_PROFILE) + 1] for body, _ in segments}
    if not segments or totals != {len(segments)} or found.keys() != set(range(1, len(segments) + 1)):
        return None
    color = Color(profile=tuple(found[number] for number in sorted(found)))
    if color.profile_bytes > _MOST_LOOKED_INTO:
        return color
    kind = kind_of_profile(read_profile(data, color))
    return None if kind == "srgb" else replace(color, kind=kind)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame header: sides in pixels, and samples of all components per pixel, subsampling considered."""

    width: int
    height: int
    progressive: bool
    components: int
    samples_per_pixel: float


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, body start, end) of each segment between start and end of the image.

    Raises:
        ImageCorrupt: there is no end marker, or absurdly many segments before it.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            raise ImageCorrupt(_CUT)
        marker, body = data[found.end() - 1], found.end()
        if marker == _EOI:
            return
        if marker == _SOI:
            at = body
            continue
        at = body + max(2, int.from_bytes(data[body : body + 2], "big"))
        if at > len(data):
            raise ImageCorrupt(_CUT)
        yield marker, body + 2, at
    raise ImageCorrupt(f"This JPEG has more than {MAX_SEGMENTS} segments; save it again with a common encoder.")


def _is_metadata(marker: int, body: bytes) -> bool:
    """Return whether a segment decides no pixel; of its body the first bytes are enough."""
    start, least = _DECIDING.get(marker, (b"", 0))
    return marker in _METADATA and not (start and body.startswith(start) and len(body) >= least)


def _read_frame(body: bytes, *, progressive: bool) -> _Frame:
    """Read a frame header (T.81 B.2.2)."""
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:  # noqa: PLR2004
        raise ImageCorrupt("This JPEG's frame header is broken; send the complete file.")
    if body[0] != 8:  # noqa: PLR2004
        raise UnsupportedImage(f"This JPEG has {body[0]} bits a sample; JPEG with 8 bits is accepted.")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if not width or not height:
        raise ImageCorrupt("This JPEG says that it is empty: its width or height is zero.")
    components = body[5]
    if components not in {1, 3, 4}:
        raise UnsupportedImage(f"This JPEG has {components} colour components; 1, 3 or 4 are accepted.")
    factors = [(body[7 + 3 * index] >> 4, body[7 + 3 * index] & 15) for index in range(components)]
    if any(not 1 <= factor <= 4 for pair in factors for factor in pair):  # noqa: PLR2004
        raise ImageCorrupt("This JPEG's sampling factors are out of range; send the complete file.")
    widest, tallest = max(h for h, _ in factors), max(v for _, v in factors)
    share = sum(h * v for h, v in factors) / (widest * tallest)
    return _Frame(width, height, progressive, components, share)


def _bytes_per_pixel(frame: _Frame, *, scans: int, turned: bool) -> float:
    """Estimate the peak memory of decoding, in bytes per pixel.

    Pillow stores grey in 1 byte, RGB and CMYK in 4; a conversion or a turn needs the result beside its source, and that
    of CMYK an inverted copy too (measured: 9.9 bytes a pixel).
    """
    stored = 1 if frame.components == 1 else 4
    converted = {1: 4, 3: 0, 4: 6}[frame.components]
    return stored + _coefficient_bytes(frame, scans) + max(converted, 4 if turned else 0)


def _coefficient_bytes(frame: _Frame, scans: int) -> float:
    """Return the bytes a pixel that libjpeg holds of all coefficients: with several scans, 2 bytes a sample."""
    return 2 * frame.samples_per_pixel if frame.progressive or scans > 1 else 0.0
