"""What is asked about samples of logged decisions, and what is answered."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from gateway.api.schemas.requests import WholeNumber
from gateway.api.schemas.responses import PolicyRef
from gateway.api.schemas.stored_requests import CandidatePolicy, Moment
from gateway.moderation.request_model import StrictModel

MOST_SAMPLED = 5000


class SampleIn(StrictModel):
    """A policy, and which of the logged decisions to score by it."""

    policy: CandidatePolicy | None = Field(None, description="A body; without it and a version, what is in force.")
    version: WholeNumber | None = Field(None, ge=1, le=10**9, description="A saved version, instead of a body.")
    since: Moment | None = None
    until: Moment | None = None
    limit: WholeNumber = Field(1000, ge=1, le=MOST_SAMPLED, description="The most decisions, newest first.")

    @model_validator(mode="after")
    def _one_policy(self) -> Self:
        if self.policy is not None and self.version is not None:
            raise ValueError("give policy or version, not both")
        return self


class HistogramIn(SampleIn):
    """As a sample, and how finely scores are counted."""

    bins: WholeNumber = Field(50, ge=2, le=200, description="Of equal width, from 0 to 1.")


class SampledRule(BaseModel):
    """A rule of the policy: its category and thresholds."""

    category: str
    review_at: float | None
    block_at: float | None


class SampledRow(BaseModel):
    """A logged decision: ``scores`` has one score a rule, in the order of ``categories``."""

    id: str
    at: str
    external_id: str | None
    scores: list[float]
    before: Literal["allow", "review", "block"]
    warned: bool
    label: Literal["allow", "block"] | None
    label_categories: list[str]


class SampledFrom(BaseModel):
    """Which policy scored, and what could not be scored and why."""

    policy: PolicyRef
    skipped: int
    skipped_because: dict[str, int]
    source: Literal["vectors", "scores"]
    hint: str | None


class SampleOut(SampledFrom):
    """Decisions as the policy scores them, newest first."""

    categories: list[SampledRule]
    rows: list[SampledRow]


class CurvePoint(BaseModel):
    """A threshold's worth: so many decisions reach it (``flagged``); the shares are of those with a verdict."""

    threshold: float
    precision: float | None
    precision_interval: list[float] | None
    recall: float | None
    recall_interval: list[float] | None
    flagged: int


class HistogramOut(BaseModel):
    """The scores of a rule.

    ``blocked`` counts those that reviewers blocked for its category, ``allowed`` all others with a verdict.
    """

    category: str
    review_at: float | None
    block_at: float | None
    edges: list[float]
    counts: list[int]
    allowed: list[int]
    blocked: list[int]
    labelled: dict[str, int]
    curve: list[CurvePoint]


class HistogramsOut(SampledFrom):
    """How the scores of each rule are spread over the decisions."""

    sampled: int
    categories: list[HistogramOut]


class StatisticsBucket(BaseModel):
    """Decisions of an hour, a day or a week, which begins on Monday, UTC; ``to`` is exclusive."""

    model_config = {"populate_by_name": True, "serialize_by_alias": True}

    from_: str = Field(alias="from")
    to: str
    decisions: dict[str, int]
    outcomes: dict[str, int]
    reviewed: int
    agreed: int
    overturned: int


class StatisticsOut(BaseModel):
    """Decisions over time, oldest first."""

    data: list[StatisticsBucket]


EXAMPLE_SAMPLE: dict[str, Any] = {"limit": 100}
