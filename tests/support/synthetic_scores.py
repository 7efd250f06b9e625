"""Judged images whose scores are drawn from known distributions, so that a policy's true risks can be computed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from gateway.evaluation.judged import JudgedImage, JudgedSet, LabelledImage, Run


@dataclass(frozen=True)
class Category:
    """Normal distributions of logits: of an image without the category, and of one with it."""

    harmless: tuple[float, float]
    offending: tuple[float, float]


WORLD = {
    "gore": Category((-4.0, 1.0), (3.0, 1.0)),
    "nudity": Category((-2.5, 1.5), (3.0, 1.2)),
    "offensive": Category((-1.0, 0.8), (2.2, 0.9)),
}
THRESHOLDS = {"gore": (0.5, 0.9), "nudity": (0.5, 0.9), "offensive": (0.6, 0.95)}


def policy_body(names: Sequence[str] = tuple(WORLD), **changes: Any) -> dict[str, Any]:
    """A policy as the gateway gives it."""
    rules = [
        {"category": name, "classifier": name, "labels": ["bad"], "review_at": low, "block_at": high}
        for name, (low, high) in ((name, THRESHOLDS[name]) for name in names)
    ]
    return {"name": "default", "version": 3, "active": True, "created_at": "2026-01-01", "rules": rules, **changes}


def drawn(
    rng: np.random.Generator,
    harmless: int,
    offending: int,
    *,
    names: Sequence[str] = tuple(WORLD),
    group_size: int = 1,
    **changes: Any,
) -> JudgedSet:
    """A set of images, so many of each category.

    With groups of several, half the variance of a score is its group's.
    """
    images = []
    first = number = int(rng.integers(2**62))
    for kind, count in (("", harmless), *((name, offending) for name in names)):
        sizes = rng.integers(1, 2 * group_size, count)  # more groups than are needed
        group = np.repeat(np.arange(count), sizes)[:count]
        of_group = np.sqrt(0.5 * (group_size > 1))
        noise = of_group * rng.normal(size=(count, len(names)))[group]
        noise += np.sqrt(1 - of_group**2) * rng.normal(size=(count, len(names)))
        worlds = [WORLD[name].offending if name == kind else WORLD[name].harmless for name in names]
        means, spreads = np.array(worlds).T
        scores = 1 / (1 + np.exp(-(means + spreads * noise)))
        for row, place in zip(scores.tolist(), group.tolist(), strict=True):
            number += 1
            sha256 = hashlib.sha256(b"%d" % number).hexdigest()
            named = f"{first}-{kind}-{place}" if group_size > 1 else sha256
            image = LabelledImage(sha256, frozenset({kind} - {""}), group=named)
            images.append(
                JudgedImage(image, sha256=sha256, decision="allow", scores=dict(zip(names, row, strict=True)))
            )
    body = policy_body(names, **changes)
    policy = {"name": "default", "version": 3, "classifiers": dict.fromkeys(names, 2)}
    run = Run({"id": "demo", "bundle_id": "b1"}, policy, None, body, {}, "2026-01-01T00:00:00+00:00")
    return JudgedSet(run, tuple(images))


def reached(body: Mapping[str, Any], threshold: str, kind: str = "") -> float:
    """The true share of images of a category, or of harmless ones, that reach any rule's threshold.

    Args:
        body: a policy.
        threshold: ``block_at``, or ``review_at`` for either of the two.
        kind: a category; none: harmless.
    """
    missed = 1.0
    for rule in body["rules"]:
        given = [rule[name] for name in {threshold, "block_at"} if rule[name] is not None]
        if not given:
            continue
        limit = min(given)
        world = WORLD[rule["category"]]
        mean, spread = world.offending if rule["category"] == kind else world.harmless
        missed *= float(norm.cdf((np.log(limit / (1 - limit)) if 0 < limit < 1 else -np.inf) - mean, scale=spread))
    return 1 - missed
