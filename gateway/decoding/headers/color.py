"""What an image's header says about its colors: code points, an ICC profile, or a PNG's gamma and chromaticities.

Only facts are read here, without Pillow or numpy; ``gateway/decoding/color.py`` converts by them. A profile is not
parsed by the decoders' own libraries: its bytes stay where they lie in the file until a worker reads them.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

UNSPECIFIED: Final = 2
PQ: Final = 16
HLG: Final = 18
BT709: Final = 1
SRGB: Final = 13
"""Code points of ITU-T H.273, 8.1 and 8.2."""
AS_BT709: Final = frozenset({BT709, 6, 14, 15})
"""Transfer functions that are the same as BT.709's."""

MAX_PROFILE_BYTES: Final = 16 << 20
"""A profile of a press has about 2 MB; a JPEG cannot hold more than this."""

_SMOOTH_WITHIN: Final = 0.1
"""How far a curve may lie from gamma 2.2, both seen by that gamma. Those of sRGB, BT.709, Adobe RGB (2.2), ProPhoto
(1.8), DCI (2.6) and L* do not lie further than 0.08, a linear one does."""
_SAME_WITHIN: Final = 1.5 / 255
SRGB_COLORANTS: Final = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""XYZ of IEC 61966-2-1, adapted to the white of profiles (D50)."""
_D50: Final = (0.9642, 1.0, 0.8249)
_LOOK_UP_TAGS: Final = frozenset({b"A2B0", b"A2B1", b"A2B2", b"D2B0", b"D2B1", b"D2B2", b"D2B3"})
_HEAD_BYTES: Final = 132
_MOST_TAGS: Final = 200

Kind = Literal["srgb", "smooth", "any"]
"""Of a conversion: none is needed; close to a power of the light, so that shrinking before it makes no difference that
can be seen; or any at all."""


@dataclass(frozen=True, slots=True)
class Color:
    """What an image says about its colors.

    Attributes:
        primaries: ITU-T H.273, 8.1.
        transfer: ITU-T H.273, 8.2.
        profile: byte ranges [start, end) of the file that make up the ICC profile, in order; it comes first, except
            in a PNG, where it is left out if there are code points.
        deflated: the profile is compressed by zlib.
        gamma: of a PNG's chunk gAMA: that of the encoder, in 100,000ths.
        chromaticities: of its chunk cHRM: x and y of white, red, green and blue, in 100,000ths.
        kind: of the conversion, as far as the header knows.
    """

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    profile: tuple[tuple[int, int], ...] = ()
    deflated: bool = False
    gamma: int = 0
    chromaticities: tuple[int, ...] = ()
    kind: Kind = "any"

    @property
    def profile_bytes(self) -> int:
        """The most bytes that the profile takes, which zlib enlarges by no more than 1,032."""
        stored = sum(end - start for start, end in self.profile)
        return min(MAX_PROFILE_BYTES, 1032 * stored if self.deflated else stored)


def read_profile(data: bytes, color: Color) -> bytes:
    """Return an ICC profile's bytes; empty where they are none, are cut short, or are more than accepted.

    A profile states its size first (ICC.1:2022, 7.2), so that no more is inflated than there should be.
    """
    stored = b"".join(data[start:end] for start, end in color.profile)
    profile = _inflated(stored) if color.deflated else stored[: _size_of(stored)]
    whole = _is_profile(profile) and _size_of(profile) == len(profile)
    return profile if whole and all(end <= len(profile) for _, _, end in _tag_table(profile)) else b""


def _inflated(stored: bytes) -> bytes:
    """Return a profile and at most one byte more, which then is one too many; empty where it is none."""
    inflate = zlib.decompressobj()
    try:
        head = inflate.decompress(stored, _HEAD_BYTES)
        if not _is_profile(head):
            return b""
        return head + inflate.decompress(inflate.unconsumed_tail, _size_of(head) - len(head) + 1)
    except zlib.error:
        return b""


@dataclass(frozen=True, slots=True)
class MatrixProfile:
    """What a profile without tables says.

    Attributes:
        curves: linear light, 0 to 1, of 256 levels of red, green and blue, or of grey.
        colorants: XYZ of red, green and blue, under D50; none of grey.
    """

    curves: tuple[tuple[float, ...], ...]
    colorants: tuple[tuple[float, ...], ...]

    @property
    def kind(self) -> Kind:
        """What the conversion is like."""
        extreme = any(abs(value) > 1.2 for colorant in self.colorants for value in colorant)  # noqa: PLR2004 - ProPhoto has 0.80
        if extreme or not all(map(is_smooth, set(self.curves))):
            return "any"
        near = all(
            abs(value - wanted) < 0.003  # noqa: PLR2004 - those of common profiles differ by 0.0015
            for colorant, expected in zip(self.colorants, SRGB_COLORANTS, strict=False)
            for value, wanted in zip(colorant, expected, strict=True)
        )
        return "srgb" if near and all(map(_is_srgb, set(self.curves))) else "smooth"


def matrix_profile(profile: bytes) -> MatrixProfile | None:
    """Return the curves and colorants of a profile of RGB or grey; None where it has tables, or not all of them."""
    tags = _tags(profile)
    if _LOOK_UP_TAGS & tags.keys():
        return None
    names = {b"RGB ": (b"rTRC", b"gTRC", b"bTRC"), b"GRAY": (b"kTRC",)}.get(profile[16:20], ())
    try:
        colorants = tuple(_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")) if len(names) > 1 else ()
        shapes = {body: _shape(body) for body in {tags[name] for name in names}}
    except (KeyError, ValueError, ArithmeticError, struct.error):
        return None
    return MatrixProfile(tuple(shapes[tags[name]] for name in names), colorants) if names else None


def kind_of_profile(profile: bytes) -> Kind:
    """Return what the conversion by an ICC profile is like, from its tags alone."""
    if code_points_of_profile(profile) is not None:
        return "any"
    found = matrix_profile(profile)
    return "any" if found is None else found.kind


def is_smooth(light: Sequence[float]) -> bool:
    """Return whether a curve, 0 to 1 at 256 levels, rises and stays close to a common gamma."""
    return all(first <= second for first, second in itertools.pairwise(light)) and all(
        abs(max(value, 0.0) ** (1 / 2.2) - level / 255) <= _SMOOTH_WITHIN for level, value in enumerate(light)
    )


def code_points_of_profile(profile: bytes) -> tuple[int, int] | None:
    """Return (primaries, transfer) of a profile's tag ``cicp`` (ICC.1:2022, 9.2.17), which goes before its curves."""
    tag = _tags(profile).get(b"cicp", b"")
    return (tag[8], tag[9]) if len(tag) >= 12 and tag.startswith(b"cicp") else None  # noqa: PLR2004


