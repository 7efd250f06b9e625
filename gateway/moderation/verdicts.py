"""What a policy decides about one image: from its vectors, or from the hash lists that it is on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gateway.decoding.preprocess import PreprocessedImage
from gateway.decoding.views import Place
from gateway.hash_matching.matcher import Match
from gateway.inference.heads import Head
from gateway.inference.scoring import TextMatrix, score
from gateway.inference.triton import Vectors
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.policy import (
    LIST_PREFIX,
    STRICTNESS,
    CategoryVerdict,
    ClassifierScores,
    Decision,
    Evidence,
    judge,
    overall,
)
from gateway.store.reviewed_lists import REVIEWED_NEAR

UNCALIBRATED, AUDIT = "uncalibrated", "audit"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A policy's decision about one image.

    Attributes:
        policy: the one that was applied.
        decision: the strictest of all categories; review instead of allow where a warning asks for it.
        categories: strictest first.
        attributes: classifier name → its version and mean scores by label; never part of the decision.
        warnings: codes.
        audited: the policy allows it, and it is sent to review for the audit alone.
    """

    policy: BoundPolicy
    decision: Decision
    categories: tuple[CategoryVerdict, ...]
    attributes: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...]
    audited: bool = False

    @property
    def judged(self) -> Decision:
        """What the policy's rules say, whatever the audit does."""
        return "allow" if self.audited else self.decision

    def sent_to_audit(self) -> Verdict:
        """Return the verdict of an image that is allowed and looked at all the same."""
        return replace(self, decision="review", warnings=(*self.warnings, AUDIT), audited=True)


def from_lists(policy: BoundPolicy, found: Sequence[Match], prepared: PreprocessedImage) -> Verdict:
    """Return the verdict of lists alone: block wins over allow.

    But a list of files that allows, which is by SHA-256 and so exact, wins over what only resembles an image that
    reviewers blocked: a reviewer saw this very file.
    """
    if any(match.action == "allow" for match in found):
        found = [match for match in found if match.list != REVIEWED_NEAR]
    decision: Decision = "block" if any(match.action == "block" for match in found) else "allow"
    whole = Place("full", (0, 0, prepared.info.width, prepared.info.height), None)
    categories = tuple(
        CategoryVerdict(
            category=f"{LIST_PREFIX}{match.list}",
            score=1.0,
            decision=match.action,
            review_at=None,
            block_at=None,
            evidence=(Evidence("list", match.hash, 1.0 - match.distance / 256, whole),),
        )
        for match in sorted(found, key=lambda match: -STRICTNESS[match.action])
    )
    return Verdict(policy, decision, categories, {}, ())


def verdict_of(
    policy: BoundPolicy,
    vectors: Vectors,
    places: Sequence[Place],
    logit_scale: float,
    image_warnings: Sequence[str] = (),
) -> Verdict:
    """Return a policy's verdict on the vectors [V, D] of V places; views that it does not use are left out.

    Args:
        policy: to apply.
        vectors: of the image.
        places: of the vectors.
        logit_scale: of the bundle.
        image_warnings: codes of what was not looked at; the policy may send the image to review for them.
    """
    scores, used_places = classifier_scores(policy, vectors, places, logit_scale)
    categories = judge(policy.rules, scores, used_places)
    white = [row for row, place in enumerate(used_places) if place.background is None]
    attributes = {}
    for key in policy.attributes:
        bound = policy.classifiers[key]
        on_white = ClassifierScores(scores[key].labels, scores[key].probabilities[white])
        attributes[bound.name] = {"version": bound.version, "scores": informed(bound.matrix, on_white)}
    warnings = (UNCALIBRATED,) if policy.uncalibrated else ()
    decision = overall(categories)
    if decision == "allow" and not policy.review_on.isdisjoint(image_warnings):
        decision = "review"
    return Verdict(policy, decision, categories, attributes, (*warnings, *image_warnings))


def classifier_scores(
    policy: BoundPolicy, vectors: Vectors, places: Sequence[Place], logit_scale: float
) -> tuple[dict[str, ClassifierScores], list[Place]]:
    """Return the calibrated scores of a policy's classifiers by key, and the places that it uses, one a row of them."""
    used = [row for row, place in enumerate(places) if uses(policy, place.view)]
    scores = {
        key: ClassifierScores(
            bound.matrix.labels,
            bound.calibrated(score(vectors[used], bound.matrix, logit_scale).probabilities),
            "head" if isinstance(bound.matrix, Head) else "label",
        )
        for key, bound in policy.classifiers.items()
    }
    return scores, [places[row] for row in used]


def uses(policy: BoundPolicy, view: str) -> bool:
    """Return whether a policy scores views of this name."""
    if policy.views == "tiles":
        return view != "center"
    return view == policy.views or (policy.views == "full" and view == "content")


def informed(matrix: TextMatrix | Head, scores: ClassifierScores) -> list[dict[str, Any]]:
    """Return labels with scores, best first: the mean over views in softmax mode, else the maximum."""
    rows = scores.probabilities
    values = rows.mean(axis=0) if matrix.mode == "softmax" else rows.max(axis=0)
    order = np.argsort(-values, kind="stable").tolist()
    return [{"label": scores.labels[position], "score": float(values[position])} for position in order]
