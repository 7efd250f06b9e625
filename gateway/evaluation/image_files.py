"""Which files of a folder are images: by their names or by their content."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from gateway.decoding.headers.header import SIGNATURE_BYTES, sniff


def is_image_file(path: Path) -> bool:
    """Return whether a file is an image by its name or its content; an unreadable one counts as one, to be reported."""
    if (mimetypes.guess_type(path.name)[0] or "").startswith("image/"):
        return True
    try:
        with path.open("rb") as file:
            return sniff(file.read(SIGNATURE_BYTES)) is not None
    except OSError:
        return True
