"""Judged images made up of numbers, as an evaluation reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gateway.evaluation.judged import JudgedImage, JudgedSet, LabelledImage, Run

RULES = {"gore": (0.5, 0.9), "nudity": (0.64, 0.85)}  # category → review_at, block_at
HANDS = ("pencil", "crayon", "ink")


def run_of(rules: Mapping[str, tuple[float, float]] = RULES, **body: Any) -> Run:
    """A run of a policy with these rules."""
    listed = [
        {"category": name, "classifier": name, "labels": [name], "review_at": review, "block_at": block}
        for name, (review, block) in rules.items()
    ]
    policy = {"name": "default", "version": 3, "classifiers": dict.fromkeys(rules, 1)}
    return Run(
        {"name": "made up", "bundle": "0" * 8}, policy, None, {"rules": listed, **body}, {}, "2026-01-01T00:00:00Z"
    )


def image(number: int, labels: Sequence[str], scores: Mapping[str, float], **more: Any) -> JudgedImage:
    """An image with the decision that follows from RULES."""
    decision = "allow"
    for name, score in scores.items():
        review, block = RULES.get(name, (2.0, 2.0))
        if score >= block:
            decision = "block"
        elif score >= review and decision == "allow":
            decision = "review"
    named = {name: more.pop(name) for name in ("slices", "group") if name in more}
    labelled = LabelledImage(more.pop("source", f"images/{number:05}.jpg"), frozenset(labels), **named)
    return JudgedImage(labelled, f"{number:064x}", decision, dict(scores), elapsed_ms=40.0 + number % 7, **more)


def made_set(
    count: int, seed: int = 0, *, weaker: str = "", shift: float = 0.0, noise: float = 2.0, **body: Any
) -> JudgedSet:
    """A third gore, a third nudity, a third harmless, drawn by three hands.

    Args:
        count: images.
        seed: of all that is random.
        weaker: a hand whose offending images score lower.
        shift: of every offending image's logit.
        noise: standard deviation of logits.
        body: further fields of the policy's body.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        true = (*RULES, None)[number % 3]
        hand = HANDS[int(rng.integers(3))]
        logits = {name: rng.normal(3.0 + shift if name == true else -3.5, noise) for name in RULES}
        if true and hand == weaker:
            logits[true] -= 3.0
        scores = {name: float(1 / (1 + np.exp(-logit))) for name, logit in logits.items()}
        rows.append(image(number, [true] if true else [], scores, slices={"hand": hand}))
    return JudgedSet(run_of(**body), tuple(rows))
