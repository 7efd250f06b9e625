"""Damages pictures: bytes flipped, cut, doubled and mixed, and the pieces of their format edited one by one."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from scripts.fuzz.pieces import Kind, Piece, joined, split

_NUMBERS: tuple[int, ...] = (0, 1, 2, 7, 8, 31, 32, 127, 128, 255, 256, 32767, 32768, 65535, 65536)
_NUMBERS += (2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_FORMS = (">B", ">H", "<H", ">I", "<I")
_MOST_BYTES = 1 << 20
"""Doubling may not grow a picture without end."""

_NAMES: dict[Kind, tuple[bytes, ...]] = {
    "png": (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"pHYs", b"gAMA", b"sRGB", b"eXIf", b"PLTE", b"tRNS", b"fdAT", b"abCd"),
    "riff": (b"EXIF", b"XMP ", b"ICCP", b"ALPH", b"VP8X", b"ANIM", b"abcd"),
    "boxes": (b"free", b"skip", b"uuid", b"meta", b"Exif", b"irot", b"imir", b"clap", b"colr", b"abcd"),
}

Change = Callable[[bytes, Sequence[bytes], random.Random], bytes]
PieceChange = Callable[[Kind, list[Piece], list[Piece], random.Random], None]


def mutation(seeds: Sequence[bytes], seed: int, number: int) -> bytes:
    """Return one damaged picture; the same for the same arguments, whatever was made before.

    Args:
        seeds: whole pictures.
        seed: of the run.
        number: of the mutation within it.
    """
    dice = random.Random(f"{seed}:{number}")  # noqa: S311 - to be repeated, not to be unpredictable
    return mutated(dice.choice(seeds), seeds, dice)


def mutated(data: bytes, seeds: Sequence[bytes], dice: random.Random) -> bytes:
    """Return a picture damaged one to five times over."""
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 5))):
        data = dice.choice(_CHANGES)(data, seeds, dice)[:_MOST_BYTES]
    return data


def _place(data: bytes, dice: random.Random) -> int:
    """Return an offset; every second time near the beginning, where headers are."""
    return dice.randrange(min(len(data), 200) if dice.random() < 0.5 else len(data)) if data else 0


def _flip_bits(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    out = bytearray(data)
    for _times in range(dice.randint(1, 8) if out else 0):
        out[_place(data, dice)] ^= 1 << dice.randrange(8)
    return bytes(out)


def _set_bytes(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    out = bytearray(data)
    for _times in range(dice.randint(1, 8) if out else 0):
        out[_place(data, dice)] = dice.choice((0, 1, 127, 128, 255, dice.randrange(256)))
    return bytes(out)


def _set_number(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    form = dice.choice(_FORMS)
    size = struct.calcsize(form)
    if len(data) < size:
        return data
    at = min(_place(data, dice), len(data) - size)
    near = struct.unpack_from(form, data, at)[0] + dice.randint(-4, 4)
    value = dice.choice(_NUMBERS) if dice.random() < 0.8 else near
    return data[:at] + struct.pack(form, value % (1 << (8 * size))) + data[at + size :]


def _cut_off(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _drop(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    at = _place(data, dice)
    return data[:at] + data[at + dice.randint(1, 64) :]


def _double(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    at = _place(data, dice)
    return data[:at] + data[at : at + dice.randint(1, 256)] * dice.choice((2, 2, 3, 50)) + data[at:]


def _insert(data: bytes, _: Sequence[bytes], dice: random.Random) -> bytes:
    at = _place(data, dice)
    return data[:at] + dice.randbytes(dice.randint(1, 32)) + data[at:]


def _splice(data: bytes, seeds: Sequence[bytes], dice: random.Random) -> bytes:
    other = dice.choice(seeds)
    return data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other) + 1) :]


def _edit_pieces(data: bytes, seeds: Sequence[bytes], dice: random.Random) -> bytes:
    """Change pieces of the format, and put lengths and checksums right four times out of five."""
    apart = split(data)
    if apart is None or not apart[1]:
        return _flip_bits(data, seeds, dice)
    kind, pieces = apart
    other = split(dice.choice(seeds))
    from_other = other[1] if other is not None and other[0] == kind else pieces
    for _ in range(dice.choice((1, 1, 2, 4))):
        if pieces:
            dice.choice(_PIECE_CHANGES)(kind, pieces, from_other, dice)
    return joined(kind, pieces, mend=dice.random() < 0.8)


def _which(pieces: list[Piece], dice: random.Random) -> int:
    """Return the index of a piece; seldom of the first one, without which nothing else is read."""
    return dice.randrange(len(pieces)) if len(pieces) == 1 or dice.random() < 0.05 else dice.randrange(1, len(pieces))


def _repeat_piece(_kind: Kind, pieces: list[Piece], _other: list[Piece], dice: random.Random) -> None:
    at = _which(pieces, dice)
    pieces[at:at] = [pieces[at]] * dice.choice((1, 1, 2, 20, 300))


def _remove_piece(_kind: Kind, pieces: list[Piece], _other: list[Piece], dice: random.Random) -> None:
    del pieces[_which(pieces, dice)]


def _swap_pieces(_kind: Kind, pieces: list[Piece], _other: list[Piece], dice: random.Random) -> None:
    one, two = _which(pieces, dice), _which(pieces, dice)
    pieces[one], pieces[two] = pieces[two], pieces[one]


def _take_piece(_kind: Kind, pieces: list[Piece], other: list[Piece], dice: random.Random) -> None:
    """Put a piece of another picture of the format in, or in the place of one."""
    at = _which(pieces, dice)
    pieces[at : at + dice.randrange(2)] = [dice.choice(other)]


def _new_piece(kind: Kind, pieces: list[Piece], _other: list[Piece], dice: random.Random) -> None:
    """Put in a piece that no encoder writes there: a JPEG's reserved markers, chunks and boxes of any name."""
    body = dice.randbytes(dice.choice((0, 1, 2, 4, 8, 33)))
    name = bytes(dice.choice(_NAMES[kind])) if kind in _NAMES else b""
    made = {
        "jpeg": lambda: bytes((0xFF, dice.randrange(1, 256))) + dice.choice((b"", b"\0\2", b"\0\4\0\1", body)),
        "png": lambda: bytes(4) + name + body + bytes(4),
        "gif": lambda: b"!" + bytes((dice.choice((0xF9, 0xFE, 0xFF, 0x01)), len(body))) + body + b"\0"[: len(body)],
        "riff": lambda: name + struct.pack("<I", len(body)) + body + bytes(len(body) & 1),
        "boxes": lambda: struct.pack(">I", 8 + len(body)) + name + body,
    }[kind]()
    at = dice.randrange(1, len(pieces) + 1)
    depth = pieces[at - 1].depth + (1 if pieces[at - 1].holds else 0)
    pieces.insert(at, Piece(made, depth, mended=kind != "jpeg"))


