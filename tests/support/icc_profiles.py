"""ICC profiles (ICC.1:2001-04) that change every colour, so that a picture shows whether one was applied."""

from __future__ import annotations

import struct

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
