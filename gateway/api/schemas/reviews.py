"""What requests of the review queue may hold, and what its answers look like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.schemas.requests import ClientId
from gateway.api.schemas.stored_requests import FeedbackIn
from gateway.api.schemas.stored_responses import DecisionOut
from gateway.moderation.request_model import StrictModel

Token = Annotated[str, Field(min_length=1, max_length=64, description="That the claim was answered with.")]
Filter = Annotated[str, Field(max_length=256)]


class ClaimIn(StrictModel):
    """Which case a reviewer wants next."""

    order: Literal["oldest", "riskiest", "uncertain"] = "oldest"
    policy: Filter | None = None
    category: Filter | None = Field(None, description="One that fired.")
    key: Filter | None = Field(None, description="Name of the API key that asked for the decision.")
    reason: Literal["policy", "audit", "appeal", "second_opinion"] | None = Field(None, description="Why it waits.")
    reviewer: ClientId | None = Field(None, description="Who claims, where several people share an API key.")


class ExtendIn(StrictModel):
    """A claim to keep."""

    claim: Token


class ReleaseIn(StrictModel):
    """A claim to give back."""

    claim: Token
    skip: bool = Field(default=False, description="Do not offer the case to this reviewer again for a while.")


class VerdictIn(FeedbackIn):
    """A reviewer's verdict under a claim."""

    claim: Token
    second_opinion: bool = Field(
        default=False, description="Leave the case open for another person; this verdict holds until theirs."
    )


class UndoIn(StrictModel):
    """Whose verdict is to be taken back."""

    reviewer: ClientId | None = None


class AppealIn(StrictModel):
    """Why a decision is to be looked at again."""

    note: str = Field("", max_length=4000)
    by: ClientId | None = Field(None, description="Who appeals, as you name them.")


class LegalHoldIn(StrictModel):
    """An external id whose decisions may not be deleted."""

    external_id: Annotated[ClientId, Field(min_length=1)]
    reason: str = Field("", max_length=1000)


class ClaimOut(BaseModel):
    """Who has a case and until when; ``token`` is answered to that person alone."""

    by: str
    until: str
    token: str | None = None


class WithheldOut(BaseModel):
    """The list that a picture is on, for which it is not shown, and what the operator wants done."""

    list: str
    procedure: str


class CaseImageOut(BaseModel):
    """What there is to see: so many kept stills of an image of this size, or a URL.

    ``frames_ms`` has for each still when its frame begins; null of what does not move.
    """

    state: Literal["kept", "linked", "none", "deleted", "withheld"]
    stills: int
    width: int | None
    height: int | None
    frames_ms: list[int | None]
    url: str | None


class CaseOut(BaseModel):
    """A decision that waits for a person, or did. ``risk`` and ``margin`` are 0..1."""

    id: str
    state: Literal["waiting", "claimed", "closed"]
    reason: Literal["policy", "audit", "appeal", "second_opinion"]
    opened_at: str
    closed_at: str | None
    risk: float
    margin: float
    claim: ClaimOut | None
    legal_hold: bool
    withheld: WithheldOut | None
    image: CaseImageOut
    decision: DecisionOut


class CountsOut(BaseModel):
    """The whole queue, whatever the filters."""

    waiting: int
    claimed: int
    appeals: int
    oldest_at: str | None


class CasesOut(BaseModel):
    """A page of cases."""

    data: list[CaseOut]
    next_cursor: str | None
    counts: CountsOut


class ExtendedOut(BaseModel):
    """Until when a claim holds now."""

    until: str


class LegalHoldOut(BaseModel):
    """A legal hold."""

    external_id: str
    reason: str
    at: str
    key: str | None


class LegalHoldsOut(BaseModel):
    """A page of legal holds, by external id."""

    data: list[LegalHoldOut]
    next_cursor: str | None


class SimilarOne(BaseModel):
    """A decision and the cosine of its image's first view, -1..1."""

    similarity: float
    decision: DecisionOut


class SimilarOut(BaseModel):
    """Similar decisions, most similar first, of so many that were searched."""

    data: list[SimilarOne]
    searched: int
    hint: str | None = None
