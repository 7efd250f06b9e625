"""A picture's file as the pieces that its format is made of: PNG chunks, JPEG segments, GIF blocks, RIFF chunks, boxes.

Put together again unchanged, they are the file. After a change, lengths and checksums can be made right again, so that
a reader gets further than the first of them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["png", "jpeg", "gif", "riff", "boxes"]

# Boxes that hold boxes, and how many bytes of their own stand before those (ISO/IEC 14496-12, 23008-12).
_BOXES = {b"meta": 12, b"iprp": 8, b"ipco": 8, b"moov": 8, b"trak": 8, b"mdia": 8, b"minf": 8, b"stbl": 8, b"dinf": 8}
_BOXES |= {b"iinf": 14, b"stsd": 16}
_FRAME_BYTES = 24  # of an ANMF: chunk header and frame header (RFC 9649, 2.7.1.1)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a file.

    Attributes:
        data: its bytes.
        depth: how many pieces it lies in.
        holds: the pieces behind it that are deeper lie in it.
        mended: its length and checksum may be put right.
    """

    data: bytes
    depth: int = 0
    holds: bool = False
    mended: bool = True


def split(data: bytes) -> tuple[Kind, list[Piece]] | None:
    """Return the format and the pieces of a file; None where it is none of those known or too broken to be split."""
    readers: dict[Kind, tuple[bool, Callable[[bytes], Iterator[Piece]]]] = {
        "png": (data.startswith(b"\x89PNG\r\n\x1a\n"), _png),
        "jpeg": (data.startswith(b"\xff\xd8"), _jpeg),
        "gif": (data.startswith(b"GIF8"), _gif),
        "riff": (data.startswith(b"RIFF"), _riff),
        "boxes": (data[4:8] == b"ftyp", lambda all_of_it: _boxes(all_of_it, 0, len(all_of_it), 0)),
    }
    for kind, (fits, read) in readers.items():
        if fits:
            try:
                pieces = [piece for piece in read(data) if piece.data]
            except (IndexError, struct.error):
                return None
            return (kind, pieces) if b"".join(piece.data for piece in pieces) == data else None
    return None


def joined(kind: Kind, pieces: Sequence[Piece], *, mend: bool) -> bytes:
    """Return the pieces as a file, lengths and checksums put right if wanted."""
    if not mend:
        return b"".join(piece.data for piece in pieces)
    whole = [_mended(kind, piece) for piece in pieces]
    for index, piece in enumerate(whole):
        if piece.holds and piece.mended:
            total = len(piece.data)
            for other in whole[index + 1 :]:
                if other.depth <= piece.depth:
                    break
                total += len(other.data)
            whole[index] = replace(piece, data=_with_total(kind, piece.data, total))
    return b"".join(piece.data for piece in whole)


def _mended(kind: Kind, piece: Piece) -> Piece:
    data = piece.data
    if not piece.mended or piece.holds or len(data) < 4:
        return piece
    if kind == "png" and len(data) >= 12 and not data.startswith(b"\x89PNG"):
        body = data[4:-4]
        data = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    elif kind == "jpeg" and data[0] == 0xFF and data[1] >= 0xC0 and not 0xD0 <= data[1] <= 0xDA:
        data = data[:2] + struct.pack(">H", min(len(data) - 2, 0xFFFF)) + data[4:]
    elif kind == "riff" and len(data) >= 8 and struct.unpack_from("<I", data, 4)[0] != len(data) - 9:  # padded
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    elif kind == "boxes" and len(data) >= 8:
        data = struct.pack(">I", len(data)) + data[4:]
    return replace(piece, data=data)


def _with_total(kind: Kind, head: bytes, total: int) -> bytes:
    if kind == "riff":
        return head[:4] + struct.pack("<I", max(total - 8, 0)) + head[8:]
    return struct.pack(">I", total) + head[4:]


def _png(data: bytes) -> Iterator[Piece]:
    yield Piece(data[:8])
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack_from(">I", data, at)[0]
        yield Piece(data[at:end])
        at = end
    yield Piece(data[at:])


def _jpeg(data: bytes) -> Iterator[Piece]:
    at = 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        alone = 0xD0 <= marker <= 0xD9  # RST0-7, SOI, EOI: no length
        end = at + 2 + (0 if alone else struct.unpack_from(">H", data, at + 2)[0])
        yield Piece(data[at:end])
        at = end
        if marker == 0xDA or 0xD0 <= marker <= 0xD7:  # entropy-coded data, up to a restart or the next segment
            scan = at
            while at + 1 < len(data) and (data[at] != 0xFF or data[at + 1] == 0):
                at += 1
            yield Piece(data[scan:at])
    yield Piece(data[at:])


def _gif(data: bytes) -> Iterator[Piece]:
    def table(flags: int) -> int:
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    at = 13 + table(data[10])
    yield Piece(data[:at])
    while at < len(data) and data[at] in {0x21, 0x2C}:
        start, image = at, data[at] == 0x2C
        at += 11 + table(data[at + 9]) if image else 2
        while data[at]:
            at += data[at] + 1
        at += 1
        yield Piece(data[start:at])
    yield Piece(data[at:])


def _riff(data: bytes) -> Iterator[Piece]:
    yield Piece(data[:12], holds=True)
    at, frame_end = 12, 0
    while at + 8 <= len(data):
        end = at + 8 + struct.unpack_from("<I", data, at + 4)[0]
        depth = 2 if at < frame_end else 1
        if data.startswith(b"ANMF", at):
            yield Piece(data[at : at + _FRAME_BYTES], 1, holds=True)
            at, frame_end = at + _FRAME_BYTES, end
        else:
            end += end & 1
            yield Piece(data[at:end], depth)
            at = end
    yield Piece(data[at:])


def _boxes(data: bytes, at: int, stop: int, depth: int) -> Iterator[Piece]:
    while at + 8 <= stop:
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + size if 8 <= size <= stop - at else stop
        own = _BOXES.get(kind)
        if own is not None and end - at >= own:
            yield Piece(data[at : at + own], depth, holds=True)
            yield from _boxes(data, at + own, end, depth + 1)
        else:
            yield Piece(data[at:end], depth)
        at = end
    yield Piece(data[at:stop], depth)
