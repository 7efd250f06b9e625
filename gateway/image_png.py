"""PNG and APNG (W3C PNG, third edition): size, frames, orientation and memory, from its chunks.

Whole ancillary chunks that decide no pixel (texts, profiles, times, unknown ones) are not given to the decoder, so that
a large or a broken one is no reason to refuse the picture; all else reaches it as it stands in the file.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

from PIL import Image, ImageFile

from gateway.errors import ImageCorrupt
from gateway.image_exif import read_orientation
from gateway.image_header import ImageHeader, all_but

_BEHIND_IHDR = 33  # signature (8), length and type (8), IHDR (13), checksum (4)
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
"""Bit depths allowed for each colour type (PNG section 11.2.1)."""
_DECIDING = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
"""Ancillary chunks that decide pixels: transparency, and the frames of an animation."""
_DATA = frozenset({b"IDAT", b"fdAT"})

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
    controls, has_key, orientation, end = 0, False, 0, 0
    controls_before_data: int | None = None
    dropped: list[tuple[int, int]] = []
    last, dropped_before_last = b"IHDR", 0
    for kind, body, stop in _chunks(data):
        end = stop + 4
        if kind == b"IDAT" and controls_before_data is None:
            controls_before_data = controls
        elif kind == b"acTL" and controls_before_data is None:
            if announced is not None or stop - body < 8:  # noqa: PLR2004
                raise ImageCorrupt("This animated PNG's animation header is broken; send the complete file.")
            announced = int.from_bytes(data[body : body + 4], "big")
        elif kind == b"fcTL":
            controls += 1
        elif kind == b"tRNS":
            has_key = True
        elif kind == b"eXIf" and not orientation and _is_intact(data, body, stop):
            orientation = read_orientation(data[body:stop])
        # A name that is not of letters ends the picture for decoders, so such a chunk is theirs to see.
        if kind.isalpha() and kind[0] & 0x20 and kind not in _DECIDING:  # PNG 5.4: the bit says "ancillary"
            dropped.append((body - 8, end))
            continue
        if {kind, last} <= _DATA:
            # What parts data ends it for decoders (PNG 5.6: IDAT chunks stand in a row), and must go on doing so.
            del dropped[dropped_before_last:]
        last, dropped_before_last = kind, len(dropped)
    if controls_before_data is None:
        raise ImageCorrupt("This PNG has no image data; send the complete file.")
    frames = 1
    if announced is not None:
        # Counted, not believed: a decoder follows the announcement, a viewer may follow the frames.
        if not announced or announced != controls:
            raise ImageCorrupt(f"This animated PNG announces {announced} frames and holds {controls}.")
        # Image data that no frame control precedes is a still of its own, shown by viewers without animation.
        frames = announced + (0 if controls_before_data else 1)
    return ImageHeader(
        format="png",
        width=width,
        height=height,
        frames=frames,
        orientation=orientation or 1,
        bytes_per_pixel=_bytes_per_pixel(colour, depth, has_key=has_key, turned=orientation > 1, moving=frames > 1),
        keep=all_but(dropped, end),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, body start, body end) of each chunk behind IHDR, IEND the last.

    Raises:
        ImageCorrupt: the file ends before IEND, or there are absurdly many chunks before it.
    """
    at = _BEHIND_IHDR
    for _ in range(MAX_CHUNKS):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        stop = at + 8 + length
        if stop + 4 > len(data):
            raise ImageCorrupt("This PNG is cut short or its chunks are broken; send the complete file.")
        yield kind, at + 8, stop
        if kind == b"IEND":
            return
        at = stop + 4
    raise ImageCorrupt(f"This PNG has more than {MAX_CHUNKS:,} chunks; save it again with a common encoder.")


def _is_intact(data: bytes, body: int, stop: int) -> bool:
    """Return whether a chunk's checksum is right: viewers leave an ancillary chunk out of account where it is not."""
    return zlib.crc32(data[body - 4 : stop]) == int.from_bytes(data[stop : stop + 4], "big")


def _bytes_per_pixel(colour: int, depth: int, *, has_key: bool, turned: bool, moving: bool) -> int:
    """Estimate the peak memory of decoding, in bytes per pixel.

    Pillow stores colour and alpha in 4 bytes, 16-bit grey in 2, all else in 1. A conversion needs its result (4), and
    with transparency RGBA (4) and a mask (1) on the way; a turn its result; an animation its last frames and copies.
    """
    stored = 4 if colour in {2, 4, 6} else 2 if depth == 16 else 1  # noqa: PLR2004
    converted = 0 if colour == 2 else 4  # noqa: PLR2004
    if has_key or colour in {4, 6}:
        converted = 5 if colour == 6 else 9  # noqa: PLR2004
    if colour == 0 and depth == 16:  # noqa: PLR2004
        converted += 5  # the samples as an array, their high bytes
    return stored + max(converted, 8 if turned else 0) + (12 if moving else 0)


def _read_ihdr(data: bytes) -> tuple[int, int, int, int]:
    """Return (width, height, colour type, bit depth) of the first chunk, its checksum verified."""
    if len(data) < _BEHIND_IHDR or data[8:16] != b"\0\0\0\x0dIHDR" or not _is_intact(data, 16, 29):
        raise ImageCorrupt("This PNG's header is broken; send the complete file.")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    depth, colour = data[24], data[25]
    if not width or not height:
        raise ImageCorrupt("This PNG says that it is empty: its width or height is zero.")
    if depth not in _DEPTHS.get(colour, ()) or data[26] or data[27] or data[28] > 1:
        raise ImageCorrupt("This PNG's header asks for a colour type or method that PNG does not have.")
    return width, height, colour, depth


def load_all_rows(picture: ImageFile.ImageFile) -> None:
    """Decode a still PNG, and notice when its data ends before its last row.

    Pillow takes a complete but too short stream for a finished picture. So the canvas gets two random last rows first
    (two, since an interlaced picture writes odd and even rows in different passes): where one of them survives, no
    pixel was ever written there.

    Raises:
        ImageCorrupt: rows are missing.
    """
    width, height = picture.size
    if height < 2:  # noqa: PLR2004
        picture.load()
        return
    canvas = Image.new(picture.mode, picture.size)
    noise = Image.frombytes(picture.mode, (width, 2), os.urandom(len(canvas.crop((0, 0, width, 2)).tobytes())))
    canvas.paste(noise, (0, height - 2))
    picture.im = canvas.im
    picture.load()
    for row in (0, 1):
        written = picture.crop((0, height - 2 + row, width, height - 1 + row))
        if written.tobytes() == noise.crop((0, row, width, row + 1)).tobytes():
            raise ImageCorrupt("This PNG's data ends before its last row; send the complete file.")
