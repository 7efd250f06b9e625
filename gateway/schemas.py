"""The wire: what a request's fields may be, and what the answers look like in the OpenAPI text."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.classifiers import Reference
from gateway.labels import Mode
from gateway.policy import Policy
from gateway.views import ViewRule

Include = Literal["similarity", "embedding", "views"]
ClientId = Annotated[str, Field(max_length=256)]
UrlText = Annotated[str, Field(min_length=1, max_length=8192)]


class Wire(BaseModel):
    """A part of a request: unknown fields are refused, so that a typing error is not read past."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageIn(Wire):
    """One picture: exactly one of ``url`` and ``base64``."""

    url: UrlText | None = Field(None, description="An http or https URL on the public internet.")
    base64: str | None = Field(None, description="The file in base64; a data: URI is accepted too.")
    id: ClientId | None = Field(None, description="Yours; echoed back.")

    @model_validator(mode="after")
    def _one_source(self) -> ImageIn:
        if (self.url is None) == (self.base64 is None):
            raise ValueError("give exactly one of url and base64")
        return self


class ClassifyFields(Wire):
    """What to ask about the pictures."""

    classifier: Reference | None = Field(None, description="A stored classifier, name or name@version.")
    labels: list[str] = Field(
        default_factory=list, description="What the picture may show, in words.", examples=[["a cat", "a dog"]]
    )
    templates: list[str] | None = Field(
        None, description="Prompt templates with {} for the label, averaged; the bundle's own by default."
    )
    negatives: list[str] | None = Field(
        None, description="Independent mode: prompts each label is weighed against; the bundle's own by default."
    )
    mode: Mode = Field("softmax", description="softmax: scores sum to 1 over the labels. independent: each by itself.")
    top_k: int | None = Field(None, ge=1, description="Only the best scores.")
    views: ViewRule = Field(
        "center", description="center: the reference's crop. full: everything. tiles: full and squares."
    )
    include: list[Include] = Field(default_factory=list, description="Extra parts of the answer.")

    @model_validator(mode="after")
    def _labels_or_classifier(self) -> ClassifyFields:
        given = {name for name in ("labels", "templates", "negatives", "mode") if name in self.model_fields_set}
        if self.classifier is not None and given:
            raise ValueError(f"a stored classifier brings its own {', '.join(sorted(given))}")
        return self


class ClassifyBody(ClassifyFields):
    """A JSON request to classify pictures."""

    images: list[ImageIn] = Field(min_length=1, description="The pictures.")


class ClassifyForm(ClassifyFields):
    """A multipart request to classify pictures; lists by repeating a field."""

    file: list[Annotated[bytes, Field(json_schema_extra={"format": "binary"})]] = Field(
        default_factory=list, description="The pictures."
    )
    url: list[UrlText] = Field(default_factory=list, description="URLs of pictures.")
    options: str | None = Field(None, description="The other fields as one JSON object.")


class EmbeddingImage(Wire):
    """A picture to embed: exactly one of ``url`` and ``base64``."""

    url: UrlText | None = None
    base64: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> EmbeddingImage:
        if (self.url is None) == (self.base64 is None):
            raise ValueError("give exactly one of url and base64")
        return self


class EmbeddingInput(Wire):
    """Something to embed: exactly one of ``text`` and ``image``."""

    text: str | None = None
    image: EmbeddingImage | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> EmbeddingInput:
        if (self.text is None) == (self.image is None):
            raise ValueError("give exactly one of text and image")
        return self


class EmbeddingsBody(BaseModel):
    """A request for vectors; OpenAI's other fields (``model``, ``user``, …) are accepted and change nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    input: str | list[str | EmbeddingInput] = Field(description="Texts and pictures.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: little-endian float32, a third of the size."
    )


class Activation(Wire):
    """Which version is to be the active one."""

    version: int = Field(ge=1, le=10**9)


class ResourceOut(BaseModel):
    """A version of a classifier or policy: these fields, and those of its body."""

    model_config = ConfigDict(extra="allow")

    name: str
    version: int
    active: bool
    created_at: str


class ResourcesOut(BaseModel):
    """Several versions."""

    data: list[ResourceOut]


class ModerateFields(Wire):
    """What to decide by."""

    policy: Reference = Field("default", description="name or name@version.")
    shadow: Reference | None = Field(None, description="A second policy: evaluated and reported, never decisive.")
    external_id: ClientId | None = Field(None, description="Yours; kept in the decision log.")


class ModerateBody(ModerateFields):
    """A JSON request to moderate pictures."""

    images: list[ImageIn] = Field(min_length=1, description="The pictures.")


class ModerateForm(ModerateFields):
    """A multipart request to moderate pictures."""

    file: list[Annotated[bytes, Field(json_schema_extra={"format": "binary"})]] = Field(
        default_factory=list, description="The pictures."
    )
    url: list[UrlText] = Field(default_factory=list, description="URLs of pictures.")
    options: str | None = Field(None, description="The other fields as one JSON object.")


class EvidenceOut(BaseModel):
    """One reason for a category's score."""

    kind: Literal["label", "head", "list"]
    label: str
    score: float
    view: str
    box: list[int]
    frame_ms: int | None


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


