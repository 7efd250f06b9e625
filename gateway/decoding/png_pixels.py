"""Where Pillow decodes a PNG otherwise than libpng, and so viewers, do: transparent colours, rows and checksums."""

from __future__ import annotations

import os

from PIL import Image, ImageChops, ImageFile, PngImagePlugin

from gateway.errors import ImageCorrupt

_ADLER_BYTES = 4  # at the end of a zlib stream (RFC 1950, 2.2)


class PngFile(PngImagePlugin.PngImageFile):
    """Pillow's PNG, which gets the checksum of its data only if rows are still missing before it.

    libpng has all rows by then and looks no further. Pillow loses the last one where the checksum is wrong.
    """

    _held = b""

    def load_prepare(self) -> None:
        """Begin a frame."""
        self._held = b""
        super().load_prepare()

    def load_read(self, read_bytes: int) -> bytes:
        """Return the next bytes of compressed data; the last ones of all come by themselves."""
        while more := super().load_read(read_bytes):
            data = self._held + more
            self._held = data[-_ADLER_BYTES:]
            if len(data) > _ADLER_BYTES:
                return data[:-_ADLER_BYTES]
        last, self._held = self._held, b""
        return last


def scale_key(image: ImageFile.ImageFile) -> None:
    """Scale an opened PNG's transparent colour as Pillow scales its samples, which it leaves to the caller.

    Of a key only the bits of a sample count (PNG 11.3.1.1), and 16-bit colours become their high bytes.
    """
    key = image.info.get("transparency")
    stored = image.tile[0].args if image.tile else ""
    if has_deep_key(image):
        return  # of two bytes a sample, of which Pillow keeps one: ``hide_colour`` looks at both
    if stored in {"L;2", "L;4"} and isinstance(key, int):
        highest = 3 if stored == "L;2" else 15
        image.info["transparency"] = (key & highest) * 255 // highest
    elif isinstance(key, tuple):
        image.info["transparency"] = tuple(value & 255 for value in key)


def load_all_rows(image: ImageFile.ImageFile) -> None:
    """Decode a still PNG, and notice when its data ends before its last row.

    Pillow takes a complete but too short stream for a finished image. So the canvas gets two random last rows first
    (two, since an interlaced image writes odd and even rows in different passes): where one of them survives, no
    pixel was ever written there.

    Raises:
        ImageCorrupt: rows are missing.
    """
    width, height = image.size
    if height < 2:  # noqa: PLR2004
        image.load()
        return
    canvas = Image.new(image.mode, image.size)
    noise = Image.frombytes(image.mode, (width, 2), os.urandom(len(canvas.crop((0, 0, width, 2)).tobytes())))
    canvas.paste(noise, (0, height - 2))
    image.im = canvas.im
    image.load()
    for row in (0, 1):
        written = image.crop((0, height - 2 + row, width, height - 1 + row))
        if written.tobytes() == noise.crop((0, row, width, row + 1)).tobytes():
            raise ImageCorrupt("This PNG's data ends before its last row; send the complete file.")


def has_deep_key(image: ImageFile.ImageFile) -> bool:
    """Tell whether an opened image is a PNG of 16-bit colours, one of which is transparent."""
    return "transparency" in image.info and bool(image.tile) and image.tile[0].args == "RGB;16B"


def hide_colour(image: ImageFile.ImageFile, again: ImageFile.ImageFile) -> None:
    """Make the transparent colour of a decoded PNG of 16-bit colours transparent, where both bytes of a sample agree.

    Args:
        image: of mode RGB, the samples' high bytes; becomes RGBA.
        again: the same, opened and not decoded; its low bytes are read.
    """
    key = image.info.pop("transparency")
    again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]
    again.load()
    hidden = Image.new("L", image.size, 255)
    for decoded, shift in ((image, 8), (again, 0)):
        for band, value in zip(decoded.split(), key, strict=True):
            wanted = value >> shift & 255
            hidden = ImageChops.darker(hidden, band.point([255 * (level == wanted) for level in range(256)]))
    image.putalpha(ImageChops.invert(hidden))
