"""What an image's bytes say about it before anything is decoded: the value, and the signatures.

A signature is where a format begins, never a file name or a Content-Type (both are the sender's claim).
Each format's own reader stands in ``jpeg.py``, ``png.py``, ``webp.py``, ``gif.py``,
``avif.py`` and ``heic.py``; ``registry.py`` picks one, ``decode.inspect`` applies the limits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

ImageFormat = Literal["jpeg", "png", "webp", "gif", "avif", "heic"]
Formats = frozenset[ImageFormat]

ALWAYS_ACCEPTED: Final[Formats] = frozenset({"jpeg", "png", "webp", "gif", "avif"})
"""The allow-list without what has to be switched on."""

UNPROVEN: Final[Formats] = frozenset({"avif", "heic"})
"""Those whose container may state another size than what it holds, so that they need a decoder with limits of memory
and time: a process of its own."""

_IN_WORDS: Final[dict[ImageFormat, str]] = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WebP",
    "gif": "GIF",
    "avif": "AVIF",
    "heic": "HEIC",
}
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
"""ISO/IEC 23008-12, 10.2 and B.4. ``mif1`` may hold other codecs, and ``hevc`` sequences."""

SIGNATURE_BYTES = 64
"""Bytes from the start that :func:`sniff` needs at most (an AVIF lists its compatible brands behind byte 16)."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """An image as its header describes it; nothing has been decoded.

    Attributes:
        format: by content.
        width: pixels as stored, before the EXIF orientation; for a GIF the canvas that is shown.
        height: pixels as stored.
        bytes_per_pixel: estimate of the peak memory of decoding and converting one frame, per stored pixel; see
            ``decode_bytes``.
        coefficient_bytes: of those, what decoding at a fraction of the size takes all the same.
        keep: byte ranges [start, end) that the decoder is given, in order: all but whole metadata segments before a
            JPEG's first scan, and whole chunks of a PNG that decide no pixel. Those never reach a parser.
        frames: images in the file: 1 for a still, more for an animation.
        orientation: EXIF orientation 1 to 8; 1 where there is none or it cannot be read.
        decoded_pixels: pixels that the decoder allocates for a frame, where it may be more than the frame shows.
        durations_ms: how long browsers show each frame of an animation; 0 for an image that is no part of it.
    """

    format: ImageFormat
    width: int
    height: int
    bytes_per_pixel: float
    keep: tuple[tuple[int, int], ...]
    frames: int = 1
    orientation: int = 1
    decoded_pixels: int = 0
    coefficient_bytes: float = 0.0
    durations_ms: tuple[int, ...] = ()

    @property
    def pixels(self) -> int:
        """Pixels of one frame as it is decoded."""
        return max(self.width * self.height, self.decoded_pixels)

    @property
    def oriented_size(self) -> tuple[int, int]:
        """(width, height) once the EXIF orientation is applied: 5 to 8 swap the sides."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)  # noqa: PLR2004

    def decode_bytes(self, factor: int = 1) -> int:
        """Estimate the peak memory in bytes of decoding one frame to RGB and cutting it, the file included.

        Args:
            factor: a JPEG is decoded at one of so many pixels, each way.
        """
        file_bytes = 2 * sum(end - start for start, end in self.keep)
        held = self.coefficient_bytes
        # An image and a crop of nearly all of it are held while views are cut, whatever decoding took.
        pixel_bytes = max(self.bytes_per_pixel, 8) if factor == 1 else held + max(self.bytes_per_pixel, 8) / factor**2
        return int(self.pixels * pixel_bytes) + file_bytes + (1 << 20)

    def decodable(self, data: bytes) -> bytes:
        """Return the part of ``data`` that the decoder is given; ``data`` itself where that is all of it."""
        return b"".join([data[start:end] for start, end in self.keep])


def all_but(dropped: Iterable[tuple[int, int]], end: int) -> tuple[tuple[int, int], ...]:
    """Return the byte ranges [start, end) from 0 to ``end`` that lie in none of those dropped, which are in order."""
    edges = [0, *(edge for start, stop in dropped if start < stop for edge in (start, stop)), end]
    return tuple((start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop)


def shown_ms(stated_ms: float) -> int:
    """Return how long browsers show a frame: one that states 10 ms or less for 100 (Chromium and Firefox alike)."""
    return round(stated_ms) if stated_ms > 10 else 100  # noqa: PLR2004


def accepted_words(formats: Formats) -> str:
    """Return an allow-list in words, for error details: one of these is to be sent."""
    *first, last = (words for name, words in _IN_WORDS.items() if name in formats)
    return f"{', '.join(first)} or {last}" if first else last


def sniff(data: bytes) -> ImageFormat | None:
    """Return the format by signature, or None when it is none of those known.

    Args:
        data: at least the first ``SIGNATURE_BYTES`` bytes of the file, or all of a shorter one.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        # ISO/IEC 14496-12, 4.3: size, "ftyp", major brand, minor version, compatible brands of 4 bytes each. A HEIC
        # says "mif1" too, so one of AVIF's own brands has to be there.
        end = min(int.from_bytes(data[:4], "big"), len(data))
        brands = {data[8:12]} | {data[at : at + 4] for at in range(16, end - 3, 4)}
        if brands & {b"avif", b"avis"}:
            return "avif"
        if brands & _HEIC_BRANDS:
            return "heic"
    return None
