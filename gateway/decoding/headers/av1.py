"""The colors that an AV1 bitstream states (AV1 specification 5.5), which count where an AVIF's boxes state none."""

from __future__ import annotations

from typing import Final

_SEQUENCE_HEADER, _TEMPORAL_DELIMITER = 1, 2
_MOST_BYTES: Final = 256
"""A sequence header has about 12 bytes, with 32 operating points 200."""


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def read(self, count: int) -> int:
        """Return the next bits as a number. Raises ValueError behind the end."""
        self._at += count
        if self._at > len(self._bits):
            raise ValueError("the bits end")
        return int(self._bits[self._at - count : self._at] or "0", 2)


def code_points_of(data: bytes) -> tuple[int, int] | None:
    """Return (primaries, transfer), ITU-T H.273, of the first sequence header; None where it states none.

    Args:
        data: units (OBUs) in a row, of which the first few count.
    """
    at = 0
    data = data[:_MOST_BYTES]
    while at < len(data):
        kind, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at, size, shift = at + 1 + extended, 0, 0
        while sized and at < len(data):  # leb128
            size |= (data[at] & 127) << shift
            at, shift, more = at + 1, shift + 7, data[at] & 128
            if not more:
                break
        if kind == _SEQUENCE_HEADER:
            try:
                return _color_description(_Bits(data[at : at + size] if sized else data[at:]))
            except ValueError:
                return None
        if not sized:
            return None
        at += size
    return None


def _color_description(bits: _Bits) -> tuple[int, int] | None:
    read = bits.read
    profile, _, reduced = read(3), read(1), read(1)
    if reduced:
        read(5)
    else:
        _skip_operating_points(bits)
    wide, high = read(4) + 1, read(4) + 1
    read(wide + high)
    if not reduced and read(1):  # frame ids
        read(7)
    read(3)
    if not reduced:
        _skip_tools(bits)
    read(3)
    if read(1) and profile == 2:  # noqa: PLR2004 - more than 8 bits, perhaps 12
        read(1)
    if profile != 1:
        read(1)  # monochrome
    return (read(8), read(8)) if read(1) else None


def _skip_operating_points(bits: _Bits) -> None:
    read = bits.read
    delay_bits = 0
    if read(1):  # timing
        read(64)
        if read(1):
            zeros = 0
            while not read(1):
                zeros += 1
            read(zeros)
        if read(1):  # decoder model
            delay_bits = read(5) + 1
            read(42)
    delayed = read(1)
    for _ in range(read(5) + 1):
        read(12)
        if read(5) > 7:  # noqa: PLR2004
            read(1)
        if delay_bits and read(1):
            read(2 * delay_bits + 1)
        if delayed and read(1):
            read(4)


def _skip_tools(bits: _Bits) -> None:
    read = bits.read
    read(4)
    ordered = read(1)
    if ordered:
        read(2)
    screen = 2 if read(1) else read(1)
    if screen and not read(1):
        read(1)
    if ordered:
        read(3)
