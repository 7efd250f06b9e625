"""HEIC (HEVC in HEIF, ISO/IEC 23008-12), as phones write it: the size of its primary image, from its boxes."""

from __future__ import annotations

from gateway.decoding.headers.header import ImageHeader
from gateway.decoding.headers.isobmff import color_of, read_container, shown_size
from gateway.errors import ImageCorrupt, UnsupportedImage


def read_heic(data: bytes) -> ImageHeader:
    """Read a HEIC's boxes.

    Memory is granted for the largest that any item states.

    Args:
        data: the whole file, starting with its ``ftyp`` box.

    Raises:
        ImageCorrupt: cut short, no size in it, or absurdly many parts.
        UnsupportedImage: a sequence without a still.
    """
    found = read_container(data)
    size = shown_size(found.primary())
    if size is None and found.sequence:
        raise UnsupportedImage("Sequences of images in a HEIC are not read; send a single image, or a GIF.")
    if size is None:
        raise ImageCorrupt("This HEIC holds no image; send the complete file.")
    if not all(size):
        raise ImageCorrupt("This HEIC says that it is empty: its width or height is zero.")
    # Planes, RGB of libheif and of Pillow, the result. Measured on 12 megapixels, turned and without subsampling: 9.3
    # and 12.3 (alpha) bytes a pixel, 15.3 and 20.3 for 10 bits.
    return ImageHeader(
        format="heic",
        width=size[0],
        height=size[1],
        bytes_per_pixel=(18 if found.deep else 11) + (6 if found.auxiliary else 0),
        keep=((0, len(data)),),
        decoded_pixels=max(width * height for width, height in found.sizes),
        color=color_of(found.primary()),
        transparent=found.auxiliary,
    )
