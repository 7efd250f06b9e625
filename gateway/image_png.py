"""PNG and APNG (W3C PNG, third edition): size, frames, orientation and memory, from its chunks."""

from __future__ import annotations

import zlib

from gateway.errors import ImageCorrupt
from gateway.image_exif import read_orientation
from gateway.image_header import ImageHeader

_CUT = "This PNG is cut short or its chunks are broken; send the complete file."
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
"""Bit depths allowed for each colour type (PNG section 11.2.1)."""

MAX_CHUNKS = 250_000
"""A 10 MB PNG of 8 KB chunks has 1,300."""


def read_png(data: bytes) -> ImageHeader:
    """Walk a PNG's chunks from IHDR to IEND.

    Args:
        data: the whole file, starting with the PNG signature.

    Raises:
        ImageCorrupt: a broken IHDR, a chunk that runs over the end, no IDAT, no IEND, or an animation whose frame
            count is zero or not the number of its frames.
    """
    width, height, colour, depth = _read_ihdr(data)
    announced: int | None = None
    controls, has_default, seen_data, has_key, orientation = 0, False, False, False, 1
    at, view = 33, memoryview(data)  # behind signature (8) and IHDR (4 + 4 + 13 + 4)
    for _ in range(MAX_CHUNKS):
        length, kind = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        end = at + 12 + length
        if end > len(data) or length > 0x7FFFFFFF:  # noqa: PLR2004
            raise ImageCorrupt(_CUT)
        if kind == b"IDAT":
            if not seen_data and announced is not None and not controls:
                has_default = True
            seen_data = True
        elif kind == b"acTL" and not seen_data:
            if announced is not None or length < 8:  # noqa: PLR2004
                raise ImageCorrupt("This animated PNG's animation header is broken; send the complete file.")
            announced = int.from_bytes(view[at + 8 : at + 12], "big")
        elif kind == b"fcTL":
            controls += 1
        elif kind == b"tRNS":
            has_key = True
        elif kind == b"eXIf" and orientation == 1:
            orientation = read_orientation(bytes(view[at + 8 : end - 4]))
        elif kind == b"IEND":
            break
        at = end
    else:
        raise ImageCorrupt(f"This PNG has more than {MAX_CHUNKS:,} chunks; save it again with a common encoder.")
    if not seen_data:
        raise ImageCorrupt("This PNG has no image data; send the complete file.")
    frames = 1
    if announced is not None:
        # Counted, not believed: a decoder follows the announcement, a viewer may follow the frames.
        if not announced or announced != controls:
            raise ImageCorrupt(f"This animated PNG announces {announced} frames and holds {controls}.")
        frames = announced + has_default
    stored = 4 if colour in {2, 4, 6} else 2 if depth == 16 else 1  # noqa: PLR2004
    see_through = has_key or colour in {4, 6}
    converted = (8 if stored != 4 or has_key else 4) + 1 if see_through else 4 if colour != 2 else 0  # noqa: PLR2004
    wide_grey = 6 if colour == 0 and depth == 16 else 0  # noqa: PLR2004
    return ImageHeader(
        format="png",
        width=width,
        height=height,
        frames=frames,
        orientation=orientation,
        bytes_per_pixel=stored + converted + wide_grey + (4 if orientation > 1 else 0) + (12 if frames > 1 else 0),
        keep=((0, at + 12 + length),),
    )


def _read_ihdr(data: bytes) -> tuple[int, int, int, int]:
    """Return (width, height, colour type, bit depth) of the first chunk, its checksum verified."""
    if (
        len(data) < 33
        or data[8:16] != b"\0\0\0\x0dIHDR"
        or zlib.crc32(data[12:29]) != int.from_bytes(data[29:33], "big")
    ):  # noqa: PLR2004, E501
        raise ImageCorrupt("This PNG's header is broken; send the complete file.")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    depth, colour = data[24], data[25]
    if not width or not height:
        raise ImageCorrupt("This PNG says that it is empty: its width or height is zero.")
    if depth not in _DEPTHS.get(colour, ()) or data[26] or data[27] or data[28] > 1:
        raise ImageCorrupt("This PNG's header asks for a colour type or method that PNG does not have.")
    return width, height, colour, depth
