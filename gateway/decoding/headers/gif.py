"""GIF (GIF89a specification, CompuServe 1990): canvas and number of frames, from its blocks."""

from __future__ import annotations

import re
import struct

from gateway.decoding.headers.header import ImageHeader, shown_ms
from gateway.errors import ImageCorrupt

_CUT = "This GIF is cut short or its blocks are broken; send the complete file."
_EXTENSION, _IMAGE, _TRAILER, _CONTROL, _COMMENT = 0x21, 0x2C, 0x3B, 0xF9, 0xFE
_TRANSPARENT, _DISPOSAL, _TO_BACKGROUND = 0b1, 0b11100, 0b01000  # GIF89a 23
"""Flags of a frame's control: it has a transparent colour; what becomes of it, here that it is cleared."""

_BLOCK = re.compile(rb"[!,;]")
"""What starts a block; anything else between blocks is skipped, as decoders do."""

MAX_BLOCKS = 20_000
"""500 frames come with about 1,000 extensions; millions are an attack on parsers."""


def read_gif(data: bytes, *, max_frames: int) -> ImageHeader:
    """Walk a GIF's blocks up to its trailer, or until there are more frames than anyone will decode.

    Args:
        data: the whole file, starting with the GIF signature.
        max_frames: the walk stops behind this many frames; ``frames`` is then ``max_frames + 1``.

    Raises:
        ImageCorrupt: no frame, an empty frame, cut short, or absurdly many blocks.
    """
    if len(data) < 13:  # noqa: PLR2004
        raise ImageCorrupt(_CUT)
    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    at = 13 + _colour_table_bytes(data[10])
    frames = blocks = delay_ms = 0
    flags = 0  # of the control before a frame
    bare = cleared = False  # the first frame leaves parts open; a frame clears what it drew, with another behind it
    transparent = False
    durations_ms: list[int] = []
    decoded = (width, height)
    while frames <= max_frames and (found := _BLOCK.search(data, at)):
        blocks += 1
        if blocks > MAX_BLOCKS:
            raise ImageCorrupt(f"This GIF has more than {MAX_BLOCKS:,} blocks; save it again with a common encoder.")
        kind, at = data[found.start()], found.end()
        if kind == _TRAILER:
            break
        if kind == _IMAGE:
            right, bottom = _read_extent(data, at)
            # Pillow grows the canvas, which may be 0 x 0, to hold any frame that extends beyond it; browsers do for the
            # first one alone.
            decoded = (max(decoded[0], right), max(decoded[1], bottom))
            if not frames:
                width, height = decoded
                bare = bool(flags & _TRANSPARENT) or data[at : at + 4] != bytes(4) or (right, bottom) != decoded
            transparent = bare or cleared
            cleared |= flags & _DISPOSAL == _TO_BACKGROUND
            flags = 0
            at = _skip_sub_blocks(data, at + 9 + _colour_table_bytes(data[at + 8]) + 1)
            frames += 1
            durations_ms.append(shown_ms(delay_ms))
            delay_ms = 0
        elif kind == _EXTENSION:
            if at + 1 >= len(data) or (not data[at + 1] and data[at] != _COMMENT):
                raise ImageCorrupt(_CUT)
            if data[at] == _CONTROL:  # GIF89a 23: flags, then the delay in hundredths of a second
                flags = int.from_bytes(data[at + 2 : at + 3], "little")
                delay_ms = 10 * int.from_bytes(data[at + 3 : at + 5], "little")
            at = _skip_sub_blocks(data, at + 1)
    if not frames:
        raise ImageCorrupt("This GIF holds no frame; send the complete file.")
    return ImageHeader(
        format="gif",
        width=width,
        height=height,
        frames=frames,
        # Indices (1), canvas of the frame before (4), converted frame (4), disposal copy (4), composed result (8).
        bytes_per_pixel=21 if frames > 1 else 10,
        keep=((0, len(data)),),
        decoded_pixels=decoded[0] * decoded[1],
        durations_ms=tuple(durations_ms) if frames > 1 else (),
        transparent=transparent,
    )


def _read_extent(data: bytes, at: int) -> tuple[int, int]:
    """Return (right, bottom) of a frame from its image descriptor (GIF89a 20)."""
    if at + 9 >= len(data):
        raise ImageCorrupt(_CUT)
    left, top, width, height = struct.unpack_from("<4H", data, at)
    if not width or not height:
        raise ImageCorrupt("This GIF has a frame whose width or height is zero.")
    return left + width, top + height


def _colour_table_bytes(flags: int) -> int:
    """Bytes of the colour table that a packed field announces (GIF89a 18.c.iv)."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_sub_blocks(data: bytes, at: int) -> int:
    """Return the offset behind a run of sub-blocks and its terminator."""
    try:
        while size := data[at]:
            at += size + 1
    except IndexError:
        raise ImageCorrupt(_CUT) from None
    return at + 1
