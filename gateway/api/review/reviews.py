"""/v1/reviews: the queue of decisions that wait for a person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.requests import Request

from gateway.api.authorization import READ, REVIEW, actor_of, holds, key_name
from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.openapi import request_body
from gateway.api.parameters import Limit, Text, known_parameters
from gateway.api.review.case_json import case_out, cases_out, without_people
from gateway.api.review.reviewer import reviewer_of
from gateway.api.review.verdict_answer import TAKEN, reviewed, verdict_of
from gateway.api.schemas.reviews import (
    AppealIn,
    CaseOut,
    CasesOut,
    ClaimIn,
    ExtendedOut,
    ExtendIn,
    ReleaseIn,
    UndoIn,
    VerdictIn,
)
from gateway.api.schemas.stored_responses import ReviewedOut
from gateway.api.store_calls import put_in_force, stored
from gateway.errors import NotFound, ReviewClaimLost, VerdictNotUndoable
from gateway.store.review.cases import CaseFilter, CaseTaken
from gateway.store.review.feedback import Feedback
from gateway.store.review.verdicts import NotUndoable

M = TypeVar("M", bound=BaseModel)
NOT_FILTERED = "A filter holds a character that cannot be kept, or the cursor is not one given out here."
NO_CASE = "No case was opened for such a decision."

router = APIRouter(tags=["review"], prefix="/v1/reviews", dependencies=[Depends(known_parameters)])


@router.get("", summary="The review queue", response_model=CasesOut)
async def queue(
    services: ServicesDep,
    order: Annotated[
        Literal["oldest", "riskiest", "uncertain"], Query(description="Of closed cases, the latest come first.")
    ] = "oldest",
    policy: Text = None,
    category: Annotated[str | None, Query(max_length=256, description="One that fired.")] = None,
    key: Text = None,
    state: Annotated[
        Literal["open", "waiting", "claimed", "closed"], Query(description="open: waiting or claimed.")
    ] = "open",
    reason: Literal["policy", "audit", "appeal", "second_opinion"] | None = None,
    cursor: Text = None,
    limit: Limit = 50,
) -> Response:
    """Return a page of cases, and the whole queue in numbers."""
    wanted = CaseFilter(policy, category, key, state, reason)
    page = await stored(services.review.cases.page(wanted, order, limit=limit, cursor=cursor), NOT_FILTERED)
    counts = await stored(services.review.cases.counts())
    answer = {
        "data": await cases_out(services, page.cases),
        "next_cursor": page.next_cursor,
        "counts": {
            "waiting": counts.waiting,
            "claimed": counts.claimed,
            "appeals": counts.appeals,
            "oldest_at": counts.oldest_at and counts.oldest_at.isoformat(),
        },
    }
    return _json(answer)


@router.post(
    "/claim",
    summary="Claim the next case",
    response_model=CaseOut,
    responses={204: {"description": "Nothing waits for this reviewer."}},
    openapi_extra=request_body(ClaimIn, {"order": "riskiest", "reviewer": "ann"}),
)
async def claim(request: Request, services: ServicesDep) -> Response:
    """Claim the first case of an order that nobody has; `claim.token` stands for the claim until `claim.until`.

    A reviewer who holds as many cases as `REVIEW_CLAIMS` gets the one claimed first again. Nobody gets a case that they
    skipped lately, nor for a second opinion one that they decided.
    """
    given = await _body(request, services, ClaimIn)
    wanted = CaseFilter(given.policy, given.category, given.key, reason=given.reason)
    found = await stored(services.review.cases.claim(reviewer_of(request, given.reviewer), given.order, wanted))
    return Response(status_code=204) if found is None else _json(await case_out(services, found, token=True))


@router.get("/{decision_id}", summary="One case", response_model=CaseOut)
async def case_of(services: ServicesDep, decision_id: str) -> Response:
    """Return a case, closed ones too, with all that was said of its decision."""
    found = await stored(services.review.cases.read(decision_id))
    if found is None:
        raise NotFound(NO_CASE)
    return _json(await case_out(services, found))


@router.post(
    "/{decision_id}/extend",
    summary="Keep a claim",
    response_model=ExtendedOut,
    openapi_extra=request_body(ExtendIn, {"claim": "the token of the claim"}),
)
async def extend(request: Request, services: ServicesDep, decision_id: str) -> Response:
    """Begin a claim's lease anew. 409 `claim_lost` if somebody else has the case, or it is decided."""
    given = await _body(request, services, ExtendIn)
    try:
        until = await stored(services.review.cases.extend(decision_id, given.claim))
    except CaseTaken:
        raise ReviewClaimLost(TAKEN) from None
    return _json({"until": until.isoformat()})