def _wrong_length(kind: Kind, pieces: list[Piece], _other: list[Piece], dice: random.Random) -> None:
    """Let a piece state a length that is not its own."""
    at = _which(pieces, dice)
    data = pieces[at].data
    where, form = {"png": (0, ">I"), "jpeg": (2, ">H"), "gif": (0, ">B"), "riff": (4, "<I"), "boxes": (0, ">I")}[kind]
    size = struct.calcsize(form)
    if len(data) >= where + size:
        value = dice.choice((*_NUMBERS, len(data) + dice.randint(-16, 16))) % (1 << (8 * size))
        data = data[:where] + struct.pack(form, value) + data[where + size :]
        pieces[at] = replace(pieces[at], data=data, mended=False)


def _damage_body(kind: Kind, pieces: list[Piece], _other: list[Piece], dice: random.Random) -> None:
    """Damage the inside of a piece and leave its frame; what a PNG has compressed is damaged before compression too."""
    at = _which(pieces, dice)
    data = pieces[at].data
    change = dice.choice((_flip_bits, _set_bytes, _set_number, _set_number, _drop, _insert))
    if kind == "png" and data[4:8] == b"IDAT" and dice.random() < 0.7:
        try:
            # Stored, not compressed: the bytes are the same with every version of zlib.
            body = zlib.compress(change(zlib.decompress(data[8:-4]), (), dice), 0)
        except zlib.error:
            return
        pieces[at] = replace(pieces[at], data=data[:8] + body + data[-4:])
    elif len(data) > 8:
        pieces[at] = replace(pieces[at], data=data[:8] + change(data[8:], (), dice))


_CHANGES: tuple[Change, ...] = (
    *(_flip_bits, _set_bytes, _set_number, _cut_off, _drop, _double, _insert, _splice),
    *(_edit_pieces,) * 12,
)
_PIECE_CHANGES: tuple[PieceChange, ...] = (
    *(_repeat_piece, _remove_piece, _swap_pieces, _take_piece, _wrong_length, _new_piece, _new_piece),
    *(_damage_body,) * 5,
)
