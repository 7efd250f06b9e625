"""What requests and answers of signing in, of keys and of the status look like."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from gateway.api.schemas.requests import ClientId
from gateway.api.schemas.stored_responses import IsoTime
from gateway.moderation.request_model import StrictModel


class SignInBody(StrictModel):
    """Who signs in."""

    key: str = Field(min_length=1, max_length=256, description="An API key.")
    reviewer: ClientId | None = Field(None, description="As whom verdicts are signed; else as the key's name.")


class ReviewerBody(StrictModel):
    """As whom verdicts are signed."""

    reviewer: ClientId | None = None


class FeaturesOut(BaseModel):
    """What this gateway has."""

    review_images: Literal["none", "link", "store"]
    vectors: bool
    webhooks: bool
    jobs: bool
    log: bool


class SessionOut(BaseModel):
    """Who is signed in, and what the console may offer."""

    open: bool = Field(description="No keys are configured: everybody may do everything.")
    signed_in: bool
    name: str | None = Field(description="Of the API key, or of the person.")
    reviewer: str | None
    roles: list[str]
    expires_at: IsoTime | None
    demo: bool
    oidc: bool = Field(description="Whether GET /v1/session/oidc signs in.")
    version: str
    features: FeaturesOut


class OpenSessionOut(BaseModel):
    """A session, without what opens it."""

    id: str
    name: str
    reviewer: str | None
    by: Literal["key", "oidc"]
    created_at: IsoTime
    seen_at: IsoTime
    expires_at: IsoTime


class OpenSessionsOut(BaseModel):
    """Sessions, the newest first."""

    data: list[OpenSessionOut]


class KeyOut(BaseModel):
    """What is known of an API key."""

    name: str
    roles: list[str]
    rate: str | None
    last_used_at: IsoTime | None = Field(description="To the minute; of all keys with this name, on all gateways.")


class KeysOut(BaseModel):
    """The keys in force."""

    data: list[KeyOut]


class ReplicaOut(BaseModel):
    """A gateway on this database."""

    id: str
    started_at: IsoTime
    seen_at: IsoTime
    ready: bool
    degraded: list[str]


class ThroughputOut(BaseModel):
    """What this gateway answered in the last ``window_s`` seconds."""

    requests_per_s: float
    images_per_s: float
    window_s: float


class StageOut(BaseModel):
    """How long a stage of an image took since this gateway started; null where it has not run."""

    stage: str
    p50_ms: float | None
    p95_ms: float | None
    count: int


class ErrorCountOut(BaseModel):
    """How often this gateway has answered an error since it started."""

    code: str
    count: int


class TritonOut(BaseModel):
    """A Triton, as the gateway that answers sees it."""

    address: str
    up: bool
    reason: str | None = Field(description="Why it is not asked for inferences.")


class NotApplicableOut(BaseModel):
    """What is in force, here or for another bundle, and cannot be applied with the bundle being served."""

    kind: Literal["classifier", "policy"]
    name: str


class StatusOut(BaseModel):
    """How the service does: of all gateways ``replicas`` and what the store counts, the rest of ``replica``."""

    version: str
    replica: str = Field(description="The gateway that answers.")
    model: dict[str, Any]
    ready: bool
    failing: list[str]
    degraded: list[str]
    tritons: list[TritonOut]
    causes: dict[str, str]
    not_applicable: list[NotApplicableOut]
    replicas: list[ReplicaOut]
    throughput: ThroughputOut
    stages: list[StageOut]
    in_flight: dict[str, int]
    errors: list[ErrorCountOut]
    lists: list[dict[str, Any]]
    reviews: dict[str, Any] | None
    webhooks: dict[str, Any] | None
    jobs: dict[str, Any] | None