@router.post(
    "/{decision_id}/release",
    summary="Give a claim back",
    status_code=204,
    openapi_extra=request_body(ReleaseIn, {"claim": "the token of the claim", "skip": True}),
)
async def release(request: Request, services: ServicesDep, decision_id: str) -> Response:
    """Let others have a case; with `skip` it is not offered to this reviewer for `REVIEW_SKIP_S` seconds."""
    given = await _body(request, services, ReleaseIn)
    try:
        await stored(services.review.cases.release(decision_id, given.claim, skip=given.skip))
    except CaseTaken:
        raise ReviewClaimLost(TAKEN) from None
    return Response(status_code=204)


@router.post(
    "/{decision_id}/verdict",
    summary="A verdict under a claim",
    status_code=201,
    response_model=ReviewedOut,
    openapi_extra=request_body(
        VerdictIn, {"claim": "the token of the claim", "decision": "allow", "note": "A drawing."}
    ),
)
async def give_verdict(request: Request, services: ServicesDep, decision_id: str) -> Response:
    """Keep a verdict, which is the `outcome` from now on, and close the case.

    A verdict repeated under its claim answers the same and is kept once. One whose lease ran out counts unless somebody
    else has claimed the case since: 409 `claim_lost`. `second_opinion` leaves the case open for another person.
    """
    given = await _body(request, services, VerdictIn)
    made = verdict_of(request, decision_id, given)
    giving = services.review.verdicts.give(
        made,
        actor=actor_of(request),
        add_to_list=bool(given.add_to_list),
        token=given.claim,
        second_opinion=given.second_opinion,
    )
    return await reviewed(services, giving, given.decision)


@router.post(
    "/{decision_id}/undo",
    summary="Take one's verdict back",
    response_model=CaseOut,
    openapi_extra=request_body(UndoIn, {"reviewer": "ann"}),
)
async def undo(request: Request, services: ServicesDep, decision_id: str) -> Response:
    """Take back one's own latest verdict, within `REVIEW_UNDO_S` seconds: the case is claimed again by who gave it.

    The outcome is what it was before, and what the verdict changed of hash lists is undone; the history keeps both. 409
    `not_undoable` if it was not this reviewer's, somebody else has said something since or has the case, or it is late.
    """
    given = await _body(request, services, UndoIn)
    who = reviewer_of(request, given.reviewer)
    undoing = services.review.verdicts.undo(decision_id, who, actor=actor_of(request), key=key_name(request))
    try:
        case = await stored(undoing)
    except NotUndoable:
        raise VerdictNotUndoable("There is no verdict of this reviewer that can still be taken back.") from None
    await put_in_force(services.list_refresher)
    return _json(await case_out(services, case, token=True))


@router.post(
    "/{decision_id}/appeal",
    summary="Ask for a person",
    status_code=201,
    response_model=CaseOut,
    openapi_extra=request_body(AppealIn, {"note": "It is a painting.", "by": "user-7"}),
)
async def appeal(request: Request, services: ServicesDep, decision_id: str) -> Response:
    """Open a decision's case, or reopen it with its history; the `outcome` stays until a verdict.

    Keys without the role `review` or `read` see neither who reviewed or claimed it, nor what was said, nor holds.
    """
    given = await _body(request, services, AppealIn)
    made = Feedback(decision_id, datetime.now(UTC), None, [], given.note, key_name(request), given.by, kind="appeal")
    case = await stored(services.review.verdicts.appeal(made, actor=actor_of(request)))
    if case is None:
        raise NotFound("There is no such decision.")
    shown = await case_out(services, case)
    return _json(shown if holds(request, READ | REVIEW) else without_people(shown), 201)


async def _body(request: Request, services: Services, model: type[M]) -> M:
    with services.admission.request() as reservation:
        return validated(model, await read_json(request, services.body_rules, reservation))


def _json(answer: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(answer), status, media_type="application/json")
