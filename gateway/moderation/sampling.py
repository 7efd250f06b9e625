"""Logged decisions as a candidate policy scores them, a row each, and how the scores of each rule are spread.

What thresholds would decide follows from a row's scores alone, so that who moves one need not ask again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gateway.moderation.binding import BoundPolicy
from gateway.moderation.policy import LIST_PREFIX, BoundRule, Decision, judge
from gateway.moderation.policy_diff import NO_VECTORS, OTHER_VIEWS, sample_of, sees
from gateway.moderation.verdicts import AUDIT, classifier_scores
from gateway.store.decisions import DecisionRecord, Feedback, fired_in

BY_A_LIST, OTHER_CLASSIFIERS = "decided_by_a_list", "other_classifiers"
VERDICTS = ("allow", "block")
Z = 1.959963984540054
"""Of the normal distribution, 95 % within."""


@dataclass(frozen=True, slots=True)
class SampledDecision:
    """A logged decision as a candidate scores it.

    Attributes:
        id, external_id: of the decision.
        at: when it was made, UTC.
        scores: [R], 0 to 1, one a rule of the candidate, in their order.
        before: what the policy's rules decided then; allow of one that was sent to review for the audit alone.
        warned: the candidate sends it to review where its scores allow it, for a warning about the image.
        label: what holds by the latest reviewer's verdict; None where nobody gave one.
        label_categories: those that a blocked one is blocked for: named by the reviewer, or else those that had fired.
    """

    id: str
    at: datetime
    external_id: str | None
    scores: tuple[float, ...]
    before: Decision
    warned: bool
    label: Literal["allow", "block"] | None
    label_categories: tuple[str, ...]


def standing_verdicts(record: DecisionRecord, feedback: Sequence[Feedback]) -> list[Feedback]:
    """Return the reviewers' verdicts on a decision up to the one that is its outcome; none where none stands.

    Args:
        record: the decision.
        feedback: on it, in order of time; what is no verdict, or was taken back after the one that stands, is left out.
    """
    if record.reviewed_at is None:
        return []
    given = [one for one in feedback if one.decision in VERDICTS]
    while given and given[-1].decision != record.outcome:
        given.pop()
    return given


def standing_verdict(record: DecisionRecord, feedback: Sequence[Feedback]) -> Feedback | None:
    """Return the last of ``standing_verdicts``; None without any."""
    given = standing_verdicts(record, feedback)
    return given[-1] if given else None


def rescored_decision(
    record: DecisionRecord,
    candidate: BoundPolicy,
    verdict: Feedback | None,
    dim: int,
    logit_scale: float,
) -> SampledDecision | str:
    """Return a decision whose vectors were kept as the candidate scores it, or why it cannot.

    Args:
        record: with its vectors.
        candidate: scores it.
        verdict: that stands, of a reviewer.
        dim: of the vectors.
        logit_scale: of the bundle.
    """
    sample = sample_of(record, dim, candidate.bundle_id)
    if isinstance(sample, str):
        return sample
    if not sees(candidate, sample.places):
        return OTHER_VIEWS
    scores, places = classifier_scores(candidate, sample.vectors, sample.places, logit_scale)
    by_rule = tuple(judge([rule], scores, places)[0].score for rule in candidate.rules)
    return _sampled(record, candidate, by_rule, verdict)


def logged_decision(
    record: DecisionRecord, candidate: BoundPolicy, logged: BoundPolicy | None, verdict: Feedback | None
) -> SampledDecision | str:
    """Return a decision with the scores that it was logged with, as far as the candidate would give the same.

    Args:
        record: its vectors are not needed.
        candidate: whose thresholds alone may differ.
        logged: the version that decided; None where it is there no more, or is another bundle's.
        verdict: that stands, of a reviewer.
    """
    if any(entry["category"].startswith(LIST_PREFIX) for entry in record.detail["categories"]):
        return BY_A_LIST
    if logged is None or not scores_alike(logged, candidate):
        return OTHER_CLASSIFIERS
    found = [record.categories.get(bound.rule.category) for bound in candidate.rules]
    scores = tuple(score for score in found if score is not None)
    return _sampled(record, candidate, scores, verdict) if len(scores) == len(found) else NO_VECTORS


def scores_alike(logged: BoundPolicy, candidate: BoundPolicy) -> bool:
    """Return whether two policies give an image the same scores, whatever their thresholds: one rule a category."""
    if logged.views != candidate.views or logged.bundle_id != candidate.bundle_id:
        return False
    before = [_asked(bound) for bound in logged.rules]
    categories = {asked[0] for asked in before}
    alone = len(categories) == len(before) and len({bound.rule.category for bound in candidate.rules}) == len(
        candidate.rules
    )
    return alone and {_asked(bound) for bound in candidate.rules} <= set(before)


def _asked(bound: BoundRule) -> tuple[str, str, frozenset[str], str]:
    """Return what a rule's score follows from; a group's calibration follows from the classifier's version."""
    return bound.rule.category, bound.classifier, frozenset(bound.rule.labels), bound.aggregate


