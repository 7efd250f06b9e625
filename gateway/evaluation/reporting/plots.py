"""Drawings of a report, by matplotlib.

Their colors in the SVG are variables of the page, so that one drawing is readable on light and dark pages.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter
from sklearn.metrics import precision_recall_curve, roc_curve

from gateway.evaluation.intervals import Interval
from gateway.evaluation.metrics import RATES, CategoryFigures
from gateway.evaluation.reporting.wording import number, percent
from gateway.evaluation.section import Figure

INK, MUTED, GRID, FIRST, SECOND, THIRD = "#1f2328", "#59636e", "#d8dee4", "#1b5fc1", "#b4500f", "#6f42c1"
VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        INK: "var(--ink)",
        MUTED: "var(--muted)",
        GRID: "var(--grid)",
        FIRST: "var(--first)",
        SECOND: "var(--second)",
        THIRD: "var(--third)",
        "#000000": "var(--ink)",
        "#ffffff": "var(--card)",
    }
)
"""Color of a drawing → the page's variable; black and white are those of drawings that other steps add."""

SIZE = (4.4, 3.3)  # inches
PNG_DPI = 130
HISTOGRAM_BINS = 40

STYLE: Mapping[Any, Any] = MappingProxyType(
    {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a category may be named with a $
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "legend.frameon": False,
        "figure.subplot.left": 0.13,
        "figure.subplot.right": 0.94,
        "figure.subplot.bottom": 0.14,
        "figure.subplot.top": 0.93,
        "figure.subplot.hspace": 0.35,
    }
)


def drawn(name: str, caption: str, drawing: Drawing) -> Figure:
    """Return a matplotlib drawing as a figure of a report."""
    svg, png = io.StringIO(), io.BytesIO()
    with mpl.rc_context(dict(STYLE)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the PNG's font may lack one; the page's has it
        drawing.savefig(svg, format="svg", transparent=True)
        drawing.savefig(png, format="png", dpi=PNG_DPI, facecolor="white")
    return Figure(name, caption, svg.getvalue(), png.getvalue())


def inline(figure: Figure) -> str:
    """Return a figure's SVG to stand within a page: no address, no style of its own, names that no other has."""
    svg = figure.svg[figure.svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style|script)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", svg)
    svg = re.sub(r'^<svg([^>]*?)\swidth="[^"]*"([^>]*?)\sheight="[^"]*"', r"<svg\1\2", svg)
    svg = re.sub(r"\s*font-family:[^;\"]*;?|\s*on\w+=\"[^\"]*\"", "", svg)
    prefix = f"{figure.name}-"
    svg = re.sub(r'\sid="(?:figure|axes|patch|line2d|text|xtick|ytick|legend|matplotlib\.axis)_\d+"', "", svg)
    svg = re.sub(r'\b(id="|href="#)', rf"\g<1>{prefix}", svg).replace("url(#", f"url(#{prefix}")
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, variable)
    return svg.replace("xlink:href", "href").replace("<svg", '<svg aria-hidden="true"', 1)


def category_drawings(figures: CategoryFigures, key: str) -> list[Figure]:
    """Return ROC, precision and recall, scores, and reliability of a category; less where a class is missing.

    Args:
        figures: of the category.
        key: that begins the names of the files.
    """
    named = f"“{figures.category}”"
    with mpl.rc_context(dict(STYLE)):
        found = [_histogram(figures, f"{key}-scores", named), _reliability(figures, f"{key}-reliability", named)]
        if 0 < figures.positives < len(figures.truth):
            found = [_roc(figures, f"{key}-roc", named), _precision_recall(figures, f"{key}-precision", named), *found]
    return found


def confusion(name: str, labels: Sequence[str], columns: Sequence[str], counts: np.typing.NDArray[np.int64]) -> Figure:
    """Return a confusion matrix.

    Args:
        name: of the file.
        labels: R true labels, from the top down.
        columns: C answers, from left to right.
        counts: [R, C] images.
    """
    side = 1.6 + 0.5 * max(len(labels), len(columns))
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        drawing = Drawing(figsize=(max(SIZE[0], side), max(SIZE[1], 0.8 * side)), layout="constrained")
        axes = drawing.add_subplot()
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for row, column in np.argwhere(counts > 0):
            axes.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5),
                    1,
                    1,
                    facecolor=FIRST if labels[row] == columns[column] else SECOND,
                    alpha=0.08 + 0.5 * shares[row, column],
                )
            )
            axes.text(column, row, number(int(counts[row, column])), ha="center", va="center")
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(labels) - 0.5, -0.5), xlabel="answer", ylabel="truth")
        axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), labels)
    return drawn(name, "Confusion matrix: images by their true label (rows) and the answer (columns).", drawing)


def _axes(**values: object) -> tuple[Drawing, Axes]:
    drawing = Drawing(figsize=SIZE)
    axes = drawing.add_subplot()
    axes.set(**values)
    return drawing, axes


