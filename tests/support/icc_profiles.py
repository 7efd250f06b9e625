"""ICC profiles (ICC.1:2001-04) that change every colour, so that a picture shows whether one was applied."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

Tags = dict[bytes, bytes]


def swapped_primaries() -> bytes:
    """Return a display profile of sRGB's primaries with red and blue exchanged, gamma 2.2."""
    red, green, blue = (0.1431, 0.0606, 0.7141), (0.3851, 0.7169, 0.0971), (0.4360, 0.2225, 0.0139)
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(2.2 * 256), 0)
    tags = {name: _xyz(*colour) for name, colour in ((b"rXYZ", red), (b"gXYZ", green), (b"bXYZ", blue))}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def everything_grey() -> bytes:
    """Return a printer profile by which every mixture of inks is one light grey."""
    straight = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + straight * 4 + bytes((200, 128, 128)) * 16 + straight * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def split_into_segments(profile: bytes) -> bytes:
    """Return a profile as a JPEG's APP2 body."""
    return b"ICC_PROFILE\0\x01\x01" + profile


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + np.array([round(65536 * value) for value in values], ">i4").tobytes()


def _profile(kind: bytes, space: bytes, connection: bytes, tags: Tags) -> bytes:
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
    } | tags
    index, body, at = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        index += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    rest = struct.pack(">I", len(tags)) + index + body
    head = struct.pack(">I4sI4s4s4s", 128 + len(rest), b"none", 0x02100000, kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(0.9642, 1.0, 0.8249)[8:]
    return head + bytes(128 - len(head)) + rest


SRGB_COLORANTS = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
P3_COLORANTS = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
"""XYZ under D50 of red, green and blue."""


def power(gamma: float) -> bytes:
    """Return a curve that is a power, to eight bits behind the point."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def sampled(levels: Sequence[float]) -> bytes:
    """Return a curve of so many points, each 0 to 1."""
    return b"curv\0\0\0\0" + struct.pack(">I", len(levels)) + np.array([65535 * one for one in levels], ">u2").tobytes()


def srgb_curve() -> bytes:
    """Return the curve of sRGB as five parameters."""
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para\0\0\0\0" + struct.pack(">HH5i", 3, 0, *(round(65536 * number) for number in numbers))


def of_display(curve: bytes, colorants: Sequence[Sequence[float]] = SRGB_COLORANTS, *, space: bytes = b"RGB ") -> bytes:
    """Return a display profile of one curve for red, green and blue, or for grey."""
    if space == b"GRAY":
        return _profile(b"mntr", space, b"XYZ ", {b"kTRC": curve})
    tags = {name: _xyz(*colour) for name, colour in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)}
    return _profile(b"mntr", space, b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def of_table(points: int, colors: bytes, curve: bytes = bytes(range(256))) -> bytes:
    """Return a profile of RGB by a table of Lab colors, ``points`` each way, behind a curve of 256 levels."""
    straight = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1\0\0\0\0" + bytes((3, 3, points, 0)) + straight + curve * 3 + colors + bytes(range(256)) * 3
    return _profile(b"mntr", b"RGB ", b"Lab ", {b"A2B0": table})


def of_code_points(primaries: int, transfer: int) -> bytes:
    """Return a profile of sRGB with a tag that says other colors (ICC.1:2022, 9.2.17)."""
    tags = {name: _xyz(*one) for name, one in zip((b"rXYZ", b"gXYZ", b"bXYZ"), SRGB_COLORANTS, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), srgb_curve())
    tags[b"cicp"] = b"cicp\0\0\0\0" + bytes((primaries, transfer, 0, 1))
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)
