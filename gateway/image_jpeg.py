"""JPEG (ITU-T T.81): size, orientation, memory and the segments that decide pixels, from its markers.

Only those segments are kept for the decoder. EXIF, XMP, ICC, Photoshop blocks, comments and the MPO index never reach
a parser, and neither does anything behind the end-of-image marker. So an **MPO** (two or more JPEGs in a row) is its
first picture, as every browser shows it.
"""

from __future__ import annotations

import re

from gateway.errors import ImageCorrupt, UnsupportedImage
from gateway.image_exif import read_orientation
from gateway.image_header import ImageHeader

_SOI, _EOI, _SOS, _APP0, _APP1, _APP14, _APP15, _COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0-15 without DHT, JPG and DAC: T.81 table B.1
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and RST0-7 have no length

_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""A marker inside or behind entropy-coded data: there 0xFF is stuffed with 0x00 or starts a restart marker (T.81 B.1)."""

MAX_SEGMENTS = 4096
"""An ICC profile or extended XMP needs hundreds; hundreds of thousands are an attack on parsers."""

MAX_SCANS = 100
"""Encoders write about 10. Each scan of a progressive JPEG costs a pass over all coefficients for a few dozen bytes,
inside one library call: the same ceiling as in libvips (CVE-class "scan bomb", libjpeg-turbo's LJT-01-004)."""


def read_jpeg(data: bytes) -> ImageHeader:
    """Read a JPEG's markers up to its end.

    Args:
        data: the whole file, starting with the JPEG signature.

    Raises:
        ImageCorrupt: no frame header, cut short, more than one frame header, or absurdly many segments or scans.
        UnsupportedImage: a sample precision other than 8 bits.
    """
    size: tuple[int, int] | None = None
    keep: list[tuple[int, int]] = [(0, 2)]
    orientation, coefficients, components, scans, progressive = 0, 0.0, 0, 0, False
    at = 2
    for _ in range(MAX_SEGMENTS):
        found = _NEXT_MARKER.search(data, at)
        if found is None:
            break
        marker, start = data[found.end() - 1], found.end() - 2
        at = found.end()
        if marker == _EOI:
            if size is None or not scans:
                break
            keep.append((start, at))
            return ImageHeader(
                format="jpeg",
                width=size[0],
                height=size[1],
                frames=1,
                orientation=orientation or 1,
                # Several scans, progressive or not, make libjpeg hold the coefficients of the whole picture.
                bytes_per_pixel=_bytes_per_pixel(components, turned=orientation > 1)
                + (coefficients if progressive or scans > 1 else 0),
                keep=tuple(keep),
            )
        if marker in _STANDALONE or marker == _SOI:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        end = at + length
        if length < 2 or end > len(data):  # noqa: PLR2004
            break
        body = data[at + 2 : end]
        if marker in _FRAMES:
            if size is not None:
                raise ImageCorrupt("This JPEG has more than one frame header; send one picture.")
            size, components, coefficients = _read_frame(body)
            progressive = marker in _PROGRESSIVE
        elif marker == _APP1 and not orientation and body.startswith(b"Exif\0\0"):
            orientation = read_orientation(body)
        if marker == _SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise ImageCorrupt(f"This JPEG has more than {MAX_SCANS} scans; save it again with a common encoder.")
            # Entropy-coded data runs up to the next marker that is no restart.
            following = _NEXT_MARKER.search(data, end)
            end = following.start() if following else len(data)
        if marker in {_APP0, _APP14} or not (_APP1 <= marker <= _APP15 or marker == _COM):
            keep.append((start, end))
        at = end
    else:
        raise ImageCorrupt(f"This JPEG has more than {MAX_SEGMENTS} segments; save it again with a common encoder.")
    raise ImageCorrupt("This JPEG is cut short or its markers are broken; send the complete file.")


def _read_frame(body: bytes) -> tuple[tuple[int, int], int, float]:
    """Return ((width, height), components, coefficient bytes per pixel) of a frame header (T.81 B.2.2)."""
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
    return (width, height), components, 2 * share


def _bytes_per_pixel(components: int, *, turned: bool) -> float:
    """Pillow stores grey in 1 byte, RGB and CMYK in 4; a conversion or a turn needs the result beside the source."""
    stored = 1 if components == 1 else 4
    converted = 4 if components != 3 or turned else 0  # noqa: PLR2004
    return stored + converted + (4 if turned and components != 3 else 0)  # noqa: PLR2004
