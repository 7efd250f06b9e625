"""Figures with the interval that the number of images allows.

Images of one group count as one draw everywhere: shares get the exact interval of Clopper and Pearson (1934) with the
number of groups as the number of draws (Korn and Graubard 1998, at the worst design effect), areas under curves the
bias-corrected and accelerated bootstrap (Efron 1987) over groups, stratified by truth.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 14
ACCELERATED_GROUPS = 4000  # beyond, the percentile interval is as good and its cost is linear
CELLS = 2_000_000  # of the tables of weights that are in memory at once

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, and between what it may truly lie at 95 % confidence; all None where nothing was there to count."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def json(self) -> dict[str, float | None]:
        """As ``report.json`` has it."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Enough:
    """Whether harmless images suffice to promise a false-positive rate at 95 %.

    Attributes:
        rate: false-positive rate, 0 to 1.
        needed: that many without one false alarm certify it.
        here: groups of images at hand.
    """

    rate: float
    needed: int
    here: int

    @property
    def missing(self) -> int:
        """0 where there are enough."""
        return max(0, self.needed - self.here)


def share(found: Bools, groups: npt.NDArray[np.intp]) -> Interval:
    """Return the share of True, with its exact interval.

    Args:
        found: [n].
        groups: [n] numbers of the groups; those of a group are one draw.
    """
    return proportion(float(found.sum()), len(found), len(np.unique(groups)))


def proportion(count: float, of: float, draws: float) -> Interval:
    """Return count / of with the Clopper-Pearson interval of that share of ``draws`` draws."""
    if of == 0:
        return Interval()
    value = count / of
    hits, tail = value * draws, (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else float(stats.beta.ppf(tail, hits, draws - hits + 1))
    high = 1.0 if count == of else float(stats.beta.ppf(1 - tail, hits + 1, draws - hits))
    return Interval(value, low, high)


def enough(rate: float, here: int) -> Enough:
    """Return how many images without a false alarm certify a rate: the least n with (1 - rate)^n ≤ 5 %."""
    return Enough(rate, math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-rate)), here)


