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
from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.dependencies import ServicesDep
from gateway.api.openapi import request_body
from gateway.api.parameters import Limit, Text, known_parameters
from gateway.api.schemas.stored_requests import FeedbackIn, Moment
from gateway.api.schemas.stored_responses import DecisionOut, DecisionsOut, Deleted, FeedbackOut
from gateway.api.store_calls import stored
from gateway.errors import NotFound
from gateway.moderation.classifiers import Reference, split_reference
from gateway.store.decisions import DecisionFilter, DecisionRecord, Decisions, Feedback, Page

EXPORT_PAGE = 500
NOT_FILTERED = "A filter holds a character that cannot be kept, or the cursor is not one given out here."

router = APIRouter(tags=["decisions"], dependencies=[Depends(known_parameters)])

Wanted = Literal["allow", "review", "block"]


@router.get(
    "/v1/decisions",
    summary="The decision log, newest first",
    response_model=DecisionsOut,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
async def decisions(
    services: ServicesDep,
    since: Moment | None = None,
    until: Moment | None = None,
    policy: Annotated[Reference | None, Query(description="name or name@version.")] = None,
    decision: Wanted | None = None,
    category: Annotated[str | None, Query(max_length=256, description="One that was reviewed or blocked.")] = None,
    external_id: Text = None,
    cursor: Text = None,
    limit: Limit = 50,
    format: Literal["json", "jsonl"] = "json",  # noqa: A002 - the API's name
) -> Response:
    """Return a page of decisions, or with ``format=jsonl`` all that the filters leave, one a line."""
    name, number = split_reference(policy) if policy else (None, None)
    wanted = DecisionFilter(since, until, name, number, decision, category, external_id)
    page_size = EXPORT_PAGE if format == "jsonl" else limit
    first = await stored(services.decisions.page(wanted, cursor=cursor, limit=page_size), NOT_FILTERED)
    if format == "jsonl":
        return StreamingResponse(export(services.decisions, wanted, first), media_type="application/x-ndjson")
    answer = {"data": [out(record) for record in first.records], "next_cursor": first.next_cursor}
    return Response(orjson.dumps(answer), media_type="application/json")


@router.get("/v1/decisions/{decision_id}", summary="One decision with its feedback", response_model=DecisionOut)
async def decision_of(services: ServicesDep, decision_id: str) -> Response:
    """Return one decision and what reviewers said of it."""
    found = await stored(services.decisions.read(decision_id))
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
async def give_feedback(request: Request, services: ServicesDep, decision_id: str) -> Response:
    """Keep what a reviewer decided; several verdicts may be given and each is kept."""
    with services.admission.request() as reservation:
        given = validated(FeedbackIn, await read_json(request, services.body_rules, reservation))
    made = Feedback(decision_id, datetime.now(UTC), given.decision, given.categories, given.note)
    if not await stored(services.decisions.add_feedback(made, actor=actor_of(request))):
        raise NotFound("There is no such decision.")
    return Response(orjson.dumps(feedback_out(made)), 201, media_type="application/json")


@router.delete("/v1/decisions", summary="Forget an external id", response_model=Deleted)
async def forget(
    request: Request,
    services: ServicesDep,
    external_id: Annotated[str, Query(min_length=1, max_length=256)],
) -> Deleted:
    """Delete every decision of an external id, and its feedback."""
    return Deleted(deleted=await stored(services.decisions.forget(external_id, actor=actor_of(request))))


async def export(log: Decisions, wanted: DecisionFilter, first: Page) -> AsyncIterator[bytes]:
    """Yield every decision as a JSON line, page after page."""
    current = first
    while True:
        yield b"".join(orjson.dumps(out(record)) + b"\n" for record in current.records)
        if current.next_cursor is None:
            return
        current = await log.page(wanted, cursor=current.next_cursor, limit=EXPORT_PAGE)


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
    return {name: getattr(feedback, name) for name in FeedbackOut.model_fields}
