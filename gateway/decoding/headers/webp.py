"""WebP (RFC 9649): canvas, number of frames and orientation, from its RIFF chunks."""

from __future__ import annotations

from gateway.decoding.headers.exif import read_orientation
from gateway.decoding.headers.header import ImageHeader, shown_ms
from gateway.errors import ImageCorrupt

_CUT = "This WebP is cut short or its chunks are broken; send the complete file."
_FIRST_CHUNK = 12  # elsewhere a VP8X is an unknown chunk, which decoders pass over
_ANIMATION, _EXIF = 0x02, 0x08  # flags of VP8X, RFC 9649 section 2.7

_LEAST_BYTES = {b"VP8X": 10, b"ANMF": 16}
"""What headers of fixed form take (sections 2.7 and 2.7.1.1): decoders read that much, whatever length is stated."""

MAX_CHUNKS = 20_000
"""A file of 500 frames has about as many chunks, and four more."""


def read_webp(data: bytes, *, max_frames: int) -> ImageHeader:
    """Walk a WebP's chunks.

    Args:
        data: the whole file, starting with ``RIFF....WEBP``.
        max_frames: the walk stops behind this many frames; ``frames`` is then ``max_frames + 1``.

    Raises:
        ImageCorrupt: cut short, no image in it, or absurdly many chunks.
    """
    total = 8 + int.from_bytes(data[4:8], "little")
    if total > len(data) + 1:  # an odd last chunk may come without its padding byte
        raise ImageCorrupt(_CUT)
    total = min(total, len(data))
    width = height = frames = images = 0
    flags, orientation, at = 0, 0, _FIRST_CHUNK
    durations_ms: list[int] = []
    for _ in range(MAX_CHUNKS):
        if at + 8 > total or frames > max_frames:
            break
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body, end = at + 8, at + 8 + length
        if end > total or length < _LEAST_BYTES.get(kind, 0):
            raise ImageCorrupt(_CUT)
        size = (0, 0)
        if kind == b"VP8X" and at == _FIRST_CHUNK:
            flags = data[body]
            size = (_u24(data, body + 4) + 1, _u24(data, body + 7) + 1)
        elif kind == b"ANMF":
            frames += 1
            durations_ms.append(shown_ms(_u24(data, body + 12)))
            left, top = 2 * _u24(data, body), 2 * _u24(data, body + 3)
            size = (left + _u24(data, body + 6) + 1, top + _u24(data, body + 9) + 1)
            inner = _bitstream_size(data, body + 16, end)
            size = (max(size[0], inner[0]), max(size[1], inner[1]))
        elif kind in {b"VP8 ", b"VP8L"}:
            images += 1
            size = _bitstream_size(data, at, end)
        elif kind == b"EXIF" and not orientation:
            orientation = read_orientation(data[body:end].removeprefix(b"Exif\0\0"))
        width, height = max(width, size[0]), max(height, size[1])
        at = end + (length & 1)
    else:
        raise ImageCorrupt(f"This WebP has more than {MAX_CHUNKS:,} chunks; save it again with a common encoder.")
    animated = bool(flags & _ANIMATION)
    if not width or not height or not (frames if animated else images):
        raise ImageCorrupt("This WebP holds no image; send the complete file.")
    return ImageHeader(
        format="webp",
        width=width,
        height=height,
        frames=frames if animated else 1,
        orientation=(flags & _EXIF and orientation) or 1,  # decoders pass over what no flag announces
        # libwebp's animation decoder keeps two canvases of 4 bytes a pixel, Pillow copies the frame into bytes and
        # again into its image (4 each); then the composed result, and its turn.
        bytes_per_pixel=(21 if animated else 19) + (4 if orientation > 1 else 0),
        keep=((0, len(data)),),
        durations_ms=tuple(durations_ms) if animated and frames > 1 else (),
    )


def _u24(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _bitstream_size(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """Return (width, height) of the first VP8 or VP8L chunk from ``at`` on; (0, 0) when there is none.

    VP8: RFC 6386 section 9.1 (start code 9d 01 2a, 14 bits each). VP8L: RFC 9649 section 3.4 (0x2f, 14 bits each).
    """
    for _ in range(8):
        if at + 8 > limit:
            break
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = at + 8
        if kind == b"VP8 " and body + 10 <= limit and data[body + 3 : body + 6] == b"\x9d\x01\x2a":
            return (
                int.from_bytes(data[body + 6 : body + 8], "little") & 0x3FFF,
                int.from_bytes(data[body + 8 : body + 10], "little") & 0x3FFF,
            )
        if kind == b"VP8L" and body + 5 <= limit and data[body] == 0x2F:  # noqa: PLR2004
            bits = int.from_bytes(data[body + 1 : body + 5], "little")
            return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
        at = body + length + (length & 1)
    return 0, 0