def curve_areas(scores: Floats, truth: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Return the area under the ROC curve and the average precision of many weightings at once.

    They are those of scikit-learn's ``roc_auc_score`` and ``average_precision_score`` with ``sample_weight``, which
    take one weighting a call.

    Args:
        scores: [n].
        truth: [n].
        weights: [B, n], at least 0, of each class more than 0 in each row.

    Returns:
        Two arrays [B], 0 to 1.
    """
    order = np.argsort(-scores, kind="stable")
    falling, true = scores[order], truth[order]
    ends = np.flatnonzero(np.r_[falling[1:] != falling[:-1], True])  # equal scores are one threshold
    sorted_weights = weights[:, order]
    hits = np.cumsum(sorted_weights * true, axis=1)[:, ends]
    alarms = np.cumsum(sorted_weights * ~true, axis=1)[:, ends]
    new_hits, new_alarms = np.diff(hits, axis=1, prepend=0), np.diff(alarms, axis=1, prepend=0)
    positives, negatives = hits[:, -1], alarms[:, -1]
    area = (new_hits * (negatives[:, None] - alarms + new_alarms / 2)).sum(axis=1) / (positives * negatives)
    flagged = hits + alarms
    precision = np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0)
    return area, (new_hits * precision).sum(axis=1) / positives


@dataclass(frozen=True, slots=True)
class Strata:
    """Groups of images, those with something true apart from the others: each stratum is drawn from by itself.

    Attributes:
        groups: [n] numbers from 0.
        strata: numbers of the groups of each stratum.
    """

    groups: npt.NDArray[np.intp]
    strata: tuple[npt.NDArray[np.intp], ...]

    def weights(self, drawn: Sequence[npt.NDArray[np.intp]]) -> Floats:
        """Return [B, n]: how often each image is in each of B draws, given the groups drawn [B, g] a stratum."""
        ids = np.concatenate(drawn, axis=-1)
        count = int(self.groups.max()) + 1
        rows = np.arange(len(ids))[:, None]
        times = np.bincount((ids + count * rows).ravel(), minlength=count * len(ids)).reshape(len(ids), count)
        return np.asarray(times[:, self.groups], float)


def strata_of(truth: Bools, names: Sequence[str]) -> Strata:
    """Return groups by name, stratified by whether any image of a group is true."""
    groups = np.unique(np.asarray(names, dtype=str), return_inverse=True)[1].astype(np.intp)
    true = np.bincount(groups, weights=truth) > 0
    return Strata(groups, (np.flatnonzero(true), np.flatnonzero(~true)))


def area_intervals(scores: Floats, truth: Bools, names: Sequence[str]) -> tuple[Interval, Interval]:
    """Return ROC AUC and average precision with bootstrap intervals; empty ones where a class is missing.

    Where every positive stands above every other image each resample says 1. Then the low end is the exact one of as
    many independent trials as there are: pairs of one positive and one other for the AUC, positives for the average
    precision.
    """
    values = curve_areas(scores, truth, np.ones((1, len(scores)))) if 0 < truth.sum() < len(truth) else None
    strata = strata_of(truth, names)
    if values is None or not all(len(ids) for ids in strata.strata):
        return Interval(), Interval()

    def statistic(*drawn: npt.NDArray[np.intp], axis: int = -1) -> Floats:
        shape = drawn[0].shape[:axis]
        rows = [ids.reshape(-1, ids.shape[axis]) for ids in drawn]
        step = max(1, CELLS // len(scores))
        parts = [
            curve_areas(scores, truth, strata.weights([ids[start : start + step] for ids in rows]))
            for start in range(0, len(rows[0]), step)
        ]
        return np.concatenate([np.stack(part) for part in parts], axis=1).reshape(2, *shape)

    lows, highs = _bootstrap(strata, statistic)
    trials = (min(map(len, strata.strata)), len(strata.strata[0]))
    found = []
    for value, low, high, many in zip((float(area[0]) for area in values), lows, highs, trials, strict=True):
        certain = proportion(many, many, many).low if value == 1 else None
        found.append(Interval(value, min(value, low if certain is None else min(low, certain)), max(value, high)))
    return found[0], found[1]


def _bootstrap(strata: Strata, statistic: object) -> tuple[list[float], list[float]]:
    groups = sum(map(len, strata.strata))
    accelerated = groups <= ACCELERATED_GROUPS and all(len(ids) > 1 for ids in strata.strata)
    # A stratum of one group is always itself: twice the same draw, which scipy takes for a sample.
    data = [ids if len(ids) > 1 else np.repeat(ids, 2) for ids in strata.strata]
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # seen below: its ends are not numbers
        drawn = stats.bootstrap(
            data,
            statistic,
            n_resamples=RESAMPLES,
            batch=max(1, CELLS // groups),
            vectorized=True,
            confidence_level=CONFIDENCE,
            method="BCa" if accelerated else "percentile",
            rng=SEED,
        )
    plain = np.quantile(drawn.bootstrap_distribution, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=-1)
    ends = drawn.confidence_interval
    low, high = np.where(np.isfinite([ends.low, ends.high]), [ends.low, ends.high], plain)
    return [float(end) for end in low], [float(end) for end in high]


def recall_at(rate: float, scores: Floats, truth: Bools, names: Sequence[str]) -> Interval:
    """Return the recall at a false-positive rate, with an interval for where the true threshold may lie.

    The value is the recall at the least threshold with at most that rate of false positives here. The threshold that
    truly has the rate lies between two order statistics of the negatives' scores, at 95 % by the binomial
    distribution; the ends are the exact ends of the recall at these two. Where too few negatives are here for the
    upper one, nothing is certain and the low end is 0.

    Args:
        rate: 0 to 1.
        scores: [n].
        truth: [n].
        names: [n] groups.
    """
    if not 0 < truth.sum() < len(truth):
        return Interval()
    named = np.asarray(names, dtype=str)
    positives, negatives = scores[truth], np.sort(scores[~truth])[::-1]
    draws, pos_draws = len(np.unique(named[~truth])), len(np.unique(named[truth]))
    scale = len(negatives) / draws  # images a draw
    tail = (1 - CONFIDENCE) / 2
    certain = max(int(stats.binom.ppf(tail, draws, rate)), int(enough(rate, draws).missing == 0))
    possible = int(stats.binom.ppf(1 - tail, draws, rate))

    def above(rank: float) -> int:  # positives above the negative of that rank, from 0
        place = int(rank)
        return int((positives > negatives[place]).sum()) if place < len(negatives) else len(positives)

    value = above(rate * len(negatives) + 1e-9) / len(positives)
    strict = above(max(0.0, certain * scale - 1))
    low = proportion(strict, len(positives), pos_draws).low if certain else 0.0
    high = proportion(above(possible * scale), len(positives), pos_draws).high
    return Interval(value, min(value, low or 0.0), max(value, 1.0 if high is None else high))
