"""How good a policy or classifier is: pure functions of judged images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_fscore_support

from gateway.evaluation.intervals import (
    Bools,
    Enough,
    Floats,
    Interval,
    area_intervals,
    enough,
    recall_at,
    share,
    strata_of,
)
from gateway.evaluation.judged import JudgedSet
from gateway.moderation.policy import LIST_PREFIX

RATES = (0.001, 0.01, 0.05)
"""False-positive rates that recall is told at."""

BINS = 10  # of the reliability diagram, equally wide
DEFINITION = (
    "A decision is right when something offending is blocked or sent to review, and when something harmless is allowed."
)
CLASSIFIER_DEFINITION = "An answer is right when the label with the highest score is true of the image."


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A category's figures at one threshold.

    Attributes:
        at: the threshold; a score at or above it counts.
        recall: of images of the category.
        precision: of what is at or above, on this set's mix of images.
        f1: harmonic mean of both.
        false_positives: share of images that are not of the category.
        harmless: share of harmless images.
    """

    at: float
    recall: Interval
    precision: Interval
    f1: float | None
    false_positives: Interval
    harmless: Interval

    @property
    def json(self) -> dict[str, Any]:
        """As ``report.json`` has it."""
        return {
            "at": self.at,
            "recall": self.recall.json,
            "precision": self.precision.json,
            "f1": self.f1,
            "false_positive_rate": self.false_positives.json,
            "harmless_share": self.harmless.json,
        }


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often a category is true, by score.

    Attributes:
        scores: [k] means of the bins that hold an image.
        shares: [k] with the exact interval.
        counts: [k] images.
        error: expected calibration error, 0 to 1: mean distance of score and share, weighted by images (Naeini 2015).
    """

    scores: tuple[float, ...]
    shares: tuple[Interval, ...]
    counts: tuple[int, ...]
    error: float


@dataclass(frozen=True, slots=True)
class CategoryFigures:
    """All figures of a category (of a label, where a classifier was asked)."""

    category: str
    scores: Floats
    truth: Bools
    roc_auc: Interval
    average_precision: Interval
    recall_at: Mapping[float, Interval]
    enough: tuple[Enough, ...]
    review: OperatingPoint | None
    block: OperatingPoint | None
    reliability: Reliability

    @property
    def positives(self) -> int:
        """Images of the category."""
        return int(self.truth.sum())

    @property
    def json(self) -> dict[str, Any]:
        """As ``report.json`` has it."""
        return {
            "category": self.category,
            "pictures": len(self.truth),
            "positives": self.positives,
            "roc_auc": self.roc_auc.json,
            "average_precision": self.average_precision.json,
            "recall_at_fpr": {str(rate): found.json for rate, found in self.recall_at.items()},
            "promises": {
                str(entry.rate): {"needed": entry.needed, "here": entry.here, "missing": entry.missing}
                for entry in self.enough
            },
            "review_or_block": self.review and self.review.json,
            "block": self.block and self.block.json,
            "calibration_error": self.reliability.error,
        }


@dataclass(frozen=True, slots=True)
class Measure:
    """A share that is told of the whole set and of each slice.

    Attributes:
        key: in ``report.json``.
        name: as a column is headed.
        among: [n] images that it is a share of.
        found: [n] images that count.
        wanted: whether more of it is better.
    """

    key: str
    name: str
    among: Bools
    found: Bools
    wanted: bool = True


def scored(judged: JudgedSet) -> tuple[str, ...]:
    """Return the categories that a model scored; hash lists have no score worth a curve."""
    return tuple(name for name in judged.categories if not name.startswith(LIST_PREFIX))


def group_numbers(judged: JudgedSet) -> npt.NDArray[np.intp]:
    """Return [n]: the number of each image's group."""
    return np.unique(np.asarray(judged.groups(), dtype=str), return_inverse=True)[1].astype(np.intp)


def offending(judged: JudgedSet) -> Bools:
    """Return [n]: of which images a category of the policy is true."""
    known = {rule["category"] for rule in rules_of(judged)} | set(scored(judged))
    return np.array([bool(known & entry.image.labels) for entry in judged.images], bool)


