"""A JPEG encoder small enough to be checked by eye: every 8 x 8 block has one colour, so its pixels are known exactly.

Quantization is by 1 and only the DC coefficient is coded, 8 (v - 128), so that a decoder that follows ITU-T T.81 gives
back each value v as it was, whatever its inverse transform rounds. Nothing of Pillow or libjpeg is involved.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

BLOCK = 8


def flat_jpeg(values: npt.NDArray[np.uint8], *, adobe: int | None = None) -> bytes:
    """Return a baseline JPEG.

    Args:
        values: uint8 [rows, columns, components] as stored, one a block: the picture has 8 times as many pixels.
        adobe: colour transform of an Adobe marker (0 none, 1 YCbCr, 2 YCCK), or None for no marker.
    """
    rows, columns, components = values.shape
    frame = struct.pack(">BHHB", 8, rows * BLOCK, columns * BLOCK, components)
    frame += b"".join(bytes((number, 0x11, 0)) for number in range(1, components + 1))
    scan = bytes((components,)) + b"".join(bytes((number, 0)) for number in range(1, components + 1)) + b"\0\x3f\0"
    dc = bytes((0x00, 0, 0, 0, 12, *[0] * 12, *range(12)))  # twelve codes of four bits: how many bits a difference has
    ac = bytes((0x10, 1, *[0] * 15, 0))  # one code of one bit: no other coefficient follows
    marker = b"" if adobe is None else segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, adobe))
    return (
        b"\xff\xd8"
        + marker
        + segment(0xDB, b"\0" + b"\x01" * 64)
        + segment(0xC0, frame)
        + segment(0xC4, dc)
        + segment(0xC4, ac)
        + segment(0xDA, scan)
        + _entropy_coded(values)
        + b"\xff\xd9"
    )


def blown_up(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return what such a JPEG holds, uint8 [8 rows, 8 columns, components]."""
    return values.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def segment(marker: int, body: bytes) -> bytes:
    """Return a marker with its segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def _entropy_coded(values: npt.NDArray[np.uint8]) -> bytes:
    components = values.shape[2]
    before = [0] * components
    bits = ""
    for block in values.reshape(-1, components):
        for number, value in enumerate(block.tolist()):
            coefficient = 8 * (value - 128)
            difference, before[number] = coefficient - before[number], coefficient
            size = abs(difference).bit_length()
            bits += f"{size:04b}"
            if size:
                bits += f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}"
            bits += "0"
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
