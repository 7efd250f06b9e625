"""A JPEG encoder that writes samples beyond 0 to 255, which decoders of the whole size clip and smaller ones never see.

The block's coefficients are those of the samples as they are given (ITU-T T.81, A.3.3). Decoded whole, each is clipped.
Decoded at an eighth of the size, a block is its mean before clipping: one very dark sample among bright ones makes the
block dark there and is one dark dot in a viewer. This is an attack on decoders that shrink while they decode.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from tests.support.flat_jpeg import BLOCK, segment

_QUANTUM = 4
_ZIGZAG = sorted(
    ((row, column) for row in range(8) for column in range(8)),
    key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]),
)
_DC_SIZES = range(12)
_AC_SYMBOLS = [0x00, 0xF0, *(run << 4 | size for run in range(16) for size in range(1, 11))]


def unclipped_jpeg(samples: npt.NDArray[np.float64]) -> bytes:
    """Return a grey baseline JPEG of samples of any value, [rows, columns], sides multiples of 8."""
    rows, columns = samples.shape
    frequencies = np.arange(BLOCK)
    basis = np.cos((2 * frequencies[None, :] + 1) * frequencies[:, None] * np.pi / 16) / 2
    basis[0] /= np.sqrt(2)
    blocks = (samples - 128).reshape(rows // 8, 8, columns // 8, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    coefficients = np.rint(basis @ blocks @ basis.T / _QUANTUM).astype(int)
    ordered = coefficients[:, [at[0] for at in _ZIGZAG], [at[1] for at in _ZIGZAG]]
    dc = bytes((0x00, 0, 0, 0, len(_DC_SIZES), *[0] * 12, *_DC_SIZES))  # codes of four bits
    ac = bytes((0x10, *[0] * 7, len(_AC_SYMBOLS), *[0] * 8, *_AC_SYMBOLS))  # codes of eight bits
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + bytes((_QUANTUM,)) * 64)
        + segment(0xC0, struct.pack(">BHHB", 8, rows, columns, 1) + bytes((1, 0x11, 0)))
        + segment(0xC4, dc)
        + segment(0xC4, ac)
        + segment(0xDA, bytes((1, 1, 0, 0, 63, 0)))
        + _entropy_coded(ordered)
        + b"\xff\xd9"
    )


def hidden(shown: npt.NDArray[np.uint8], seen_small: npt.NDArray[np.float64], dots: int) -> npt.NDArray[np.float64]:
    """Return samples that show one image whole and another one to who decodes at a fraction of the size.

    Args:
        shown: [rows, columns].
        seen_small: [rows // 8, columns // 8].
        dots: samples of a block, each way, that are given up for it: 1, 2 or 4.
    """
    samples = shown.astype(np.float64)
    rows, columns = samples.shape
    size = BLOCK // dots
    cells = samples.reshape(rows // size, size, columns // size, size)
    missing = np.kron(seen_small, np.ones((dots, dots))) - cells.mean(axis=(1, 3))
    cells[:, size // 2, :, size // 2] += size * size * missing
    return cells.reshape(rows, columns)


def _entropy_coded(blocks: npt.NDArray[np.int_]) -> bytes:
    symbols = {symbol: f"{code:08b}" for code, symbol in enumerate(_AC_SYMBOLS)}
    bits: list[str] = []
    before = 0
    for block in blocks.tolist():
        difference, before = block[0] - before, block[0]
        bits += [f"{abs(difference).bit_length():04b}", _value(difference)]
        run = 0
        last = max((at for at in range(1, 64) if block[at]), default=0)
        for value in block[1 : last + 1]:
            if not value:
                run += 1
                continue
            bits += [symbols[0xF0]] * (run // 16) + [symbols[run % 16 << 4 | abs(value).bit_length()], _value(value)]
            run = 0
        if last < 63:
            bits.append(symbols[0x00])
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")


def _value(value: int) -> str:
    size = abs(value).bit_length()
    return f"{value if value > 0 else value + (1 << size) - 1:0{size}b}" if size else ""
