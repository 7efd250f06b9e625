"""/v1/decisions: the log, its export, feedback and deletion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse
from starlette.requests import Request

from gateway.api.authorization import actor_of
from gateway.api.body.reader import validated
from gateway.api.classifiers_and_policies import away, json_body
from gateway.api.dependencies import Services
from gateway.api.openapi import request_body
from gateway.api.query_params import known_parameters
from gateway.api.schemas.stored_requests import FeedbackIn, Moment
from gateway.api.schemas.stored_responses import DecisionOut, DecisionsOut, Deleted, FeedbackOut
from gateway.errors import InvalidRequest, NotFound
from gateway.moderation.classifiers import Reference, split_reference
from gateway.store.decisions import DecisionFilter, DecisionRecord, Decisions, Feedback, Page

EXPORT_PAGE = 500

router = APIRouter(tags=["decisions"], dependencies=[Depends(known_parameters)])

Wanted = Literal["allow", "review", "block"]
Text = Annotated[str | None, Query(max_length=256)]


@router.get(
    "/v1/decisions",
    summary="The decision log, newest first",
    response_model=DecisionsOut,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
async def decisions(
    request: Request,
    since: Moment | None = None,
    until: Moment | None = None,
    policy: Annotated[Reference | None, Query(description="name or name@version.")] = None,
    decision: Wanted | None = None,
    category: Annotated[str | None, Query(max_length=256, description="One that was reviewed or blocked.")] = None,
    external_id: Text = None,
    cursor: Text = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    format: Literal["json", "jsonl"] = "json",  # noqa: A002 - the API's name
) -> Response:
    """Return a page of decisions, or with ``format=jsonl`` all that the filters leave, one a line."""
    services: Services = request.state.services
    name, number = split_reference(policy) if policy else (None, None)
    wanted = DecisionFilter(aware(since), aware(until), name, number, decision, category, external_id)
    first = await away(page(services.decisions, wanted, cursor, EXPORT_PAGE if format == "jsonl" else limit))
    if format == "jsonl":
        return StreamingResponse(export(services.decisions, wanted, first), media_type="application/x-ndjson")
    answer = {"data": [out(record) for record in first.records], "next_cursor": first.next_cursor}
    return Response(orjson.dumps(answer), media_type="application/json")


@router.get("/v1/decisions/{decision_id}", summary="One decision with its feedback", response_model=DecisionOut)
async def decision_of(request: Request, decision_id: str) -> Response:
    """Return one decision and what reviewers said of it."""
    services: Services = request.state.services
    found = await away(services.decisions.read(decision_id))
    if found is None:
        raise NotFound("There is no such decision.")
    record, feedback = found
    answer = {**out(record), "feedback": [feedback_out(entry) for entry in feedback]}
    return Response(orjson.dumps(answer), media_type="application/json")


@router.post(
    "/v1/decisions/{decision_id}/feedback",
    summary="A reviewer's verdict",
    status_code=201,
    response_model=FeedbackOut,
    openapi_extra=request_body(FeedbackIn),
)
async def give_feedback(request: Request, decision_id: str) -> Response:
    """Keep what a reviewer decided; several verdicts may be given and each is kept."""
    services: Services = request.state.services
    given = validated(FeedbackIn, await json_body(request))
    made = Feedback(decision_id, datetime.now(UTC), given.decision, given.categories, given.note)
    if not await away(services.decisions.add_feedback(made, actor=actor_of(request))):
        raise NotFound("There is no such decision.")
    return Response(orjson.dumps(feedback_out(made)), 201, media_type="application/json")


@router.delete("/v1/decisions", summary="Forget an external id", response_model=Deleted)
async def forget(request: Request, external_id: Annotated[str, Query(min_length=1, max_length=256)]) -> Deleted:
    """Delete every decision of an external id, and its feedback."""
    services: Services = request.state.services
    return Deleted(deleted=await away(services.decisions.forget(external_id, actor=actor_of(request))))


async def page(log: Decisions, wanted: DecisionFilter, cursor: str | None, limit: int) -> Page:
    """Return a page.

    Raises:
        InvalidRequest: a cursor that was not given out here, or a filter that no database takes.
    """
    try:
        return await log.page(wanted, cursor=cursor, limit=limit)
    except ValueError:
        said = "A filter holds what cannot be kept" + (
            ", or the cursor is not one given out here." if cursor is not None else "."
        )
        raise InvalidRequest(said) from None


async def export(log: Decisions, wanted: DecisionFilter, first: Page) -> AsyncIterator[bytes]:
    """Yield every decision as a JSON line, page after page."""
    current = first
    while True:
        yield b"".join(orjson.dumps(out(record)) + b"\n" for record in current.records)
        if current.next_cursor is None:
            return
        current = await log.page(wanted, cursor=current.next_cursor, limit=EXPORT_PAGE)


def aware(moment: datetime | None) -> datetime | None:
    """Return a time in UTC; one without a zone is taken as that.

    Raises:
        InvalidRequest: the zone takes it out of the years 1 to 9999.
    """
    if moment is None or moment.tzinfo is None:
        return moment and moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest("A time is out of range.") from None


def out(record: DecisionRecord) -> dict[str, Any]:
    """Return a line of the log as the API shows it."""
    return {
        "id": record.id,
        "at": record.at.isoformat(),
        "request_id": record.request_id,
        "external_id": record.external_id,
        "key": record.detail.get("key"),
        "image": {"sha256": record.image_sha256, "pdq": record.image_pdq},
        "policy": record.detail.get("policy", {"name": record.policy, "version": record.policy_version}),
        "bundle_id": record.bundle_id,
        "decision": record.decision,
        "scores": record.categories,
        "categories": record.detail.get("categories", []),
        "attributes": record.detail.get("attributes", {}),
        "shadow": record.detail.get("shadow"),
        "warnings": record.detail.get("warnings", []),
    }


def feedback_out(feedback: Feedback) -> dict[str, Any]:
    """Return a verdict as the API shows it."""
    return {
        "at": feedback.at.isoformat(),
        "decision": feedback.decision,
        "categories": feedback.categories,
        "note": feedback.note,
    }
