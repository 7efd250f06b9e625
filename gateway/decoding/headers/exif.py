"""The EXIF orientation, read by a few lines of our own: no library parses the rest of the metadata.

Only the first directory's tag 0x0112 of type SHORT is looked at, as browsers do. Loops, offsets out of range and
nonsense values all mean "not rotated": broken metadata is no reason to refuse an image.
"""

from __future__ import annotations

import struct

_ORIENTATION_TAG = 0x0112  # Exif 2.32 (CIPA DC-008), 4.6.4 A
_SHORT = 3  # field type, TIFF 6.0 section 2
_UPRIGHT = 1
_MAX_ENTRIES = 512


def read_orientation(exif: bytes) -> int:
    r"""Return the orientation 1 to 8 of an EXIF block; 1 when there is none that can be read.

    Args:
        exif: a TIFF structure, with or without the leading ``Exif\0\0``.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return _UPRIGHT
    try:
        (directory,) = struct.unpack_from(f"{order}L", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for index in range(min(count, _MAX_ENTRIES)):
            tag, kind, values, value = struct.unpack_from(f"{order}HHLH", tiff, directory + 2 + 12 * index)
            if tag == _ORIENTATION_TAG:
                return int(value) if kind == _SHORT and values == 1 and 1 <= value <= 8 else _UPRIGHT  # noqa: PLR2004
    except struct.error:
        return _UPRIGHT
    return _UPRIGHT
