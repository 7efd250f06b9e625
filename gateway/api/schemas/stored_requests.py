"""What requests about stored things may hold: versions, dry runs, feedback, lists."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.api.body.validation import NAME_PATTERN
from gateway.api.schemas.requests import ClientId, ImageIn, ImagesBody, ImagesForm, WholeNumber
from gateway.moderation.classifiers import Reference
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


BundleId = Annotated[
    str,
    Field(min_length=1, max_length=100, description="As /v1/models names it, or its first 6 digits or more."),
]
Moment = Annotated[datetime, BeforeValidator(written), AfterValidator(in_utc)]


class Activation(StrictModel):
    """Which version is to be the active one."""

    version: WholeNumber = Field(ge=1, le=10**9)


class CarryIn(StrictModel):
    """From which bundle a policy is to be carried to the one being served."""

    from_bundle: BundleId
    activate: bool = Field(
        default=False, description="Put it in force, though its thresholds were not measured on this bundle."
    )


class RolloutCandidate(StrictModel):
    """A version that decides about a share of the images."""

    version: WholeNumber = Field(ge=1, le=10**9)
    share: float = Field(ge=0, le=1, strict=True, description="Of the images, by their SHA-256: 0.1 is a tenth.")


class RolloutIn(StrictModel):
    """What is to run beside a policy's active version."""

    shadow: Reference | None = Field(
        None, description="A policy, name or name@version: evaluated and reported with each image, never decisive."
    )
    candidate: RolloutCandidate | None = Field(None, description="Decides in the active version's place.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.shadow is None and self.candidate is None:
            raise ValueError("give shadow, candidate or both")
        return self


SERVERS_FIELDS = frozenset({"name", "version", "active", "created_at", "bundle_id", "classifiers"})
"""What the service itself adds to a body that it shows."""


class CandidatePolicy(Policy):
    """A policy's body as PUT takes it, so also as GET shows it."""

    name: str | None = Field(None, description="As GET shows it: the path's, or left out.")

    @model_validator(mode="before")
    @classmethod
    def _as_read(cls, value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        if not isinstance(value, dict):
            return value
        return {field: given for field, given in value.items() if field == "name" or field not in SERVERS_FIELDS}


MAX_DECISION_IDS = 200


class DryRunFields(StrictModel):
    """A candidate policy, and which decisions whose vectors were stored to try it on, unless images are given."""

    policy: CandidatePolicy | None = Field(None, description="A body; in a form, within options.")
    version: WholeNumber | None = Field(None, ge=1, le=10**9, description="A saved version, instead of a body.")
    since: Moment | None = None
    until: Moment | None = None
    decision: Literal["allow", "review", "block"] | None = None
    category: str | None = Field(None, max_length=64)
    external_id: ClientId | None = None
    decision_ids: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=list,
        max_length=MAX_DECISION_IDS,
        description="These stored decisions, of whatever policy; each has its result under the candidate in `results`.",
    )
    include: list[Literal["views", "embedding"]] = Field(
        default_factory=list, description="Extra parts of `results`, as in moderate."
    )
    limit: WholeNumber = Field(1000, ge=1, le=10_000, description="The most stored decisions that are compared.")
    examples: WholeNumber = Field(10, ge=0, le=100, description="The most images that would change and are shown.")

    @model_validator(mode="after")
    def _one_candidate(self) -> Self:
        if (self.policy is None) == (self.version is None):
            raise ValueError("give exactly one of policy and version")
        if self.decision_ids and len(self.filters) > 1:
            raise ValueError("decision_ids says which decisions; leave the filters out")
        if self.include and not self.decision_ids:
            raise ValueError("include is about the results of decision_ids")
        return self

    @property
    def filters(self) -> list[str]:
        """The filters of stored decisions that are given."""
        return sorted({"since", "until", "decision", "category", "external_id", "decision_ids"} & self.model_fields_set)


class DryRunBody(ImagesBody, DryRunFields):
    """A JSON request for a dry run: over ``images``, or without any over stored decisions."""

    images: list[ImageIn] = Field(default_factory=list, description="The images.")


class DryRunForm(ImagesForm, DryRunFields):
    """A multipart request for a dry run, over images."""


class FeedbackIn(StrictModel):
    """A reviewer's verdict."""

    decision: Literal["allow", "block"]
    categories: list[Annotated[str, Field(max_length=64)]] = Field(default_factory=list, max_length=50)
    note: str = Field("", max_length=4000)
    reason: str = Field("", max_length=256, description="In a word or sentence; webhooks carry it, unlike the note.")
    reviewer: ClientId | None = Field(None, description="Who decided, where several people share an API key.")
    add_to_list: Annotated[str, Field(pattern=NAME_PATTERN)] | bool | None = Field(
        None,
        description="Put the image's SHA-256 on this list, made if it is not there; the verdict is its action. "
        "true: on `reviewed-allow` or `reviewed-block`, and the PDQ hash of what is blocked on `reviewed-block-pdq`. "
        "The image leaves the lists of earlier verdicts to the contrary. Needs the role `manage`.",
    )


class ListIn(StrictModel):
    """A list of known images."""

    action: Literal["block", "allow"] = Field(
        description="What is decided about an image on the list, for every policy and without the model; block wins."
    )
    kind: Literal["sha256", "pdq"] = Field(
        description="Of its hashes. sha256: the same file. pdq: the same picture, scaled or compressed anew, to block."
    )
    max_distance: WholeNumber = Field(31, ge=0, le=127, description="Bits of 256 that may differ; PDQ only.")
    withhold: bool = Field(
        default=False,
        description="What the list matches is never stored or shown to reviewers, as of known illegal material; for "
        "lists that block.",
    )
