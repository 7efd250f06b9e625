"""How large the AV1 pictures inside an AVIF really are (AV1 Bitstream & Decoding Process Specification, 2019).

libavif decodes a picture at the size its bitstream states and scales the result to the size its container states: a
container may say 64 x 64 around a bitstream of 16384 x 16384, 2 KB that cost a gigabyte. So the sequence headers are
read too.
"""

from __future__ import annotations

from gateway.errors import ImageCorrupt
from gateway.image_bits import BitReader

_SEQUENCE_HEADER = 1  # obu_type, section 6.2.2
_BROKEN = "This AVIF's picture data is broken; send the complete file."

MAX_OBUS = 20_000
"""500 frames have a few each."""


class _Bits(BitReader):
    """Reads bits and variable-length numbers (section 4.10.3)."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, _BROKEN)

    def skip_uvlc(self) -> None:
        """Pass over a variable-length number."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        self.take(min(zeros, 32))


def coded_sizes(stream: bytes, budget: int) -> tuple[list[tuple[int, int]], int]:
    """Return the (width, height) of each sequence header in a run of OBUs, and what is left of ``budget``.

    Args:
        stream: one item's or one sample's bytes.
        budget: how many OBUs may still be walked.

    Raises:
        ImageCorrupt: broken, too many OBUs, or frames that may be larger than their sequence says.
    """
    sizes, at = [], 0
    while at < len(stream):
        budget -= 1
        if budget < 0:
            raise ImageCorrupt(f"This AVIF has more than {MAX_OBUS:,} parts; save it again with a common encoder.")
        head = stream[at]  # forbidden bit, obu_type (4), extension flag, has_size flag, reserved: section 5.3.2
        body = at + (2 if head & 4 else 1)
        length = len(stream) - body
        if head & 2:
            length, body = _leb128(stream, body)
        if head & 0x80 or length < 0 or body + length > len(stream):
            raise ImageCorrupt(_BROKEN)
        if (head >> 3) & 15 == _SEQUENCE_HEADER:
            sizes.append(_sequence_size(_Bits(stream[body : body + min(length, 512)])))
        at = body + length
    return sizes, budget


def _leb128(stream: bytes, at: int) -> tuple[int, int]:
    """Return (value, offset behind it) of a little-endian base-128 number (section 4.10.5)."""
    value = 0
    for index, byte in enumerate(stream[at : at + 8]):
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, at + index + 1
    raise ImageCorrupt(_BROKEN)


def _sequence_size(bits: _Bits) -> tuple[int, int]:
    """Return (width, height) of a sequence header (section 5.5.1), in its own order of fields."""
    bits.take(4)  # seq_profile, still_picture
    reduced = bits.take(1)
    if reduced:
        bits.take(5)  # seq_level_idx
    else:
        _skip_operating_points(bits)
    wide_bits, high_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(wide_bits) + 1, bits.take(high_bits) + 1
    tight = (wide_bits, high_bits) == (max(1, (width - 1).bit_length()), max(1, (height - 1).bit_length()))
    if not reduced and not tight:
        # Each frame may state a size of its own in as many bits. Encoders use no more bits than the largest needs.
        raise ImageCorrupt("This AVIF's frames may be larger than it says; save it again with a common encoder.")
    return width, height


def _skip_operating_points(bits: _Bits) -> None:
    """Pass over timing, decoder model and operating points (sections 5.5.1, 5.5.3 to 5.5.5)."""
    delay_bits = 0
    if bits.take(1):  # timing_info_present_flag
        bits.take(64)  # num_units_in_display_tick, time_scale
        if bits.take(1):  # equal_picture_interval
            bits.skip_uvlc()
        if bits.take(1):  # decoder_model_info_present_flag
            delay_bits = bits.take(5) + 1
            bits.take(42)  # num_units_in_decoding_tick, two lengths of 5 bits
    has_delays = bits.take(1)  # initial_display_delay_present_flag
    for _ in range(bits.take(5) + 1):
        bits.take(12)  # operating_point_idc
        if bits.take(5) > 7:  # noqa: PLR2004 - seq_level_idx: only higher levels have a tier
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_delays and bits.take(1):
            bits.take(4)
