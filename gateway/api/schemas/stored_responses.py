"""What answers about stored things look like; for the OpenAPI text."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from gateway.api.schemas.responses import CategoryOut, ModeratedViewOut, PolicyRef, ShadowOut

IsoTime = Annotated[str, BeforeValidator(datetime.isoformat)]


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


class CandidateOut(BaseModel):
    """A version that decides about a share of the images."""

    version: int
    share: float


class RolloutOut(BaseModel):
    """What runs beside a policy's active version."""

    policy: str
    shadow: str | None
    candidate: CandidateOut | None


class FeedbackOut(BaseModel):
    """What was said of a decision as it was kept: a verdict, an appeal, or a verdict taken back."""

    at: str
    kind: Literal["verdict", "appeal", "undo"]
    decision: Literal["allow", "block"] | None
    categories: list[str]
    note: str
    reason: str
    key: str | None
    reviewer: str | None
    list: str | None
    undone: bool


class ReviewedOut(FeedbackOut):
    """A verdict that was just given, the lists that the image is on for it, and lists that block it all the same."""

    lists: list[str]
    still_blocked_by: list[str]
    state: Literal["waiting", "closed"]


class ReviewOut(BaseModel):
    """Who gave the verdict that is a decision's outcome: the API key, and the reviewer that its holder named."""

    at: str
    key: str | None
    reviewer: str | None


class DecisionOut(BaseModel):
    """An entry of the decision log."""

    id: str
    at: str
    request_id: str
    external_id: str | None
    key: str | None
    image: dict[str, str | None]
    policy: PolicyRef
    bundle_id: str
    decision: Literal["allow", "review", "block"]
    outcome: Literal["allow", "review", "block"]
    reviewed: ReviewOut | None
    shadow_differs: bool | None
    audit_share: float | None
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


class AuditEntry(BaseModel):
    """A change: who made it, with which request, and of what."""

    at: IsoTime
    actor: str
    request_id: str | None
    action: str
    kind: str
    name: str
    version: int | None
    detail: dict[str, Any]


class AuditOut(BaseModel):
    """A page of the audit, newest first."""

    data: list[AuditEntry]
    next_cursor: str | None


class Deleted(BaseModel):
    """How many were deleted."""

    deleted: int


class ListOut(BaseModel):
    """A list and how many entries it has."""

    name: str
    action: Literal["block", "allow"]
    kind: Literal["sha256", "pdq"]
    max_distance: int
    withhold: bool
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


class DryRunResult(BaseModel):
    """What the candidate says of a stored decision that was named, or why it cannot (``skipped``)."""

    decision_id: str
    skipped: str | None
    image_sha256: str | None = None
    decision: Literal["allow", "review", "block"] | None = None
    categories: list[CategoryOut] | None = None
    views: list[ModeratedViewOut] | None = None


class DryRunOut(BaseModel):
    """What a candidate would change against the active version."""

    active: PolicyRef
    candidate: PolicyRef
    compared: int
    skipped: int
    changed: int
    counts: list[ChangeOut]
    examples: list[DryRunExample]
    skipped_because: dict[str, int]
    warnings: list[str]
    hint: str | None
    results: list[DryRunResult] | None = None
