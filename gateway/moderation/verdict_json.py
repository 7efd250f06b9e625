"""A verdict as JSON values: one form for the API's answer and for the decision log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from gateway.decoding.views import Place
from gateway.errors import InvalidRequest
from gateway.inference.scoring import score
from gateway.inference.triton import Vectors
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.policy import CategoryVerdict
from gateway.moderation.verdicts import Verdict, uses

MOST_VIEWS_BYTES, SCORE_BYTES, NUMBER_BYTES = 64 << 20, 256, 32
"""Of the views of an answer: what its scores, each an object with its label, and the numbers of its vectors take."""


def check_views_fit(policies: Collection[BoundPolicy], views: int, dim: int, include: Collection[str]) -> None:
    """Check that the views of an answer can be held in memory.

    Args:
        policies: any of which may be the one whose classifiers are shown.
        views: the most that the answer can have.
        dim: of the vectors.
        include: as of ``views_json``.

    Raises:
        InvalidRequest: they would take more than ``MOST_VIEWS_BYTES``.
    """
    labels = max(sum(len(bound.matrix.labels) for bound in policy.classifiers.values()) for policy in policies)
    scores, numbers = labels * ("views" in include), dim * ("embedding" in include)
    if views * (scores * SCORE_BYTES + numbers * NUMBER_BYTES) > MOST_VIEWS_BYTES:
        raise InvalidRequest(
            f"Field “include” asks for {scores + numbers} numbers of each of up to {views} views, more than an answer "
            "holds. Ask for less, or by a policy with fewer labels."
        )


def verdict_json(verdict: Verdict | None, shadow: Verdict | None, policy: BoundPolicy) -> dict[str, Any]:
    """Return an image's verdict and the shadow policy's.

    Args:
        verdict: None of an image that failed.
        shadow: None without a shadow policy.
        policy: the one that was asked for; named where there is no verdict.
    """
    return {
        "decision": verdict and verdict.decision,
        "categories": verdict and categories_json(verdict.categories),
        "policy": policy_json(verdict.policy if verdict else policy),
        "attributes": dict(verdict.attributes) if verdict else {},
        "shadow": shadow
        and {
            "policy": policy_json(shadow.policy),
            "decision": shadow.decision,
            "categories": categories_json(shadow.categories),
            "warnings": list(shadow.warnings),
        },
        "warnings": list(verdict.warnings) if verdict else [],
    }


def categories_json(categories: Sequence[CategoryVerdict]) -> list[dict[str, Any]]:
    """Return categories with their evidence, in the order given."""
    return [
        {
            "category": category.category,
            "score": category.score,
            "decision": category.decision,
            "review_at": category.review_at,
            "block_at": category.block_at,
            "evidence": [
                {"kind": entry.kind, "label": entry.label, "score": entry.score, **place_json(entry.place)}
                for entry in category.evidence
            ],
        }
        for category in categories
    ]


def views_json(
    policy: BoundPolicy, vectors: Vectors, places: Sequence[Place], logit_scale: float, include: Collection[str]
) -> list[dict[str, Any]]:
    """Return the views that a policy uses, from the vectors that its verdict was made of.

    Args:
        policy: of the verdict.
        vectors: [V, D], unit length.
        places: V.
        logit_scale: of the bundle.
        include: ``views``: each classifier's scores before calibration, in the order of its labels; ``embedding``: the
            view's vector.
    """
    used = [row for row, place in enumerate(places) if uses(policy, place.view)]
    raw = {key: score(vectors[used], bound.matrix, logit_scale) for key, bound in policy.classifiers.items()}
    views = [place_json(places[row]) for row in used]
    for position, (row, view) in enumerate(zip(used, views, strict=True)):
        if "views" in include:
            view["classifiers"] = {
                key: [
                    {"label": label, "score": float(probability)}
                    for label, probability in zip(bound.matrix.labels, raw[key].probabilities[position], strict=True)
                ]
                for key, bound in policy.classifiers.items()
            }
        if "embedding" in include:
            view["embedding"] = vectors[row].tolist()
    return views


def policy_json(policy: BoundPolicy) -> dict[str, Any]:
    """Return the versions of a policy and of its classifiers."""
    return {"name": policy.name, "version": policy.version, "classifiers": policy.pins}


def place_json(place: Place) -> dict[str, Any]:
    """Return a view's name, its box in pixels of the upright image, its frame's time, and what is behind it."""
    return {
        "view": place.view,
        "box": list(place.box),
        "frame_ms": place.frame_ms,
        "background": place.background,
    }