def _sampled(
    record: DecisionRecord, candidate: BoundPolicy, scores: tuple[float, ...], verdict: Feedback | None
) -> SampledDecision:
    warnings = record.detail.get("warnings", ())
    named: tuple[str, ...] = ()
    if verdict is not None and verdict.decision == "block":
        named = tuple(verdict.categories) or tuple(sorted(fired_in(record)))
    return SampledDecision(
        id=record.id,
        at=record.at,
        external_id=record.external_id,
        scores=scores,
        before="allow" if AUDIT in warnings else record.decision,
        warned=not candidate.review_on.isdisjoint(warnings),
        label=None if verdict is None else verdict.decision,
        label_categories=named,
    )


def histograms(rows: Sequence[SampledDecision], rules: Sequence[BoundRule], bins: int) -> list[dict[str, Any]]:
    """Return how the scores of each rule are spread, and what each bin's lower edge would be worth as a threshold.

    An image is a positive of a rule where reviewers blocked it for its category, a negative where they allowed it or
    blocked it for others. A rule fires at score >= threshold. Intervals are Wilson's (1927), at 95 %.

    Args:
        rows: sampled.
        rules: as many as each row has scores.
        bins: of equal width, from 0 to 1.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    scores = np.array([row.scores for row in rows], float).reshape(len(rows), len(rules))
    labelled = np.array([row.label is not None for row in rows], bool)
    made = []
    for column, bound in enumerate(rules):
        category = bound.rule.category
        positive = np.array([row.label == "block" and category in row.label_categories for row in rows], bool)
        negative = labelled & ~positive
        own = scores[:, column]
        made.append(
            {
                "category": category,
                "edges": edges.tolist(),
                "counts": _counted(own, edges),
                "allowed": _counted(own[negative], edges),
                "blocked": _counted(own[positive], edges),
                "labelled": {"positives": int(positive.sum()), "negatives": int(negative.sum())},
                "curve": _curve(own, positive, negative, edges),
            }
        )
    return made


def _counted(scores: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> list[int]:
    return [int(count) for count in np.histogram(scores, edges)[0]]


def _curve(
    scores: npt.NDArray[np.float64],
    positive: npt.NDArray[np.bool_],
    negative: npt.NDArray[np.bool_],
    edges: npt.NDArray[np.float64],
) -> list[dict[str, Any]]:
    found = [np.sort(some) for some in (scores, scores[positive], scores[negative])]
    above = [len(some) - np.searchsorted(some, edges, side="left") for some in found]
    positives = int(positive.sum())
    curve = []
    for at, flagged, true, false in zip(edges.tolist(), *(counts.tolist() for counts in above), strict=True):
        precision, recall = wilson(true, true + false), wilson(true, positives)
        curve.append(
            {
                "threshold": at,
                "precision": precision and precision[0],
                "precision_interval": precision and list(precision[1:]),
                "recall": recall and recall[0],
                "recall_interval": recall and list(recall[1:]),
                "flagged": flagged,
            }
        )
    return curve


def wilson(hits: int, draws: int) -> tuple[float, float, float] | None:
    """Return a share with the ends of its 95 % interval; None where nothing was drawn."""
    if not draws:
        return None
    share, z2 = hits / draws, Z * Z
    middle = (share + z2 / (2 * draws)) / (1 + z2 / draws)
    half = Z / (1 + z2 / draws) * math.sqrt(share * (1 - share) / draws + z2 / (4 * draws * draws))
    return share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
