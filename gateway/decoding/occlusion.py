"""Which part of a view drove a score: cover one patch after another, and see how far the score falls.

Occlusion sensitivity (Zeiler and Fergus, 2014, "Visualizing and Understanding Convolutional Networks", section 4.2). A
patch is covered with the view's mean color. `python -m scripts.demo.measure_heatmap` measures how well it points, and
is where the constants come from.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from gateway.decoding.downscale import Box
from gateway.decoding.views import Place

HOT: Final = 0.3
"""From this share of the largest drop on, a part of the map belongs to the hottest part."""

CELL_PX: Final = 16
"""Side of a patch in the drawn map, pixels."""

LEAST, MOST = 1e-30, 1 - 1e-7  # of probabilities in float32, which are coarse near 1 alone
FILLED: Final = 2
RED: Final = (255, 0, 0)


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Which part of a view drove a label or category.

    Attributes:
        of: the label or category.
        place: the view.
        box: around the hottest part, in pixels of the upright image; right and bottom are exclusive.
        drops: [G, G], how far the score's logit falls where a patch is covered, rows from top to bottom.
        png: the map over the view's box, RGBA: red, as opaque as the drop is large.
    """

    of: str
    place: Place
    box: Box
    drops: npt.NDArray[np.float64]
    png: bytes


def covered(view: npt.NDArray[np.uint8], grid: int, first: int, count: int) -> npt.NDArray[np.uint8]:
    """Return a view [S, S, 3] with one patch covered a row: [n, S, S, 3], n at most ``count``.

    Args:
        view: RGB.
        grid: G; the view has G x G patches, numbered from left to right, then from top to bottom.
        first: number of the first patch.
        count: patches at most.
    """
    edges = np.linspace(0, len(view), grid + 1).round().astype(int)
    fill = view.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    numbers = range(first, min(first + count, grid * grid))
    rows = np.repeat(view[np.newaxis], len(numbers), axis=0)
    for row, number in zip(rows, numbers, strict=True):
        down, right = divmod(number, grid)
        row[edges[down] : edges[down + 1], edges[right] : edges[right + 1]] = fill
    return rows


def heat_map(of: str, place: Place, whole: float, probabilities: npt.NDArray[np.float32]) -> HeatMap | None:
    """Return the map of a view, or None where no patch matters.

    For a thread: some milliseconds.

    Args:
        of: label or category.
        place: the view's.
        whole: probability with nothing covered.
        probabilities: [G * G], with each patch covered.
    """
    grid = round(len(probabilities) ** 0.5)
    drops = (_logits(whole) - _logits(probabilities)).reshape(grid, grid)
    if drops.max() <= 0:
        return None
    drawn = Image.new("RGB", (grid * CELL_PX, grid * CELL_PX), RED)
    drawn.putalpha(Image.fromarray((_shares(drops) * 255).round().astype(np.uint8)))
    out = io.BytesIO()
    drawn.save(out, "PNG")
    return HeatMap(of, place, hottest_box(drops, place), drops, out.getvalue())


def hottest_box(drops: npt.NDArray[np.float64], place: Place, hot: float = HOT) -> Box:
    """Return the box, in pixels of the image, of what is connected with the largest drop and at least a share of it.

    Args:
        drops: [G, G], of which the largest is above 0.
        place: the view's.
        hot: the share.
    """
    shares = _shares(drops)
    down, right = np.unravel_index(int(shares.argmax()), shares.shape)
    part = Image.fromarray((shares >= min(hot, shares.max())).astype(np.uint8)).copy()  # its own pixels, to be filled
    ImageDraw.floodfill(part, (int(right), int(down)), FILLED)
    found = part.point(lambda value: int(value == FILLED)).getbbox()
    assert found is not None  # noqa: S101 - the largest drop is in it
    left, top, end, bottom = place.box
    wide, high = (end - left) / len(shares), (bottom - top) / len(shares)
    return (
        math.floor(left + found[0] * wide),
        math.floor(top + found[1] * high),
        min(end, math.ceil(left + found[2] * wide)),
        min(bottom, math.ceil(top + found[3] * high)),
    )


def _shares(drops: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return drops as shares 0 to 1 of the largest, with soft edges: [G, G] → [G * CELL_PX, G * CELL_PX]."""
    side = len(drops) * CELL_PX
    shares = Image.fromarray((drops.clip(0) / drops.max()).astype(np.float32))
    return np.asarray(shares.resize((side, side), Image.Resampling.BILINEAR)).clip(0, 1)


def _logits(probabilities: npt.ArrayLike) -> npt.NDArray[np.float64]:
    clipped = np.clip(np.asarray(probabilities, np.float64), LEAST, MOST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
