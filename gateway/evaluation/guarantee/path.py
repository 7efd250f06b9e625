"""One order in which the thresholds of all categories move together, and the place in it that keeps a risk.

A promise about a policy is about all its rules at once, and testing every combination of thresholds would use up the
confidence. So the thresholds move on one path: row 0 lets every image reach its threshold, each row is stricter in
every category, and the last row lets none. Where on the path a risk is kept is then a question of one parameter, which
fixed sequence testing answers for as many rows as one likes without a price (Bauer, 1991; Angelopoulos et al., Learn
then Test, 2021). MAPIE does the testing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from mapie.risk_control import BinaryClassificationController

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

STEPS = 2000
DECIMALS = 7  # of a threshold; float32 scores near 1 lie 6e-8 apart
LOGIT_LIMIT = 16.2  # of a score of 1 - 1e-7
MOST_TESTED = 256  # rows; MAPIE holds 8 bytes for each and each image
MIN_SPREAD = 0.25  # logits; a category whose scores hardly differ does not take the path's rows for itself


@dataclass(frozen=True, slots=True)
class ThresholdPath:
    """Thresholds by row.

    Attributes:
        thresholds: [rows, categories], ascending; 0 in the first row, infinity in the last. A score reaches a row where
            it is at least the threshold.
    """

    thresholds: Floats

    @classmethod
    def through(cls, origin: Floats, spread: Floats) -> ThresholdPath:
        """Return the path whose thresholds have the logits origin + x spread, for x from everything to nothing.

        Args:
            origin: [categories], logits.
            spread: [categories], logits for each step of 1; less than ``MIN_SPREAD`` counts as that.
        """
        spread = np.maximum(spread, MIN_SPREAD)
        start, end = ((-LOGIT_LIMIT - origin) / spread).min(), ((LOGIT_LIMIT - origin) / spread).max()
        logits = origin + np.linspace(start, end, STEPS)[:, None] * spread
        scale = 10**DECIMALS
        inner = np.ceil(scale / (1 + np.exp(-logits))) / scale  # rounded up: no more images reach it than were tested
        inner[inner >= 1] = np.inf
        edge = np.zeros((1, len(origin)))
        return cls(np.vstack([edge, inner, edge + np.inf]))

    @property
    def last(self) -> int:
        """The row that no image reaches."""
        return len(self.thresholds) - 1

    def reached(self, scores: Floats) -> Rows:
        """Return [n]: the strictest row that an image reaches in any category.

        Args:
            scores: [n, categories], 0 to 1.
        """
        columns = zip(self.thresholds.T, scores.T, strict=True)
        rows: Rows = np.max([np.searchsorted(column, given, "right") - 1 for column, given in columns], axis=0)
        return rows

    def at(self, row: int) -> tuple[float | None, ...]:
        """Return a threshold a category; None where no score reaches it."""
        return tuple(float(value) if np.isfinite(value) else None for value in self.thresholds[row])


def loosest_row(reached: Rows, last: int, level: float, confidence: float) -> int | None:
    """Return the loosest row that at most a share of images reaches, at a confidence; None where no row is certain.

    Args:
        reached: [n], one of each independent draw.
        last: the row that none reaches.
        level: the share, above 0, below 1.
        confidence: that the share of the population which the images were drawn from is within the level.
    """
    rows = np.unique(np.append(reached + 1, last))  # between these the same images reach a row
    return min(_kept(reached, rows, level, confidence), default=None)


def strictest_row(reached: Sequence[Rows], level: float, confidence: float) -> int | None:
    """Return the strictest row that at most a share of images misses, of each of several kinds; None where none is.

    One row for all kinds costs no confidence: it is wrong only if it is wrong for the kind that needs the loosest row.

    Args:
        reached: of each kind [n], one of each independent draw.
        level: share missed, above 0, below 1.
        confidence: that the share is within the level for all kinds together.
    """
    found = []
    for kind in reached:  # an image misses a row where it reaches none above the one before
        rows = np.unique(np.append(kind, 0))
        found.append([1 - negative for negative in _kept(-kind, 1 - rows, level, confidence)])
    return min(max(rows) for rows in found) if found and all(found) else None


def _kept(values: Rows, limits: Rows, level: float, confidence: float) -> list[int]:
    """Return the limits that at most a share of values is at or above, by exact binomial tests in a fixed sequence."""
    if len(values) == 0:
        return []
    below = np.searchsorted(np.sort(values), limits)
    limits = limits[len(values) - below <= level * len(values)]  # no other can pass
    limits = limits[::-1][:: len(limits) // MOST_TESTED + 1]
    if len(limits) == 0:
        return []
    controller = BinaryClassificationController(
        predict_function=lambda given: np.column_stack([given, given]),
        risk="predicted_positive_fraction",
        target_level=level,
        confidence_level=confidence,
        best_predict_param_choice="predicted_positive_fraction",
        list_predict_params=limits.astype(float),
        fwer_method="fixed_sequence",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no limit is valid, or that all are
        controller.calibrate(values.astype(float), np.zeros(len(values), int))
    return [int(limit) for limit in controller.valid_predict_params]