def _roc(figures: CategoryFigures, name: str, named: str) -> Figure:
    drawing, axes = _axes(xlabel="false-positive rate (log scale)", ylabel="recall", xscale="log", ylim=(0, 1.02))
    alarms, recall, _ = roc_curve(figures.truth, figures.scores)
    left = RATES[0] / 2
    axes.set_xlim(left, 1)
    axes.plot(np.maximum(alarms, left), recall, color=FIRST, drawstyle="steps-post", linewidth=1.8)
    chance = np.geomspace(left, 1, 60)
    axes.plot(chance, chance, color=MUTED, linestyle=":", linewidth=1)
    rates = [rate for rate in RATES if figures.recall_at[rate].value is not None]
    values = [figures.recall_at[rate].value or 0.0 for rate in rates]
    found = [figures.recall_at[rate] for rate in rates]
    axes.errorbar(rates, values, _whiskers(found), color=FIRST, fmt="o", markersize=4, capsize=3, linewidth=1)
    for point, label, mark in ((figures.review, "review", "s"), (figures.block, "block", "D")):
        if point is not None and point.recall.value is not None:
            place = max(point.false_positives.value or 0.0, left)
            axes.plot(place, point.recall.value, mark, color=SECOND, markersize=6, clip_on=False, label=label)
            axes.legend(loc="lower center", frameon=False, labelcolor=SECOND)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    caption = (
        f"ROC curve of {named}: recall by false-positive rate. Dots: 0.1, 1 and 5 %, with 95 % intervals; "
        f"square, diamond: the policy's thresholds; dotted: guessing."
    )
    return drawn(
        name, caption if figures.review else caption.replace("; square, diamond: the policy's thresholds", ""), drawing
    )


def _precision_recall(figures: CategoryFigures, name: str, named: str) -> Figure:
    drawing, axes = _axes(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    precision, recall, _ = precision_recall_curve(figures.truth, figures.scores, drop_intermediate=True)
    axes.plot(recall, precision, color=FIRST, linewidth=1.8, drawstyle="steps-post")
    common = figures.positives / len(figures.truth)
    axes.axhline(common, color=MUTED, linestyle=":", linewidth=1)
    for point, label, mark, below in ((figures.review, "review", "s", -25), (figures.block, "block", "D", -12)):
        if point is not None and point.recall.value is not None and point.precision.value is not None:
            axes.plot(point.recall.value, point.precision.value, mark, color=SECOND, markersize=6, clip_on=False)
            axes.annotate(
                label,
                (point.recall.value, point.precision.value),
                (-9, below),
                textcoords="offset points",
                color=SECOND,
                ha="right",
            )
    caption = (
        f"Precision of {named} by recall, where {percent(common)} of the images are of it, as here; it is lower where "
        f"they are rarer. Dotted: guessing."
    )
    return drawn(name, caption, drawing)


def _histogram(figures: CategoryFigures, name: str, named: str) -> Figure:
    drawing = Drawing(figsize=SIZE)
    both = drawing.subplots(2, 1, sharex=True)
    sides = ((figures.truth, f"{figures.category[:24]}", FIRST), (~figures.truth, "all others", MUTED))
    for axes, (side, title, color) in zip(both, sides, strict=True):
        axes.hist(figures.scores[side], bins=HISTOGRAM_BINS, range=(0, 1), color=color, log=bool(side.any()))
        axes.set_ylim(bottom=0.7)
        axes.set_xlim(0, 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"{title}: {number(int(side.sum()))}", loc="left", fontsize=9)
        for point, style in ((figures.review, "--"), (figures.block, "-")):
            if point is not None:
                axes.axvline(point.at, color=SECOND, linestyle=style, linewidth=1.4)
    both[1].set_xlabel("score")
    drawing.supylabel("images (log scale)", fontsize=9)
    caption = f"Scores of {named}, of images that are of it (top) and of all others (bottom)."
    lines = " Lines: from there on review (dashed) and block (solid)." if figures.review else ""
    return drawn(name, caption + lines, drawing)


def _reliability(figures: CategoryFigures, name: str, named: str) -> Figure:
    drawing, axes = _axes(xlabel="score", ylabel="share that is true", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1)
    found = figures.reliability
    values = [entry.value or 0.0 for entry in found.shares]
    axes.errorbar(
        found.scores, values, _whiskers(found.shares), color=FIRST, fmt="o-", markersize=4, capsize=2, linewidth=1.2
    )
    caption = (
        f"Reliability of {named}: how often it is true, by score, with 95 % intervals; on the dotted line a score is a "
        f"probability. Expected calibration error {found.error:.3f}."
    )
    return drawn(name, caption, drawing)


def _whiskers(intervals: Sequence[Interval]) -> np.typing.NDArray[np.float64]:
    """Return [2, k]: how far each interval reaches below and above its value."""
    ends = [
        [(entry.value or 0.0) - (entry.low or 0.0), (entry.high or 0.0) - (entry.value or 0.0)] for entry in intervals
    ]
    return np.maximum(np.array(ends, np.float64).reshape(-1, 2).T, 0)
