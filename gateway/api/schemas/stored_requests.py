"""What requests about stored things may hold: versions, dry runs, feedback, lists."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.api.schemas.requests import ClientId, ImageIn, WholeNumber
from gateway.moderation.policy import Policy
from gateway.moderation.request_model import StrictModel


def written(value: object) -> object:
    """Return a time if it is written as one: pydantic would take a bare number for seconds since 1970.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, datetime) and not (isinstance(value, str) and "-" in value[4:]):
        raise ValueError("must be a time as in 2026-01-31T12:00:00Z")
    return value


def in_utc(moment: datetime) -> datetime:
    """Return a time in UTC; one without a zone is taken as that.

    Raises:
        ValueError: the zone takes it out of the years 1 to 9999.
    """
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


Moment = Annotated[datetime, BeforeValidator(written), AfterValidator(in_utc)]


class Activation(StrictModel):
    """Which version is to be the active one."""

    version: WholeNumber = Field(ge=1, le=10**9)


class DryRunBody(StrictModel):
    """A candidate policy and what to try it on: images, or decisions whose vectors were stored."""

    policy: Policy | None = None
    version: WholeNumber | None = Field(None, ge=1)
    images: list[ImageIn] = Field(default_factory=list)
    since: Moment | None = None
    until: Moment | None = None
    decision: Literal["allow", "review", "block"] | None = None
    category: str | None = Field(None, max_length=64)
    external_id: ClientId | None = None
    limit: WholeNumber = Field(1000, ge=1, le=10_000)
    examples: WholeNumber = Field(10, ge=0, le=100)

    @model_validator(mode="after")
    def _one_candidate(self) -> DryRunBody:
        if (self.policy is None) == (self.version is None):
            raise ValueError("give exactly one of policy and version")
        filters = {"since", "until", "decision", "category", "external_id"} & self.model_fields_set
        if self.images and filters:
            raise ValueError(f"give images, or {', '.join(sorted(filters))} for stored decisions, not both")
        return self


class FeedbackIn(StrictModel):
    """A reviewer's verdict."""

    decision: Literal["allow", "block"]
    categories: list[Annotated[str, Field(max_length=64)]] = Field(default_factory=list, max_length=50)
    note: str = Field("", max_length=4000)


class ListIn(StrictModel):
    """A list of known images."""

    action: Literal["block", "allow"]
    kind: Literal["sha256", "pdq"]
    max_distance: WholeNumber = Field(31, ge=0, le=127, description="Bits of 256 that may differ; PDQ only.")
