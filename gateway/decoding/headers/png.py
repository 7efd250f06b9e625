"""PNG and APNG (W3C PNG, third edition): size, frames, orientation and memory, from its chunks.

Whole ancillary chunks that decide no pixel (texts, profiles, times, unknown ones) are not given to the decoder, so that
a large or a broken one is no reason to refuse the image. Neither are a transparency, frames and data that libpng, and
so viewers, leave out of account where they stand: Pillow would make another image of them. All else reaches it as it
stands in the file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from gateway.decoding.headers.exif import read_orientation
from gateway.decoding.headers.header import ImageHeader, all_but, shown_ms
from gateway.errors import ImageCorrupt, UnsupportedImage

_BEHIND_IHDR = 33  # signature (8), length and type (8), IHDR (13), checksum (4)
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
"""Bit depths allowed for each colour type (PNG section 11.2.1)."""
_DATA = frozenset({b"IDAT", b"fdAT"})

MAX_CHUNKS = 250_000
"""A 10 MB PNG of 8 KB chunks has 1,300."""


def read_png(data: bytes) -> ImageHeader:
    """Walk a PNG's chunks from IHDR to IEND.

    Args:
        data: the whole file, starting with the PNG signature.

    Raises:
        ImageCorrupt: a broken IHDR, a chunk that runs over the end, no IDAT, no IEND, or an animation whose first frame
            is smaller than the image, or whose frame count is zero or not the number of its frames.
        UnsupportedImage: an animation with a transparent colour of 16 bits.
    """
    width, height, colour, depth = _read_ihdr(data)
    announced: int | None = None
    controls, has_key, orientation, end, entries = 0, False, 0, 0, 0
    controls_before_data: int | None = None
    dropped: list[tuple[int, int]] = []
    durations_ms: list[int] = []
    last, parted = b"IHDR", False
    for kind, body, stop in _chunks(data):
        end = stop + 4
        kept = not _is_ancillary(kind) or (kind in {b"fcTL", b"fdAT"} and announced is not None)
        if {kind, last} <= _DATA and (parted or kind != last):
            kept = False  # PNG 5.6: data stands in a row; decoders stop where it does not
        if kind == b"IDAT" and controls_before_data is None:
            controls_before_data = controls
        elif kind == b"acTL" and controls_before_data is None:
            if announced is not None or stop - body < 8:  # noqa: PLR2004
                raise ImageCorrupt("This animated PNG's animation header is broken; send the complete file.")
            kept, announced = True, int.from_bytes(data[body : body + 4], "big")
        elif kind == b"fcTL" and kept:
            controls += 1
            numerator, denominator = (int.from_bytes(data[at : at + 2], "big") for at in (body + 20, body + 22))
            durations_ms.append(shown_ms(1000 * numerator / (denominator or 100)))
            if controls_before_data is None and data[body + 4 : body + 20] != data[16:24] + bytes(8):
                raise ImageCorrupt("This animated PNG's first frame is not as large as the image; save it again.")
        elif kind == b"PLTE" and not entries:
            entries = min((stop - body) // 3, 1 << depth)
        elif kind == b"tRNS" and not has_key and controls_before_data is None and _is_intact(data, body, stop):
            kept = has_key = _is_transparency(colour, entries, stop - body)
        elif kind == b"eXIf" and not orientation and controls_before_data is None and _is_intact(data, body, stop):
            orientation = read_orientation(data[body:stop])
        if kept:
            last, parted = kind, False
        else:
            dropped.append((body - 8, end))
            parted = True
    if controls_before_data is None:
        raise ImageCorrupt("This PNG has no image data; send the complete file.")
    if announced is not None and has_key and (colour, depth) == (2, 16):
        raise UnsupportedImage("Animated PNGs with a transparent colour of 16 bits are not read; save it with 8 bits.")
    frames = 1 if announced is None else _count_frames(announced, controls, controls_before_data)
    return ImageHeader(
        format="png",
        width=width,
        height=height,
        frames=frames,
        orientation=orientation or 1,
        bytes_per_pixel=_bytes_per_pixel(colour, depth, has_key=has_key, turned=orientation > 1, moving=frames > 1),
        keep=all_but(dropped, end),
        durations_ms=(*[0] * (frames - controls), *durations_ms) if frames > 1 else (),
    )


def _count_frames(announced: int, controls: int, controls_before_data: int) -> int:
    """Count an animation's frames, not believing it: a decoder follows the announcement, a viewer may follow them.

    Raises:
        ImageCorrupt: they are not as many as announced, or none.
    """
    if not announced or announced != controls:
        raise ImageCorrupt(f"This animated PNG announces {announced} frames and holds {controls}.")
    # Image data that no frame control precedes is a still of its own, shown by viewers without animation.
    return announced + (0 if controls_before_data else 1)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, body start, body end) of each chunk behind IHDR, up to IEND or metadata that runs over the end.

    Raises:
        ImageCorrupt: the file ends before IEND, or there are absurdly many chunks before it.
    """
    at = _BEHIND_IHDR
    for _ in range(MAX_CHUNKS):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        stop = at + 8 + length
        if stop + 4 > len(data) and len(kind) == 4 and _is_ancillary(kind) and kind not in {b"fcTL", b"fdAT"}:  # noqa: PLR2004
            return  # whether there was a whole image before it is seen elsewhere
        if stop + 4 > len(data):
            raise ImageCorrupt("This PNG is cut short or its chunks are broken; send the complete file.")
        yield kind, at + 8, stop
        if kind == b"IEND":
            return
        at = stop + 4
    raise ImageCorrupt(f"This PNG has more than {MAX_CHUNKS:,} chunks; save it again with a common encoder.")


def _is_ancillary(kind: bytes) -> bool:
    """Return whether a chunk may be left out (PNG 5.4); a name that is not of letters ends the image for decoders."""
    return kind.isalpha() and bool(kind[0] & 0x20)


def _is_transparency(colour: int, entries: int, length: int) -> bool:
    """Return whether a tRNS of so many bytes fits the colour type, and the palette if there is one (PNG 11.3.1.1)."""
    return 0 < length <= entries if colour == 3 else length == {0: 2, 2: 6}.get(colour)  # noqa: PLR2004


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
    if colour == 2 and depth == 16 and has_key:  # noqa: PLR2004
        converted += 4  # the samples' low bytes, decoded for themselves
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
