"""HEIC (HEVC in HEIF, ISO/IEC 23008-12), as phones write it: size, cost, and what libheif is allowed to see.

What is read is the primary picture, an HEVC still or a grid of them, with its alpha. Everything else in the file
(thumbnails, depth and gain maps, further pictures, EXIF, XMP, unknown boxes) is hidden from the library. Pictures put
together in other ways (overlays, identity and other derivations, other codecs) and sequences are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.errors import ImageCorrupt, UnsupportedImage
from gateway.image_avif_data import keep_apart
from gateway.image_header import ImageHeader
from gateway.image_heic_boxes import HeicBoxes, Item, Property
from gateway.image_hevc import CodedPicture, read_picture

MAX_TILES: Final = 1000
"""As many items as libheif opens by default; 48 megapixels in tiles of 512 are 192."""

MAX_DRAWN_PIXELS: Final = 500_000_000
"""Pixels of all slices together, some seconds of decoding. Nearly every encoder draws each pixel once."""

_BROKEN = "This HEIC's parts do not fit together; send the complete file."
_ALPHA_TYPES = frozenset(
    {b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:avc:2015:auxid:1"}
)
_WIDE_FIELDS = 1  # flag of a grid's data


@dataclass(slots=True)
class _Judged:
    """What decoding an item amounts to.

    Attributes:
        width: pixels, the largest that anything states.
        height: pixels, likewise.
        pixels: that are allocated at a time, at most.
        drawn: pixels that all slices may draw together.
        deep: more than 8 bits a sample.
        used: ids of the items that it takes.
    """

    width: int
    height: int
    pixels: int
    drawn: int
    deep: bool
    used: set[int]


def read_heic(data: bytes) -> ImageHeader:
    """Judge a HEIC by its boxes and its bitstreams' parameter sets.

    Args:
        data: the whole file, starting with its ``ftyp`` box.

    Raises:
        ImageCorrupt: cut short, broken, or absurdly many parts.
        UnsupportedImage: a sequence, or a picture that is no HEVC still and no grid of them.
    """
    boxes = HeicBoxes(data)
    boxes.read()
    coded: dict[int, CodedPicture] = {}
    picture = _judge(boxes, boxes.primary, coded)
    alphas = [
        (reference, _judge(boxes, reference.source, coded))
        for reference in boxes.references
        if reference.kind == b"auxl" and boxes.primary in reference.targets and _is_alpha(boxes.item(reference.source))
    ]
    judged = [picture, *(alpha for _, alpha in alphas)]
    if len(alphas) > 1 or sum(part.drawn for part in judged) > MAX_DRAWN_PIXELS:
        raise ImageCorrupt("This HEIC is far more work than its size explains; save it again with a common program.")
    used = set().union(*(part.used for part in judged))
    shown = {reference.name_at for reference, _ in alphas}
    shown |= {part.name_at for part in boxes.references if part.kind in {b"dimg", b"prem"} and part.source in used}
    hidden = [item.name_at for number, item in boxes.items.items() if number not in used]
    hidden += [reference.name_at for reference in boxes.references if reference.name_at not in shown]
    hidden += boxes.hidden
    keep_apart(hidden, boxes.stretches)
    width, height = _as_seen(picture, boxes.items[boxes.primary].properties)
    # Planes, RGB of libheif and of Pillow, the result. Measured on 12 megapixels, turned and without subsampling: 9.3
    # and 12.3 (alpha) bytes a pixel, 15.3 and 20.3 for 10 bits.
    deep = any(part.deep for part in judged)
    return ImageHeader(
        format="heic",
        width=width,
        height=height,
        frames=1,
        orientation=1,
        bytes_per_pixel=(18 if deep else 11) + (6 if alphas else 0),
        keep=((0, len(data)),),
        blank=tuple(hidden),
        decoded_pixels=max(part.pixels for part in judged),
    )


def _judge(boxes: HeicBoxes, number: int, coded: dict[int, CodedPicture]) -> _Judged:
    item = boxes.item(number)
    if item.kind == b"hvc1":
        return _judge_still(boxes, number, coded)
    if item.kind != b"grid":
        raise UnsupportedImage(
            "The picture in this file is neither an HEVC still nor a grid of them; save it as a common JPEG or HEIC."
        )
    (reference,) = [part for part in boxes.references if part.kind == b"dimg" and part.source == number] or (None,)
    content = boxes.content(item)
    field = 4 if content[1:2] and content[1] & _WIDE_FIELDS else 2
    if reference is None or len(content) != 4 + 2 * field:
        raise ImageCorrupt(_BROKEN)
    rows, columns = content[2] + 1, content[3] + 1
    width, height = int.from_bytes(content[4 : 4 + field], "big"), int.from_bytes(content[4 + field :], "big")
    if rows * columns > MAX_TILES or len(reference.targets) != rows * columns:
        raise ImageCorrupt(_BROKEN)
    tiles = [_judge_still(boxes, target, coded) for target in reference.targets]
    across, down = tiles[0].width, tiles[0].height
    # ISO/IEC 23008-12, 6.6.2.3: equal tiles that cover the picture; here also none that lies outside it.
    if any((tile.width, tile.height) != (across, down) for tile in tiles) or not (
        (columns - 1) * across < width <= columns * across and (rows - 1) * down < height <= rows * down
    ):
        raise ImageCorrupt(_BROKEN)
    stated_width, stated_height = _stated_size(item)
    return _Judged(
        width=max(width, stated_width),
        height=max(height, stated_height),
        pixels=max(width * height, stated_width * stated_height, *(tile.pixels for tile in tiles)),
        drawn=sum(tile.drawn for tile in tiles),
        deep=any(tile.deep for tile in tiles),
        used={number, *reference.targets},
    )


def _judge_still(boxes: HeicBoxes, number: int, coded: dict[int, CodedPicture]) -> _Judged:
    item = boxes.item(number)
    if item.kind != b"hvc1":
        raise ImageCorrupt(_BROKEN)
    if number not in coded:
        coded[number] = read_picture(item.the(b"hvcC"), boxes.content(item))
    found = coded[number]
    width, height = _stated_size(item)
    return _Judged(
        width=max(width, found.width),
        height=max(height, found.height),
        pixels=max(width * height, found.pixels),
        drawn=found.pixels * found.slices,
        deep=found.deep,
        used={number},
    )


def _stated_size(item: Item) -> tuple[int, int]:
    """Return (width, height) of ``ispe`` (23008-12, 6.5.3)."""
    body = item.the(b"ispe")
    width, height = int.from_bytes(body[4:8], "big"), int.from_bytes(body[8:12], "big")
    if not width or not height:
        raise ImageCorrupt("This HEIC says that it is empty: its width or height is zero.")
    return width, height


def _is_alpha(item: Item) -> bool:
    return any(part.kind == b"auxC" and part.body[4:].split(b"\0")[0] in _ALPHA_TYPES for part in item.properties)


def _as_seen(picture: _Judged, properties: list[Property]) -> tuple[int, int]:
    """Return (width, height) after cropping and turning, in the order of the properties (23008-12, 6.5.9 to 6.5.12)."""
    width, height = picture.width, picture.height
    for part in properties:
        if part.kind == b"clap":  # 14496-12, 12.1.4: width, height and offsets, each a fraction of 32 bits by 32
            across, by, down, low = (int.from_bytes(part.body[at : at + 4], "big") for at in range(0, 16, 4))
            if not by or not low or across % by or down % low or not 0 < across // by <= width:
                raise ImageCorrupt(_BROKEN)
            if not 0 < down // low <= height:
                raise ImageCorrupt(_BROKEN)
            width, height = across // by, down // low
        elif part.kind == b"irot" and part.body[:1] and part.body[0] & 1:
            width, height = height, width
    return width, height
