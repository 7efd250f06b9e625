"""Which images a goal is about, and how many of them are errors at given thresholds.

Images of one group are no independent draws: one of each group counts, the one with the least SHA-256, which knows
nothing of its score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.evaluation.guarantee.path import Floats
from gateway.evaluation.guarantee.promises import GoalName, Goals
from gateway.evaluation.judged import JudgedImage, JudgedSet


@dataclass(frozen=True, slots=True)
class Sample:
    """Independent images, one a group.

    Attributes:
        harmless: [n, categories] scores.
        offending: category → [n, categories] scores.
        images: all of them.
        passed_over: those without a score, as where a hash list decided, or whose labels no rule has.
    """

    harmless: Floats
    offending: Mapping[str, Floats]
    images: tuple[JudgedImage, ...]
    passed_over: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What a goal asks of a sample.

    Attributes:
        goal, category, limit, always: as a promise has them.
        kind: which images, for people.
        scores: [n, categories] of the images that it is about.
    """

    goal: GoalName
    category: str | None
    limit: float
    always: float
    kind: str
    scores: Floats

    @property
    def level(self) -> float:
        """The most of ``scores`` that may be errors."""
        return (self.limit - self.always) / (1 - self.always)

    def errors(self, review: Floats, block: Floats) -> int:
        """Return how many images are errors at thresholds [categories]; infinity never fires."""
        fires = self.scores >= (block if self.goal == "block_fpr" else np.minimum(review, block))
        reached = fires.any(axis=1)
        return int((~reached if self.goal == "catch" else reached).sum())


def sample_of(judged: JudgedSet, categories: Sequence[str]) -> Sample:
    """Return independent images: of each group one harmless image and one of each category, by the least hash."""
    known = set(categories)
    scored = [image for image in judged.images if known & set(image.scores)]
    usable = [image for image in scored if not image.image.labels or known & image.image.labels]
    usable.sort(key=lambda image: image.sha256 or image.image.source, reverse=True)  # the least stays
    harmless = {image.group: image for image in usable if not image.image.labels}
    offending = {name: {image.group: image for image in usable if name in image.image.labels} for name in categories}
    kept = {id(image): image for kind in (harmless, *offending.values()) for image in kind.values()}
    return Sample(
        matrix([image.scores for image in harmless.values()], categories),
        {name: matrix([image.scores for image in kind.values()], categories) for name, kind in offending.items()},
        tuple(kept.values()),
        len(judged.images) - len(usable),
    )


def apart_and_rest(judged: JudgedSet) -> tuple[JudgedSet, JudgedSet]:
    """Return an eighth of the groups and the others, by hash; another byte of it than tells the parts."""
    apart = [hashlib.sha256(image.group.encode()).digest()[1] % 8 == 0 for image in judged.images]
    first, second = (
        tuple(image for image, chosen in zip(judged.images, apart, strict=True) if chosen is wanted)
        for wanted in (True, False)
    )
    return replace(judged, images=first), replace(judged, images=second)


def demands(goals: Goals, sample: Sample, traffic: Floats | None) -> Iterator[Demand]:
    """Yield what the goals ask of a sample."""
    if goals.block_fpr is not None:
        yield Demand("block_fpr", None, goals.block_fpr, 0.0, "harmless images", sample.harmless)
    if goals.review_share is not None:
        # Without stored decisions: as if all that is offending were reviewed, so that the harmless alone are counted.
        of = ("harmless images", sample.harmless) if traffic is None else ("stored decisions", traffic)
        yield Demand("review_share", None, goals.review_share, goals.offending if traffic is None else 0.0, *of)
    if goals.catch is not None:
        for name, scores in sample.offending.items():
            yield Demand("catch", name, 1 - goals.catch, 0.0, f"“{name}” images", scores)


def matrix(rows: Sequence[Mapping[str, float]], categories: Sequence[str]) -> Floats:
    """Return [n, categories] scores; 0 where a row has none."""
    return np.array([[row.get(name, 0.0) for name in categories] for row in rows], float).reshape(-1, len(categories))
