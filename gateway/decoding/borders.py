"""Bars around an image: where its content lies without them.

They are looked for in the square that the model sees of the whole image, made 72 pixels or a little more, so that
finding them takes about a millisecond and a box is right to a 72nd of a side. Bars come in pairs, above and below or
left and right, or as a frame:

* **of one colour**: rows of one colour from the edge on, the same on both sides, that end at a line: what begins there
  differs from that colour along most of it. An object on a plain ground has no such line.
* **blurred**: smooth strips of equal width that end in a step on both sides and show an enlarged copy of the content,
  as programs fill the ground of upright videos: the strips correlate with what such a copy would show.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.decoding.downscale import Box

Floats = npt.NDArray[np.float32]
Span = tuple[int, int]

LEAST_BAR: Final = 0.03
"""Share of a side that each bar takes at least."""
LEAST_CONTENT: Final = 0.2
"""Share of a side that is left at least."""

_SIDE_PX: Final = 72
_ALIKE: Final = 12.0  # levels: what the noise of a JPEG and the ringing of a resize come to on a plain ground
_ODD: Final = 0.02  # share of a row that may differ from the rest of a bar
_LINE, _FRAME_LINE = 0.5, 0.9
_BLEND: Final = 0.75  # of the difference that the next row has
_STEPS_TRIED: Final = 8
_STEP_LEVELS, _STEP_RATIO = 2.0, 0.5  # where content begins, against the steepest within the bars
_LEAST_CORRELATION: Final = 0.7


def content_box(square: npt.NDArray[np.uint8], width: int, height: int) -> Box | None:
    """Return where an image's content lies, in its pixels; None where it has no bars.

    Args:
        square: uint8 [S, S, 3], the whole image stretched to a square.
        width: of the image, pixels.
        height: likewise.
    """
    step = max(1, len(square) // _SIDE_PX)
    side = len(square) // step
    margin = (len(square) - side * step) // 2
    inner = slice(margin, margin + side * step)
    cells = square[inner, inner].reshape(side, step, side, step, 3)
    samples = cells.mean(axis=(1, 3), dtype=np.float32)
    sideways = samples.transpose(1, 0, 2)
    rows, columns = _within_plain_bars(samples) or _within_plain_bars(sideways, turned=True) or (None, None)
    if rows is None and columns is None:
        rows = _within_blurred_bars(samples)
        columns = None if rows else _within_blurred_bars(sideways)
    if rows is None and columns is None:
        return None

    def in_pixels(span: Span | None, length: int) -> Span:
        if span is None:
            return 0, length
        start, end = ((margin + step * at) * length / len(square) for at in span)
        return math.ceil(start), int(end)

    (left, right), (top, bottom) = in_pixels(columns, width), in_pixels(rows, height)
    return left, top, right, bottom


def _middle(row: Floats) -> Floats:
    """Return the median colour [3] of a row (``np.median`` would import modules when a decoder is confined)."""
    return np.asarray(np.sort(row, axis=0)[len(row) // 2])


def _fits(start: int, end: int, side: int) -> bool:
    return min(start, side - end) >= max(2, LEAST_BAR * side) and end - start >= LEAST_CONTENT * side


def _within_plain_bars(samples: Floats, *, turned: bool = False) -> tuple[Span | None, Span | None] | None:
    """Return the rows and the columns between bars of the first row's colour, None for a side without.

    Args:
        samples: [S, S, 3].
        turned: columns stand in for rows.
    """
    difference = np.abs(samples - _middle(samples[0])).max(axis=2)  # [rows, columns]
    differs = difference > _ALIKE
    spans = []
    for axis in (1, 0):
        content = np.flatnonzero(differs.mean(axis=axis) > _ODD)
        if not len(content):
            return None
        spans.append((int(content[0]), int(content[-1]) + 1))
    barred = [_fits(*span, len(samples)) for span in spans]
    within = (slice(*spans[0]), slice(*spans[1]))
    part = differs[within]
    # Where a bar ends within a row of the square, that row is a blend: the next one is the content's.
    lines = [
        min(shares[:2].max(), shares[-2:].max())
        for shares, bars in zip((part.mean(1), part.mean(0)), barred, strict=True)
        if bars
    ]
    if not barred[0] or min(lines) < (_FRAME_LINE if all(barred) else _LINE):
        return None
    depths = (difference[within].mean(axis=1), difference[within].mean(axis=0))
    found = [_without_blends(*of) if bars else None for *of, bars in zip(spans, depths, barred, strict=True)]
    return (found[1], found[0]) if turned else (found[0], found[1])


def _without_blends(span: Span, depths: Floats) -> Span:
    """Return a span without its first and last row where they are half a bar's.

    Args:
        span: rows [start, end).
        depths: of each of them, the mean difference from the bars' colour.
    """
    return span[0] + int(depths[0] < _BLEND * depths[1]), span[1] - int(depths[-1] < _BLEND * depths[-2])


def _within_blurred_bars(samples: Floats) -> Span | None:
    """Return the rows [start, end) between blurred bars above and below."""
    side = len(samples)
    steps = np.abs(np.diff(samples, axis=0)).mean(axis=(1, 2))  # of row k to row k + 1
    both = np.minimum(steps, steps[::-1])
    best, found = _LEAST_CORRELATION, None
    for start in map(int, np.argsort(-both[: side // 2], kind="stable")[:_STEPS_TRIED] + 1):
        if not _fits(start, side - start, side):
            continue
        smooth = np.concatenate([steps[: max(0, start - 2)], steps[side - start + 1 :]])
        if both[start - 1] < max(_STEP_LEVELS, _STEP_RATIO * float(smooth.max(initial=0))):
            continue
        correlation = _correlation(samples, start)
        if correlation >= best:
            best, found = correlation, (start, side - start)
    return found


def _correlation(samples: Floats, start: int) -> float:
    """Return how far both bars are an enlarged copy of the content between them, -1 to 1.

    The copy fills the image: the content's rows are stretched over all rows, and of its columns the middle ones are
    seen, as few as there are rows of content. Colours may be darker or paler than the content's.
    """
    side = len(samples)
    content = samples[start : side - start]
    share = len(content) / side
    rows = (start + (np.arange(side) + 0.5) * share).astype(int)
    columns = (side * (0.5 + ((np.arange(side) + 0.5) / side - 0.5) * share)).astype(int)
    blurred = _blurred(samples, start, max(2, side // 12))
    copy = blurred[rows][:, columns]
    bars = np.r_[0 : start - 1, side - start + 1 : side]
    seen, expected = samples[bars].reshape(-1, 3), copy[bars].reshape(-1, 3)
    seen, expected = seen - seen.mean(axis=0), expected - expected.mean(axis=0)
    spread = float(np.sqrt((seen**2).sum() * (expected**2).sum()))
    return float((seen * expected).sum() / spread) if spread > len(bars) * side else 0.0


def _blurred(samples: Floats, start: int, radius: int) -> Floats:
    """Return the samples with each content pixel the mean of those around it, which bars are none of."""
    content = samples[start : len(samples) - start]
    padded = np.pad(content, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    for axis in (0, 1):
        total = np.cumsum(padded, axis=axis, dtype=np.float64)
        width = 2 * radius
        ahead, behind = (
            np.take(total, range(width, total.shape[axis]), axis),
            np.take(total, range(total.shape[axis] - width), axis),
        )
        padded = ((ahead - behind) / width).astype(np.float32)
    made = samples.copy()
    made[start : len(samples) - start] = padded
    return made
