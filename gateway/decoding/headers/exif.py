"""The EXIF orientation, read by a few lines of our own: no library parses the rest of the metadata.

Only the first directory's tag 0x0112 of type SHORT is looked at, and the first one with a value that means something,
as browsers do. Loops, offsets out of range and nonsense values all mean "not rotated": broken metadata is no reason to
refuse an image.
"""

from __future__ import annotations

import struct

_ORIENTATION_TAG = 0x0112  # Exif 2.32 (CIPA DC-008), 4.6.4 A
_SHORT = 3  # field type, TIFF 6.0 section 2
_UPRIGHT = 1
_ENTRY_BYTES = 12


def read_orientation(tiff: bytes) -> int:
    r"""Return the orientation 1 to 8 of an EXIF block; 1 when there is none that can be read.

    Args:
        tiff: a TIFF structure, without a leading ``Exif\0\0``.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return _UPRIGHT
    try:
        (directory,) = struct.unpack_from(f"{order}L", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    except struct.error:
        return _UPRIGHT
    entries = tiff[directory + 2 : directory + 2 + _ENTRY_BYTES * count]
    whole = len(entries) // _ENTRY_BYTES * _ENTRY_BYTES
    for tag, kind, values, value in struct.iter_unpack(f"{order}HHLH2x", entries[:whole]):
        if (tag, kind, values) == (_ORIENTATION_TAG, _SHORT, 1) and 1 <= value <= 8:  # noqa: PLR2004
            return int(value)
    return _UPRIGHT
