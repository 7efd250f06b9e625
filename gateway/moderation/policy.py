"""Policies: which decision follows from scores, and the evidence for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from gateway.decoding.views import Place, ViewRule
from gateway.inference.scoring import Floats
from gateway.moderation.classifiers import Calibration, Reference
from gateway.moderation.request_model import StrictModel

Decision = Literal["allow", "review", "block"]
Aggregate = Literal["sum", "max"]
STRICTNESS: Mapping[Decision, int] = {"allow": 0, "review": 1, "block": 2}

OPENAI_CATEGORIES = (
    "sexual",
    "sexual/minors",
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "violence",
    "violence/graphic",
)
NEVER_SET = frozenset({"sexual/minors"})  # CLIP cannot tell an age, and a wrong answer here does harm
SHOWN_LABELS = 3
LIST_PREFIX = "list:"  # of the categories under which lists of known images appear
Warned = Literal["frames_sampled", "max_inferences_reached", "perceptual_lists_not_asked"]


class Rule(StrictModel):
    """One category: which labels of which classifier, how they add up, and from which score on they matter."""

    category: str = Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")
    classifier: Reference
    labels: list[str] = Field(min_length=1)
    aggregate: Aggregate | None = Field(
        None, description="sum for softmax labels, max for independent ones by default."
    )
    review_at: float | None = Field(None, ge=0, le=1, strict=True)
    block_at: float | None = Field(None, ge=0, le=1, strict=True, description="null: never blocks.")

    @model_validator(mode="after")
    def _thresholds(self) -> Rule:
        if self.review_at is None and self.block_at is None:
            raise ValueError("a rule needs review_at, block_at or both")
        if self.review_at is not None and self.block_at is not None and self.review_at > self.block_at:
            raise ValueError("review_at must not be above block_at")
        if self.category.startswith(LIST_PREFIX):
            raise ValueError(f"a category that begins with {LIST_PREFIX} is a list of known images")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a rule names each label once")
        return self


class Policy(StrictModel):
    """A policy's body as clients write it."""

    rules: list[Rule] = Field(min_length=1, max_length=200)
    views: ViewRule = "tiles"
    attributes: list[Reference] = Field(default_factory=list, max_length=20)
    openai_categories: dict[str, list[str]] = Field(default_factory=dict)
    review_on: list[Warned] = Field(
        default_factory=list, description="Warnings about an image that turn allow into review."
    )
    audit_share: float = Field(
        0.0,
        ge=0,
        le=1,
        strict=True,
        description="Share of allowed files, chosen by a keyed hash, that is sent to review so that misses are seen.",
    )
    description: str = Field("", max_length=4000)

    @model_validator(mode="after")
    def _mapping(self) -> Policy:
        known = {rule.category for rule in self.rules}
        for category, names in self.openai_categories.items():
            if category not in known:
                raise ValueError(f"openai_categories names the category “{category}”, which no rule has")
            for name in names:
                if name not in OPENAI_CATEGORIES:
                    raise ValueError(f"“{name}” is no category of OpenAI's")
                if name in NEVER_SET:
                    raise ValueError(f"“{name}” is never set from CLIP")
        return self


@dataclass(frozen=True, slots=True)
class ClassifierScores:
    """A classifier's scores of one image.

    Attributes:
        labels: L names.
        probabilities: [V, L], one row a view and frame, already calibrated.
    """

    labels: tuple[str, ...]
    probabilities: Floats


@dataclass(frozen=True, slots=True)
class Evidence:
    """One reason: a label (or a list) with its score and place."""

    kind: Literal["label", "head", "list"]
    label: str
    score: float
    place: Place


@dataclass(frozen=True, slots=True)
class CategoryVerdict:
    """What one category's rules came to; thresholds are those of the strictest rule."""

    category: str
    score: float
    decision: Decision
    review_at: float | None
    block_at: float | None
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class BoundRule:
    """A rule with the key of the classifier version it resolved to, and its aggregate filled in."""

    rule: Rule
    classifier: str
    aggregate: Aggregate


def judge(
    rules: Sequence[BoundRule], scores: Mapping[str, ClassifierScores], places: Sequence[Place]
) -> tuple[CategoryVerdict, ...]:
    """Return a verdict a category, strictest first and then by score.

    A category's score is the maximum over views and frames: what shows in one corner or one frame counts as fully as
    what fills the image. A rule fires at score >= threshold.

    Args:
        rules: of the policy.
        scores: by classifier key.
        places: one a row of every ``probabilities``.
    """
    by_category: dict[str, CategoryVerdict] = {}
    for bound in rules:
        made = _verdict(bound, scores[bound.classifier], places)
        before = by_category.get(made.category)
        by_category[made.category] = made if before is None else _stricter(before, made)
    return tuple(sorted(by_category.values(), key=lambda verdict: (-STRICTNESS[verdict.decision], -verdict.score)))


def overall(categories: Sequence[CategoryVerdict]) -> Decision:
    """Return the strictest decision of all categories."""
    return max((verdict.decision for verdict in categories), key=STRICTNESS.__getitem__, default="allow")


def calibrated(probabilities: Floats, calibrations: Sequence[Calibration | None]) -> Floats:
    """Return probabilities [V, L] after each label's Platt scaling; a label without one stays as it is."""
    if all(calibration is None for calibration in calibrations):
        return probabilities
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    logits = np.log(clipped) - np.log1p(-clipped)
    scales = np.array([1.0 if entry is None else entry.scale for entry in calibrations])
    offsets = np.array([0.0 if entry is None else entry.offset for entry in calibrations])
    scaled = 0.5 * (1 + np.tanh(0.5 * (logits * scales + offsets)))
    untouched = np.array([entry is None or (entry.scale == 1 and entry.offset == 0) for entry in calibrations])
    return np.where(untouched, probabilities, scaled).astype(np.float32)


def _verdict(bound: BoundRule, scores: ClassifierScores, places: Sequence[Place]) -> CategoryVerdict:
    rule = bound.rule
    columns = [scores.labels.index(label) for label in rule.labels]
    chosen = scores.probabilities[:, columns]  # [V, chosen labels]
    by_view: npt.NDArray[np.float32] = chosen.sum(axis=1) if bound.aggregate == "sum" else chosen.max(axis=1)
    row = int(by_view.argmax())
    score = min(1.0, float(by_view[row]))
    best = np.argsort(-chosen[row], kind="stable")[:SHOWN_LABELS]
    evidence = tuple(
        Evidence("label", rule.labels[position], float(chosen[row, position]), places[row]) for position in best
    )
    return CategoryVerdict(rule.category, score, _decide(rule, score), rule.review_at, rule.block_at, evidence)


def _decide(rule: Rule, score: float) -> Decision:
    if rule.block_at is not None and score >= rule.block_at:
        return "block"
    if rule.review_at is not None and score >= rule.review_at:
        return "review"
    return "allow"


def _stricter(first: CategoryVerdict, second: CategoryVerdict) -> CategoryVerdict:
    """Return the verdict that decides for the category, with the evidence of both."""
    decides, other = sorted(
        (first, second), key=lambda verdict: (STRICTNESS[verdict.decision], verdict.score), reverse=True
    )
    return replace(decides, evidence=decides.evidence + other.evidence)
