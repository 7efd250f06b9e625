"""What answers about images look like; for the OpenAPI text."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from gateway.inference.prompts import Mode


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str


class OpenAIErrorDetail(BaseModel):
    """What OpenAI's clients read of an error."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(BaseModel):
    """An error in OpenAI's form."""

    error: OpenAIErrorDetail


class OpenAIProblem(Problem, OpenAIError):
    """A problem document that OpenAI's clients can read too."""


class ModelRef(BaseModel):
    """Which model gave an answer."""

    id: str
    bundle_id: str
    demo: bool
    random: bool


class ImageOut(BaseModel):
    """What was looked at."""

    sha256: str
    format: str
    width: int
    height: int
    frames: int
    frames_analyzed: int


class ScoreOut(BaseModel):
    """A label's score; ``similarity`` on request."""

    label: str
    score: float
    similarity: float | None = None


class ViewOut(BaseModel):
    """The scores of one view of one frame; ``box`` is x0, y0, x1, y1 in pixels of the upright image."""

    view: str
    box: list[int]
    frame_ms: int | None
    background: Literal["black"] | None = None
    scores: list[ScoreOut]


class HeatmapOut(BaseModel):
    """Which part of a view drove the score of a label (classify) or category (moderate), by covering patch after patch.

    ``box`` is around the hottest part and ``view_box`` the view's, both x0, y0, x1, y1 in pixels of the upright image.
    ``grid`` has a number a patch, rows from top to bottom: how far the score's logit falls where it is covered. ``png``
    (base64) is the map to be laid over ``view_box``: red, as opaque as the drop is large.
    """

    label: str | None = None
    category: str | None = None
    view: str
    view_box: list[int]
    frame_ms: int | None
    background: Literal["black"] | None
    box: list[int]
    grid: list[list[float]]
    png: str


class ClassifyResult(BaseModel):
    """One image's answer, or its error."""

    index: int
    id: str | None
    image: ImageOut | None
    scores: list[ScoreOut] | None
    error: Problem | None
    embedding: list[float] | None = None
    views: list[ViewOut] | None = None
    none_of_these: bool | None = Field(
        None, description="Of a classifier with none_below: whether no label fits. The scores stay as they are."
    )
    heatmap: HeatmapOut | None = None


class ClassifyResponse(BaseModel):
    """The answer to a classification; scores come best first."""

    request_id: str
    model: ModelRef
    classifier: str | None
    mode: Mode
    results: list[ClassifyResult]
    timings_ms: dict[str, float]


class EmbeddingOut(BaseModel):
    """One vector of unit length."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsResponse(BaseModel):
    """Vectors in the order of the input."""

    object: Literal["list"]
    data: list[EmbeddingOut]
    model: str
    usage: dict[str, int]


class EvidenceOut(BaseModel):
    """One reason for a category's score."""

    kind: Literal["label", "head", "list"]
    label: str
    score: float
    view: str
    box: list[int]
    frame_ms: int | None
    background: Literal["black"] | None = None


class CategoryOut(BaseModel):
    """A category's score, what it leads to, and why."""

    category: str
    score: float
    decision: Literal["allow", "review", "block"]
    review_at: float | None
    block_at: float | None
    evidence: list[EvidenceOut]


class PolicyRef(BaseModel):
    """Which policy and classifier versions spoke."""

    name: str
    version: int
    classifiers: dict[str, int]


class ShadowOut(BaseModel):
    """What the second policy would have decided."""

    policy: PolicyRef
    decision: Literal["allow", "review", "block"]
    categories: list[CategoryOut]
    warnings: list[str]


class ModeratedViewOut(BaseModel):
    """A view that the policy used; each classifier (name@version) has its labels in their own order, uncalibrated."""

    view: str
    box: list[int]
    frame_ms: int | None
    background: Literal["black"] | None = None
    classifiers: dict[str, list[ScoreOut]] | None = None
    embedding: list[float] | None = None


class ModerateResult(BaseModel):
    """One image's decision, or its error."""

    index: int
    id: str | None
    image: ImageOut | None
    decision_id: str | None
    decision: Literal["allow", "review", "block"] | None
    categories: list[CategoryOut] | None
    policy: PolicyRef
    attributes: dict[str, Any]
    shadow: ShadowOut | None
    warnings: list[str]
    error: Problem | None
    views: list[ModeratedViewOut] | None = None
    heatmap: HeatmapOut | None = None


class ModerateResponse(BaseModel):
    """The answer to a moderation; categories come strictest first."""

    request_id: str
    model: ModelRef
    results: list[ModerateResult]
    timings_ms: dict[str, float]


class ModelOut(BaseModel):
    """A served model."""

    id: str
    revision: str
    bundle_id: str
    embedding_dim: int
    image_size: int
    context_length: int
    precision: str
    device: str
    demo: bool
    random: bool
    logit_scale: float
    templates: list[str]
    negatives: list[str]


class ModelsResponse(BaseModel):
    """All served models."""

    data: list[ModelOut]


class TritonsOut(BaseModel):
    """How many Tritons are asked for inferences, of those that are known."""

    up: int
    of: int


class ReadinessOut(BaseModel):
    """Whether requests can be answered."""

    status: Literal["ready", "degraded", "unready"]
    failing: list[str]
    degraded: list[str]
    reasons: list[str]
    tritons: TritonsOut
    causes: dict[str, str]
