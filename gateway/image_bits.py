"""Bits of a picture's bitstream, read one field after the other; AV1 and HEVC headers are made of them."""

from __future__ import annotations

from gateway.errors import ImageCorrupt


class BitReader:
    """Reads bits, most significant first (AV1 section 4.10.2, HEVC section 7.2).

    Args:
        data: the bytes to read.
        broken: what to say of a stream that ends too early.
    """

    def __init__(self, data: bytes, broken: str) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)
        self._broken = broken

    def take(self, count: int) -> int:
        """Return the next ``count`` bits.

        Raises:
            ImageCorrupt: there are fewer.
        """
        self._left -= count
        if self._left < 0:
            raise ImageCorrupt(self._broken)
        return (self._value >> self._left) & ((1 << count) - 1)
