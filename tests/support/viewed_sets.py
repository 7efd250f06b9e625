"""Judged images whose scores are made up, for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.evaluation.judged import ClassifierViews, JudgedImage, JudgedSet, LabelledImage, Run
from gateway.evaluation.rescoring import answered, bodies_of

KEY = "scene@1"
LABELS = ("blood", "wound", "calm")
CLASSIFIER: dict[str, Any] = {"labels": [{"label": label} for label in LABELS]}
POLICY: dict[str, Any] = {
    "rules": [
        {
            "category": "gore",
            "classifier": "scene",
            "labels": ["blood", "wound"],
            "review_at": 0.4,
            "block_at": 0.9,
        }
    ]
}


def judged_set(
    views: Sequence[npt.NDArray[np.float32]],
    truths: Sequence[frozenset[str]],
    *,
    classifier: dict[str, Any] = CLASSIFIER,
    policy: dict[str, Any] | None = POLICY,
    similarities: Sequence[npt.NDArray[np.float32]] | None = None,
    groups: Sequence[str] | None = None,
) -> JudgedSet:
    """Return images with these probabilities [V, L] of one classifier, scored and decided as the gateway does."""
    labels = tuple(entry["label"] for entry in classifier["labels"])
    run = Run({"id": "test"}, None, None if policy else KEY, policy, {KEY: classifier}, "2026-01-01T00:00:00Z")
    images = tuple(
        JudgedImage(
            LabelledImage(f"{number}.png", truth, {}, groups[number] if groups else None),
            sha256=f"{number:064x}",
            views={KEY: ClassifierViews(labels, given, similarities[number] if similarities else None)},
        )
        for number, (given, truth) in enumerate(zip(views, truths, strict=True))
    )
    bodies = bodies_of(run)
    answers = [answered(image, bodies, run.classifier) for image in images]
    pairs = zip(images, answers, strict=True)
    return JudgedSet(
        run, tuple(replace(image, scores=scores, decision=decision) for image, (scores, decision) in pairs)
    )