class ModerateResult(BaseModel):
    """One picture's decision, or its error."""

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


class ModerateResponse(BaseModel):
    """The answer to a moderation; categories come strictest first."""

    request_id: str
    model: ModelRef
    results: list[ModerateResult]
    timings_ms: dict[str, float]


class FeedbackIn(Wire):
    """A reviewer's verdict."""

    decision: Literal["allow", "block"]
    categories: list[Annotated[str, Field(max_length=64)]] = Field(default_factory=list, max_length=50)
    note: str = Field("", max_length=4000)


class FeedbackOut(BaseModel):
    """A reviewer's verdict as it was kept."""

    at: str
    decision: Literal["allow", "block"]
    categories: list[str]
    note: str


class DecisionOut(BaseModel):
    """A line of the decision log."""

    id: str
    at: str
    request_id: str
    external_id: str | None
    image: dict[str, str | None]
    policy: PolicyRef
    bundle_id: str
    decision: Literal["allow", "review", "block"]
    scores: dict[str, float]
    categories: list[CategoryOut]
    attributes: dict[str, Any]
    shadow: ShadowOut | None
    warnings: list[str]
    feedback: list[FeedbackOut] | None = None


class DecisionsOut(BaseModel):
    """A page of the decision log, newest first."""

    data: list[DecisionOut]
    next_cursor: str | None


class Deleted(BaseModel):
    """How many were deleted."""

    deleted: int


class ListIn(Wire):
    """A list of known pictures."""

    action: Literal["block", "allow"]
    kind: Literal["sha256", "pdq"]
    max_distance: int = Field(31, ge=0, le=127, description="Bits of 256 that may differ; PDQ only.")


class ListOut(BaseModel):
    """A list and how many entries it has."""

    name: str
    action: Literal["block", "allow"]
    kind: Literal["sha256", "pdq"]
    max_distance: int
    entries: int


class ListsOut(BaseModel):
    """All lists."""

    data: list[ListOut]


class EntriesOut(BaseModel):
    """A page of a list's hashes, ascending."""

    data: list[str]
    next_cursor: str | None


class Added(BaseModel):
    """How many hashes were read, and how many of them were new."""

    received: int
    added: int


class DryRunBody(Wire):
    """A candidate policy and what to try it on: pictures, or decisions whose vectors were stored."""

    policy: Policy | None = None
    version: int | None = Field(None, ge=1)
    images: list[ImageIn] = Field(default_factory=list)
    since: datetime | None = None
    until: datetime | None = None
    decision: Literal["allow", "review", "block"] | None = None
    category: str | None = Field(None, max_length=64)
    external_id: ClientId | None = None
    limit: int = Field(1000, ge=1, le=10_000)
    examples: int = Field(10, ge=0, le=100)

    @model_validator(mode="after")
    def _one_candidate(self) -> DryRunBody:
        if (self.policy is None) == (self.version is None):
            raise ValueError("give exactly one of policy and version")
        return self


class ChangeOut(BaseModel):
    """How many decisions would go from one to another."""

    before: Literal["allow", "review", "block"]
    after: Literal["allow", "review", "block"]
    count: int


class DryRunExample(BaseModel):
    """A decision that would change."""

    decision_id: str | None
    external_id: str | None
    image_sha256: str
    before: Literal["allow", "review", "block"]
    after: Literal["allow", "review", "block"]
    categories: list[CategoryOut]


class DryRunOut(BaseModel):
    """What a candidate would change against the active version."""

    active: PolicyRef
    candidate: PolicyRef
    compared: int
    skipped: int
    changed: int
    counts: list[ChangeOut]
    examples: list[DryRunExample]
    warnings: list[str]


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str


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
    """The scores of one view of one frame; ``box`` is x0, y0, x1, y1 in pixels of the upright picture."""

    view: str
    box: list[int]
    frame_ms: int | None
    scores: list[ScoreOut]


class ClassifyResult(BaseModel):
    """One picture's answer, or its error."""

    index: int
    id: str | None
    image: ImageOut | None
    scores: list[ScoreOut] | None
    error: Problem | None
    embedding: list[float] | None = None
    views: list[ViewOut] | None = None


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


class Readiness(BaseModel):
    """Whether requests can be answered."""

    status: Literal["ready", "unready"]
    failing: list[str]
    degraded: list[str]
