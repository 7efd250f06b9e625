"""An image to the squares that the model sees.

Resampling is Pillow's bicubic on 8-bit RGB, as in the reference transform of OpenAI's CLIP (``clip.clip._transform``:
torchvision ``Resize`` and ``CenterCrop``). Pixels stay uint8: mean and standard deviation belong to the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from gateway.decoding.borders import content_box
from gateway.decoding.downscale import Box, Scale, resized

ViewRule = Literal["center", "full", "tiles"]
MAX_TILES = 5
_OVERLAP = 0.25
"""Least share of a tile that its neighbour sees too, so that nothing is met only in halves."""

_WHOLE_RESIZE_PIXELS = 4_000_000
"""Up to this many pixels (16 MB) the whole image is resized and then cropped, in one go as the reference does."""

_SLAB_COLUMNS = 32


@dataclass(frozen=True, slots=True)
class View:
    """One square as the model sees it.

    Attributes:
        name: ``center``, ``full``, ``content``, or ``tile 1`` and so on, from left to right or top to bottom.
        box: (left, top, right, bottom) in pixels of the upright image; right and bottom are exclusive.
        pixels: uint8 [size_px, size_px, 3], RGB.
    """

    name: str
    box: Box
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row of pixels or scores comes from: view, box in the upright image, milliseconds into an animation."""

    view: Annotated[str, Field(pattern=r"^(center|full|content|tile [1-9])$")]
    box: Box
    frame_ms: Annotated[int, Field(ge=0, le=1 << 31)] | None


def cut_views(
    rgb: Image.Image, rule: ViewRule, *, size_px: int, resize_px: int, scale: Scale | None = None
) -> tuple[View, ...]:
    """Cut an image into views.

    * ``center``: the reference transform; blind at the ends of the longer side.
    * ``full``: the whole image stretched to the square.
    * ``tiles``: ``full``, and squares of the short side spread evenly along the long one, at most ``MAX_TILES``. Where
      that many squares cannot cover the image (longer than 5:1), they become wider rectangles stretched to the
      square, so that no pixel is left out.

    Where the image has bars around it (``borders.py``), ``full`` and ``tiles`` have one view more: ``content``, the
    image without them, stretched to the square.

    Args:
        rgb: mode RGB, upright.
        rule: which views.
        size_px: side of the model's square.
        resize_px: what ``center`` resizes the shorter side to before cropping; at least ``size_px``.
        scale: how the image lies in ``rgb``, where that is smaller than the image; None: pixel by pixel.
    """
    if resize_px < size_px:
        raise ValueError("resize_px must be at least size_px")
    scale = scale or Scale(rgb.width, rgb.height)
    if rule == "center":
        return (_center(rgb, scale, size_px=size_px, resize_px=resize_px),)
    boxes: list[tuple[str, Box]] = [("full", (0, 0, scale.width, scale.height))]
    if rule == "tiles":
        tiles = tile_boxes(scale.width, scale.height)
        boxes += [(f"tile {number}", box) for number, box in enumerate(tiles, start=1)]
    views = [View(name, box, np.asarray(resized(rgb, scale, box, (size_px, size_px)))) for name, box in boxes]
    content = content_box(views[0].pixels, scale.width, scale.height)
    if content is not None:
        views.append(View("content", content, np.asarray(resized(rgb, scale, content, (size_px, size_px)))))
    return tuple(views)


def most_views(rules: frozenset[ViewRule], width: int, height: int) -> int:
    """Return how many views these rules may cut from an image of this size, whichever way it is turned."""
    whole = 2 if rules & {"full", "tiles"} else 0  # and without bars
    return ("center" in rules) + whole + (len(tile_boxes(width, height)) if "tiles" in rules else 0)


def tile_boxes(width: int, height: int) -> tuple[Box, ...]:
    """Return the boxes (left, top, right, bottom) of the tiles; none for a square image, which ``full`` shows.

    Together they cover every pixel, the first and the last touch the ends, and neighbours overlap by a quarter of
    their length (by less between 4:1 and 5:1, where squares still suffice).
    """
    short, long = min(width, height), max(width, height)
    if short == long:
        return ()
    length = short
    if long > MAX_TILES * short:
        length = math.ceil(long / (MAX_TILES - (MAX_TILES - 1) * _OVERLAP))
    count = min(MAX_TILES, 1 + math.ceil((long - length) / ((1 - _OVERLAP) * length)))
    starts = [round(index * (long - length) / (count - 1)) for index in range(count)]
    if width >= height:
        return tuple((start, 0, start + length, height) for start in starts)
    return tuple((0, start, width, start + length) for start in starts)


def _center(rgb: Image.Image, scale: Scale, *, size_px: int, resize_px: int) -> View:
    """The reference transform: shorter side to ``resize_px``, then the middle ``size_px`` square.

    The longer side is truncated as in torchvision's ``Resize``, the margin rounded half to even as in its
    ``CenterCrop`` (``int(round(margin / 2))``).
    """
    width, height = scale.width, scale.height
    short = min(width, height)
    wide = resize_px if width == short else int(resize_px * width / height)
    high = resize_px if height == short else int(resize_px * height / width)
    left, top = round((wide - size_px) / 2), round((high - size_px) / 2)
    if wide * high <= _WHOLE_RESIZE_PIXELS or scale.factor > 1:  # what has been made smaller is shrunk by 3 and more
        whole = resized(rgb, scale, (0, 0, width, height), (wide, high))
        square = whole.crop((left, top, left + size_px, top + size_px))
    else:
        square = _resize_window(rgb, (wide, high), (left, top), size_px)
    box = (
        math.floor(left * width / wide),
        math.floor(top * height / high),
        min(math.ceil((left + size_px) * width / wide), width),
        min(math.ceil((top + size_px) * height / high), height),
    )
    return View("center", box, np.asarray(square))


def _resize_window(rgb: Image.Image, size: tuple[int, int], corner: tuple[int, int], size_px: int) -> Image.Image:
    """Compute a square window of a resize that is too large to hold, pixel for pixel the same.

    Pillow resizes columns first, then rows, each to 8 bits. Here the columns are dropped that nobody asks for before
    the rows are resized, and the rows of a few columns at a time.

    Args:
        rgb: mode RGB.
        size: (width, height) of the whole resize.
        corner: (left, top) of the window in it.
        size_px: side of the window.
    """
    (wide, high), (left, top) = size, corner
    columns = rgb.resize((wide, rgb.height), Image.Resampling.BICUBIC).crop((left, 0, left + size_px, rgb.height))
    window = Image.new("RGB", (size_px, size_px))
    for start in range(0, size_px, _SLAB_COLUMNS):
        end = min(start + _SLAB_COLUMNS, size_px)
        slab = columns.crop((start, 0, end, rgb.height)).resize((end - start, high), Image.Resampling.BICUBIC)
        window.paste(slab.crop((0, top, end - start, top + size_px)), (start, 0))
    return window
