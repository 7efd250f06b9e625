"""Policies: which decision follows from scores, and the evidence for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from gateway.decoding.views import Place, ViewRule
from gateway.inference.scoring import Floats
from gateway.moderation.calibration import Aggregate, Calibration
from gateway.moderation.classifiers import Reference
from gateway.moderation.request_model import StrictModel

Decision = Literal["allow", "review", "block"]
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


Named = Annotated[str, Field(max_length=64)]
Count = Annotated[int, Field(ge=0, le=10**9, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class TunedOn(StrictModel):
    """What a policy's thresholds were chosen on, and what was promised then. It is a record: no decision reads it."""

    at: str = Field(max_length=40, description="When, UTC, ISO 8601.")
    images: Count = Field(description="Independent ones: one a group.")
    harmless: Count
    by_category: dict[Named, Count] = Field(default_factory=dict, max_length=200)
    parts: list[Literal["train", "calibration", "test"]] = Field(
        max_length=3, description="Of the split by hash, in which test is kept for checking."
    )
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the images' hashes and labels.")
    model: str = Field(max_length=300)
    bundle_id: str = Field(max_length=100)
    policy: str = Field(max_length=100, description="Which version's scores they were, name@version.")
    goals: dict[Named, Share] = Field(default_factory=dict, max_length=10)
    prevalence: dict[Named, Share] = Field(default_factory=dict, max_length=200)
    confidence: Share
    promises: list[Annotated[str, Field(max_length=500)]] = Field(default_factory=list, max_length=210)


class CarriedFrom(StrictModel):
    """Of another bundle: the version whose thresholds a policy has, which nobody has measured on its own bundle."""

    bundle_id: str = Field(max_length=100)
    version: Annotated[int, Field(ge=1, le=10**9, strict=True)]


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
    tuned_on: TunedOn | None = Field(None, description="What the thresholds were chosen on; clip-gateway writes it.")

    carried_from: CarriedFrom | None = Field(
        None,
        description="Thresholds and calibrations are those of this version, for another bundle, and were not measured "
        "on the policy's own. clip-gateway policies carry writes it; measured thresholds clear it.",
    )

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
        kind: what the labels are of, for the evidence.
    """

    labels: tuple[str, ...]
    probabilities: Floats
    kind: Literal["label", "head"] = "label"


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
    """A rule with the key of the classifier version it resolved to, its aggregate filled in, and its calibration."""

    rule: Rule
    classifier: str
    aggregate: Aggregate
    calibration: Calibration | None = None


def judge(
    rules: Sequence[BoundRule], scores: Mapping[str, ClassifierScores], places: Sequence[Place]
) -> tuple[CategoryVerdict, ...]:
    """Return a verdict a category, strictest first and then by score.

    A category's score is the maximum over views and frames: what shows in one corner or one frame counts as fully as
    what fills the image. That maximum is calibrated, and a rule fires at score >= threshold; the evidence keeps the
    labels' own scores.

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


def _verdict(bound: BoundRule, scores: ClassifierScores, places: Sequence[Place]) -> CategoryVerdict:
    rule = bound.rule
    columns = [scores.labels.index(label) for label in rule.labels]
    chosen = scores.probabilities[:, columns]  # [V, chosen labels]
    by_view: npt.NDArray[np.float32] = chosen.sum(axis=1) if bound.aggregate == "sum" else chosen.max(axis=1)
    row = int(by_view.argmax())
    score = min(1.0, float(by_view[row]))
    if bound.calibration is not None:
        score = float(bound.calibration.of(score))
    best = np.argsort(-chosen[row], kind="stable")[:SHOWN_LABELS]
    evidence = tuple(
        Evidence(scores.kind, rule.labels[position], float(chosen[row, position]), places[row]) for position in best
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