def _is_profile(head: bytes) -> bool:
    """Return whether browsers would go on reading: size, signature, version 4 at most, and D50 as its light."""
    return (
        len(head) >= _HEAD_BYTES
        and head[36:40] == b"acsp"
        and _HEAD_BYTES <= _size_of(head) <= MAX_PROFILE_BYTES
        and head[8] <= 4  # noqa: PLR2004
        and all(abs(value - wanted) < 0.01 for value, wanted in zip(_xyz(head[60:80]), _D50, strict=True))  # noqa: PLR2004
    )


def _size_of(head: bytes) -> int:
    return int.from_bytes(head[:4], "big")


def _tag_table(profile: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of each tag; where the table itself ends behind the profile, one that does too."""
    count = int.from_bytes(profile[128:132], "big")
    if _HEAD_BYTES + 12 * count > len(profile):
        yield b"", 0, len(profile) + 1
        return
    for name, start, length in struct.iter_unpack(">4sLL", profile[_HEAD_BYTES : _HEAD_BYTES + 12 * count]):
        yield name, start, start + length


def _tags(profile: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, start, end in itertools.islice(_tag_table(profile), _MOST_TAGS):
        found.setdefault(name, profile[start:end])
    return found


def _shape(tag: bytes) -> tuple[float, ...]:
    curve = _curve(tag)
    return tuple(min(max(curve(level / 255), 0.0), 1.0) for level in range(256))


def _xyz(tag: bytes) -> tuple[float, ...]:
    return tuple(value / 65536 for value in struct.unpack_from(">3i", tag, 8))


def _curve(tag: bytes) -> Callable[[float], float]:
    """Return a curve of the type ``curv`` or ``para`` (ICC.1:2022, 10.6 and 10.18).

    Raises:
        ValueError, struct.error: it is neither, or cut short.
    """
    if tag.startswith(b"curv"):
        (count,) = struct.unpack_from(">L", tag, 8)
        if count > 1:
            return _interpolated(struct.unpack_from(f">{min(count, 65536)}H", tag, 12))
        gamma = struct.unpack_from(">H", tag, 12)[0] / 256 if count else 1.0
        return lambda level: float(level**gamma)
    (kind,) = struct.unpack_from(">H", tag, 8)
    if not tag.startswith(b"para") or kind > 4:  # noqa: PLR2004
        raise ValueError(tag[:4])
    count = (1, 3, 4, 5, 7)[kind]
    g, a, b, c, d, e, f = (*(value / 65536 for value in struct.unpack_from(f">{count}i", tag, 12)), *(0.0,) * 7)[:7]
    if kind == 0:
        a = 1.0
    if kind in {1, 2}:
        c, d, e, f = 0.0, (-b / a if a else math.inf), (c if kind == 2 else 0.0), (c if kind == 2 else 0.0)  # noqa: PLR2004

    def curve(level: float) -> float:
        return float(max(a * level + b, 0.0) ** g + e if level >= d else c * level + f)

    return curve


def _interpolated(table: tuple[int, ...]) -> Callable[[float], float]:
    last = len(table) - 1

    def curve(level: float) -> float:
        at = level * last
        low = min(int(at), last - 1)
        return (table[low] + (table[low + 1] - table[low]) * (at - low)) / 65535

    return curve


def _is_srgb(light: tuple[float, ...]) -> bool:
    return all(
        abs((1.055 * value ** (1 / 2.4) - 0.055 if value > 0.0031308 else 12.92 * value) - level / 255) <= _SAME_WITHIN  # noqa: PLR2004
        for level, value in enumerate(light)
    )
