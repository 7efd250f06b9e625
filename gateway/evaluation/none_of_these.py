"""A closed set's answer that no label fits: the similarity below which it is given, and what that costs.

Probabilities cannot tell it, being shares among the labels. The similarity of the best label can: docs/labels.md has
what was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from gateway.evaluation.fitting.score_maps import Truth
from gateway.evaluation.judged import JudgedSet, Part
from gateway.evaluation.rescoring import bodies_of
from gateway.evaluation.section import Section, Table
from gateway.inference.scoring import best_similarity
from gateway.moderation.calibration import Doubles

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Rejection:
    """How many of some images the threshold calls none of the labels."""

    rejected: int
    images: int

    def told(self) -> str:
        """Return the share with its exact interval (Clopper and Pearson, 1934)."""
        if not self.images:
            return "no such images"
        share = binomtest(self.rejected, self.images)
        low, high = share.proportion_ci(CONFIDENCE, method="exact")
        return f"{share.statistic:.1%} of {self.images} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True, slots=True)
class NoneOfThese:
    """A fitted threshold.

    Attributes:
        name: of the classifier.
        classifier: draft body with ``none_below``.
        threshold: similarity below which an image is none of the labels.
        wrongly: the share of fitting images that may be lost, as it was stated.
        lost: of the test part's images that a label fits.
        recognised: of its images that none fits.
    """

    name: str
    classifier: dict[str, Any]
    threshold: float
    wrongly: float
    lost: Rejection
    recognised: Rejection

    def section(self) -> Section:
        """Return the threshold and its price on the test part."""
        rows = [
            ["a label fits", self.lost.told(), "lost: the answer says that none fits"],
            ["no label fits", self.recognised.told(), "recognised"],
        ]
        said = (
            f"Below a similarity of {self.threshold:.4f} to its best label an image is answered as none of the labels "
            f"of “{self.name}”. Chosen so that at most {self.wrongly:.1%} of images that a label fits are lost, at a "
            f"confidence of {CONFIDENCE:.0%}. Scores stay as they are."
        )
        return Section(
            key="none_of_these",
            title="None of these",
            paragraphs=[said],
            tables=[Table("What it costs and brings, on the test part, with 95 % intervals.", ["", "", ""], rows)],
            values={
                "classifier": self.name,
                "none_below": self.threshold,
                "wrongly": self.wrongly,
                "confidence": CONFIDENCE,
                "lost": {"rejected": self.lost.rejected, "images": self.lost.images},
                "recognised": {"rejected": self.recognised.rejected, "images": self.recognised.images},
            },
        )


def fit_none_of_these(judged: JudgedSet, wrongly: float = 0.05, parts: tuple[Part, ...] | None = None) -> NoneOfThese:
    """Choose the highest threshold that loses no more than a share of the images that a label fits.

    Args:
        judged: by a classifier, with similarities; images whose labels are none of the classifier's are the others.
        wrongly: the share that may be lost, between 0 and 1; it holds at 95 % confidence.
        parts: to choose on, None: those that no head was trained on; the test part reports.

    Raises:
        ValueError: a policy was asked, similarities are missing, or there are too few images: the message has the
            number that is missing.
    """
    key = judged.run.classifier
    if key is None:
        raise ValueError("“none of these” is for one classifier: evaluate it, not a policy")
    if not 0 < wrongly < 1:
        raise ValueError("the share of images that may be lost lies between 0 and 1")
    parts = judged.run.untouched if parts is None else parts
    body = bodies_of(judged.run).classifiers[key]
    similarities = _similarities(judged, key)
    known = {entry.label for entry in body.labels}
    fits = np.array([not known.isdisjoint(image.image.labels) for image in judged.images], bool)
    fitting = np.array([image.part in parts for image in judged.images], bool)
    testing = np.array([image.part == "test" for image in judged.images], bool)
    threshold = _threshold(similarities[fitting & fits], wrongly)
    return NoneOfThese(
        name=key.partition("@")[0],
        classifier=body.model_copy(update={"none_below": threshold}).model_dump(mode="json"),
        threshold=threshold,
        wrongly=wrongly,
        lost=_rejected(similarities, testing & fits, threshold),
        recognised=_rejected(similarities, testing & ~fits, threshold),
    )


def _similarities(judged: JudgedSet, key: str) -> Doubles:
    kept = [image.views[key].similarities if key in image.views else None for image in judged.images]
    if any(found is None for found in kept):
        raise ValueError(
            "similarities were not kept: collect the images anew, by a classifier of words without a calibration"
        )
    return np.array([best_similarity(found) for found in kept if found is not None])


def _threshold(similarities: Doubles, wrongly: float) -> float:
    """Return the similarity of the image up to which as many are lost as the confidence allows."""
    count = len(similarities)
    needed = math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - wrongly))
    if count < needed:
        raise ValueError(
            f"{count} images that a label fits cannot show that {wrongly:.1%} of them are lost at most: {needed} are "
            f"needed, {needed - count} are missing"
        )
    lost = 0
    while binomtest(lost + 1, count, wrongly, "less").pvalue <= 1 - CONFIDENCE:
        lost += 1
    return float(np.sort(similarities)[lost])


def _rejected(similarities: Doubles, chosen: Truth, threshold: float) -> Rejection:
    return Rejection(int((similarities[chosen] < threshold).sum()), int(chosen.sum()))
