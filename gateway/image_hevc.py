"""How large the HEVC pictures inside a HEIC really are, and how often they are drawn (ITU-T H.265, 2021).

libde265 allocates by what the bitstream's sequence parameter sets state, before anyone compares the result with the
container: a container may say 64 x 64 around a bitstream of 16384 x 16384. And it draws every slice that it finds,
whether or not another one has drawn the same blocks. So parameter sets and slices are looked at first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.errors import ImageCorrupt
from gateway.image_bits import BitReader

MAX_NALS: Final = 1000
"""Of one picture; phones write about five. Level 6.2 allows 600 slices (H.265, table A.8)."""

_SPS = 33  # nal_unit_type, table 7-1
_INTRA = range(16, 22)  # BLA, IDR and CRA: the only slices of a still (ISO/IEC 23008-12, B.2.2)
_FIRST_OTHER = 32  # types below are slices
_SPS_BYTES = 512  # what is read of a parameter set: the sizes stand in its first 150 bytes or so
_CONFIG_HEAD = 22  # bytes of hvcC before its arrays (ISO/IEC 14496-15, 8.3.3.1.2)
_BROKEN = "This HEIC's picture data is broken; send the complete file."
_SUBSAMPLING = {0: (1, 1), 1: (2, 2), 2: (2, 1), 3: (1, 1)}  # chroma_format_idc to (SubWidthC, SubHeightC), table 6-1


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """One still picture as its bitstream describes it.

    Attributes:
        width: pixels, the widest of its parameter sets, cropped by their conformance windows.
        height: pixels, likewise.
        pixels: that the decoder allocates, at most.
        slices: that it draws.
        deep: more than 8 bits a sample.
    """

    width: int
    height: int
    pixels: int
    slices: int
    deep: bool


@dataclass(frozen=True, slots=True)
class _Size:
    width: int
    height: int
    pixels: int
    deep: bool


class _Bits(BitReader):
    """Reads bits and Exp-Golomb numbers (section 9.2)."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, _BROKEN)

    def number(self) -> int:
        """Return an unsigned Exp-Golomb number, ue(v)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        if zeros > 32:  # noqa: PLR2004 - section 9.2: no number has more than 32 bits
            raise ImageCorrupt(_BROKEN)
        return (1 << zeros) - 1 + self.take(zeros)


def read_picture(config: bytes, stream: bytes) -> CodedPicture:
    """Judge one item's bitstream, parameter sets within the data included.

    Args:
        config: body of its ``hvcC`` box.
        stream: its data, NAL units with their lengths in front.

    Raises:
        ImageCorrupt: broken, no picture or more than one, or anything but a still of one layer.
    """
    sizes: list[_Size] = []
    pictures = slices = 0
    for count, nal in enumerate(_nals(config, stream), start=1):
        if count > MAX_NALS or len(nal) < 3 or nal[0] & 0x81 or nal[1] & 0xF8:  # noqa: PLR2004
            raise ImageCorrupt(_BROKEN)  # forbidden_zero_bit and nuh_layer_id have to be zero, section 7.3.1.2
        kind = nal[0] >> 1
        if kind == _SPS:
            sizes.append(_sequence_size(nal))
        elif kind in _INTRA:
            slices += 1
            pictures += nal[2] >> 7  # first_slice_segment_in_pic_flag, section 7.3.6.1
        elif kind < _FIRST_OTHER:
            raise ImageCorrupt(_BROKEN)
    if not sizes or pictures != 1:
        raise ImageCorrupt(_BROKEN)
    return CodedPicture(
        width=max(size.width for size in sizes),
        height=max(size.height for size in sizes),
        pixels=max(size.pixels for size in sizes),
        slices=slices,
        deep=any(size.deep for size in sizes),
    )


def _nals(config: bytes, stream: bytes) -> Iterator[bytes]:
    """Yield the NAL units of the configuration and then those of the data, in the order they reach the decoder."""
    if len(config) <= _CONFIG_HEAD:
        raise ImageCorrupt(_BROKEN)
    at = _CONFIG_HEAD + 1
    for _ in range(config[_CONFIG_HEAD]):
        count = int.from_bytes(config[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            nal, at = _sized(config, at, 2)
            yield nal
    at, prefix = 0, (config[21] & 3) + 1  # lengthSizeMinusOne
    while at < len(stream):
        nal, at = _sized(stream, at, prefix)
        yield nal


def _sized(data: bytes, at: int, prefix: int) -> tuple[bytes, int]:
    """Return (NAL unit, offset behind it) of one with its length in ``prefix`` bytes before it."""
    body = at + prefix
    end = body + int.from_bytes(data[at:body], "big")
    if body > len(data) or end > len(data):
        raise ImageCorrupt(_BROKEN)
    return data[body:end], end


def _sequence_size(nal: bytes) -> _Size:
    """Read a sequence parameter set up to its bit depths (section 7.3.2.2.1)."""
    bits = _Bits(nal[2:_SPS_BYTES].replace(b"\0\0\3", b"\0\0"))  # emulation prevention, section 7.4.2
    bits.take(4)  # sps_video_parameter_set_id
    sub_layers = bits.take(3)
    bits.take(1 + 96)  # temporal_id_nesting, general profile, tier and level (section 7.3.3)
    present = [(bits.take(1), bits.take(1)) for _ in range(sub_layers)]
    if sub_layers:
        bits.take(2 * (8 - sub_layers))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.number()  # sps_seq_parameter_set_id
    chroma = bits.number()
    if chroma not in _SUBSAMPLING:
        raise ImageCorrupt(_BROKEN)
    across, down = _SUBSAMPLING[chroma]
    if chroma == 3:  # noqa: PLR2004
        bits.take(1)  # separate_colour_plane_flag
    coded_width, coded_height = bits.number(), bits.number()
    width, height = coded_width, coded_height
    if bits.take(1):  # conformance_window_flag
        left, right, top, bottom = (bits.number() for _ in range(4))
        width, height = width - across * (left + right), height - down * (top + bottom)
    deep = bool(bits.number() | bits.number())
    if width <= 0 or height <= 0:
        raise ImageCorrupt(_BROKEN)
    return _Size(width, height, coded_width * coded_height, deep)