def rules_of(judged: JudgedSet) -> Sequence[Mapping[str, Any]]:
    """Return the rules of the policy that was asked; none where a classifier was."""
    rules: Sequence[Mapping[str, Any]] = (judged.run.policy_body or {}).get("rules", ())
    return rules


def measures(judged: JudgedSet) -> tuple[Measure, ...]:
    """Return what is right and wrong of whole decisions, or of a classifier's best labels."""
    if judged.run.policy is None:
        names = scored(judged)
        best = np.stack([judged.scores(name) for name in names]).argmax(axis=0)
        true = np.stack([judged.truth(name) for name in names])[best, np.arange(len(judged.images))]
        return (Measure("right", "rightly labelled", offending(judged), true),)
    bad = offending(judged)
    decisions = np.array([entry.decision for entry in judged.images], dtype=str)
    return (
        Measure("caught", "offending images blocked or reviewed", bad, decisions != "allow"),
        Measure("blocked", "offending images blocked", bad, decisions == "block"),
        Measure("harmless_flagged", "harmless images blocked or reviewed", ~bad, decisions != "allow", wanted=False),
        Measure("harmless_blocked", "harmless images blocked", ~bad, decisions == "block", wanted=False),
    )


def right(judged: JudgedSet) -> Measure:
    """Return which decisions are right, by DEFINITION or CLASSIFIER_DEFINITION."""
    first = measures(judged)[0]
    if judged.run.policy is None:
        return first
    return Measure("right", "right decisions", np.ones(len(judged.images), bool), first.found == first.among)


def told(measure: Measure, groups: npt.NDArray[np.intp]) -> Interval:
    """Return a measure's share with its interval."""
    return share(measure.found[measure.among], groups[measure.among])


def category_figures(judged: JudgedSet, category: str) -> CategoryFigures:
    """Return all figures of a category that ``scored`` names."""
    scores, truth, names = judged.scores(category), judged.truth(category), judged.groups()
    groups, harmless = group_numbers(judged), ~offending(judged)
    area, precision = area_intervals(scores, truth, names)
    rules = [rule for rule in rules_of(judged) if rule["category"] == category]
    reviews = [at for rule in rules for at in (rule.get("review_at"), rule.get("block_at")) if at is not None]
    blocks = [rule["block_at"] for rule in rules if rule.get("block_at") is not None]
    apart = len(strata_of(truth, names).strata[1]) if len(truth) else 0
    return CategoryFigures(
        category=category,
        scores=scores,
        truth=truth,
        roc_auc=area,
        average_precision=precision,
        recall_at={rate: recall_at(rate, scores, truth, names) for rate in RATES},
        enough=tuple(enough(rate, apart) for rate in RATES),
        review=_point(min(reviews), scores, truth, harmless, groups) if reviews else None,
        block=_point(min(blocks), scores, truth, harmless, groups) if blocks else None,
        reliability=reliability(scores, truth, groups),
    )


def reliability(scores: Floats, truth: Bools, groups: npt.NDArray[np.intp]) -> Reliability:
    """Return how scores and truth agree in BINS equally wide bins."""
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    means, shares, counts = [], [], []
    for number in np.unique(bins):
        inside = bins == number
        means.append(float(scores[inside].mean()))
        shares.append(share(truth[inside], groups[inside]))
        counts.append(int(inside.sum()))
    gaps = [abs(mean - (found.value or 0.0)) for mean, found in zip(means, shares, strict=True)]
    error = float(np.average(gaps, weights=counts)) if counts else 0.0
    return Reliability(tuple(means), tuple(shares), tuple(counts), error)


def _point(at: float, scores: Floats, truth: Bools, harmless: Bools, groups: npt.NDArray[np.intp]) -> OperatingPoint:
    above = scores >= at
    _, _, f1, _ = precision_recall_fscore_support(truth, above, average="binary", zero_division=0)
    return OperatingPoint(
        at,
        recall=share(above[truth], groups[truth]),
        precision=share(truth[above], groups[above]),
        f1=float(f1) if truth.any() else None,
        false_positives=share(above[~truth], groups[~truth]),
        harmless=share(above[harmless], groups[harmless]),
    )
