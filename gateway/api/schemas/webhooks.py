"""What webhooks are sent, and what the API says of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class DeliveryOut(BaseModel):
    """A webhook event and how far its delivery is."""

    id: str
    event: str
    decision_id: str
    state: Literal["waiting", "delivered", "dead"]
    attempts: int
    created_at: str
    next_at: str | None
    last_error: str | None
    delivered_at: str | None


class DeliveryCounts(BaseModel):
    """Events by state."""

    waiting: int
    dead: int
    delivered: int


class DeliveriesOut(BaseModel):
    """A page of events, newest first."""

    data: list[DeliveryOut]
    next_cursor: str | None
    counts: DeliveryCounts


class EventPolicy(BaseModel):
    """The policy that decided."""

    name: str
    version: int


class EventData(BaseModel):
    """What a person said of a decision; ``decision`` is the policy's, ``outcome`` what holds."""

    decision_id: str
    external_id: str | None
    image_sha256: str
    policy: EventPolicy
    decision: Literal["allow", "review", "block"]
    outcome: Literal["allow", "review", "block"]
    categories: list[str]
    reason: str
    reviewer: str | None
    at: str


class WebhookEvent(BaseModel):
    """An event as it is sent, by Standard Webhooks 1.0."""

    type: Literal["review.verdict", "review.appeal", "review.undo"]
    timestamp: str
    data: EventData
