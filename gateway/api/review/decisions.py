"""/v1/decisions: the log, its export, feedback and deletion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse
from starlette.requests import Request

from gateway.api.authorization import actor_of
from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.dependencies import ServicesDep
from gateway.api.openapi import HASH_PATTERN, request_body
from gateway.api.parameters import Text, known_parameters
from gateway.api.review import csv_export
from gateway.api.review.verdict_answer import feedback_out, reviewed, verdict_of
from gateway.api.schemas.stored_requests import FeedbackIn, Moment
from gateway.api.schemas.stored_responses import DecisionOut, DecisionsOut, Deleted, ReviewedOut
from gateway.api.store_calls import stored
from gateway.errors import InvalidRequest, NotFound, StorageUnavailable, UnderLegalHold
from gateway.moderation.classifiers import Reference, split_reference
from gateway.review.still_errors import StillStoreAway
from gateway.store.decisions import DecisionFilter, DecisionRecord, Decisions, Page
from gateway.store.review.legal_holds import LegallyHeld

PAGE, EXPORT_PAGE, MOST_EXPORTED = 50, 500, 10**9
NOT_FILTERED = "A filter holds a character that cannot be kept, or the cursor is not one given out here."

router = APIRouter(tags=["decisions"], dependencies=[Depends(known_parameters)])

Wanted = Literal["allow", "review", "block"]


@router.get(
    "/v1/decisions",
    summary="The decision log, newest first",
    response_model=DecisionsOut,
    responses={
        200: {"content": {kind: {"schema": {"type": "string"}} for kind in ("application/x-ndjson", "text/csv")}}
    },
)
async def decisions(
    services: ServicesDep,
    since: Moment | None = None,
    until: Moment | None = None,
    policy: Annotated[Reference | None, Query(description="name or name@version.")] = None,
    decision: Wanted | None = None,
    category: Annotated[str | None, Query(max_length=256, description="One that was reviewed or blocked.")] = None,
    external_id: Text = None,
    outcome: Annotated[Wanted | None, Query(description="What holds: a reviewer's verdict, else the decision.")] = None,
    reviewed: Annotated[bool | None, Query(description="Whether a reviewer gave a verdict.")] = None,
    image_sha256: Annotated[str | None, Query(pattern=HASH_PATTERN, description="Of the file.")] = None,
    shadow_differs: Annotated[
        bool | None, Query(description="Whether a shadow policy decided otherwise; only decisions that had one.")
    ] = None,
    cursor: Text = None,
    limit: Annotated[
        int | None,
        Query(ge=1, le=MOST_EXPORTED, description="Of a page 50 by default and 500 at most; of jsonl and csv all."),
    ] = None,
    format: Literal["json", "jsonl", "csv"] = "json",  # noqa: A002 - the API's name
) -> Response:
    """Return a page of decisions, or with ``format=jsonl`` or ``csv`` all that the filters leave, one a line.

    JSON lines of ``reviewed=true`` have the reviewers' verdicts in ``feedback``. In CSV a cell that a spreadsheet would
    take for a formula begins with an apostrophe.
    """
    name, number = split_reference(policy) if policy else (None, None)
    wanted = DecisionFilter(
        since,
        until,
        name,
        number,
        decision,
        category,
        external_id,
        outcome,
        image_sha256 and image_sha256.lower(),
        reviewed,
        shadow_differs,
    )
    if format == "json" and limit is not None and limit > EXPORT_PAGE:
        raise InvalidRequest(f"The query parameter “limit” must be at most {EXPORT_PAGE} of a page of JSON.")
    most = limit or (PAGE if format == "json" else MOST_EXPORTED)
    first = await stored(services.decisions.page(wanted, cursor=cursor, limit=min(most, EXPORT_PAGE)), NOT_FILTERED)
    if format == "jsonl":
        return StreamingResponse(
            export(services.decisions, wanted, first, most=limit), media_type="application/x-ndjson"
        )
    if format == "csv":
        return StreamingResponse(
            export_csv(services.decisions, wanted, first, most=limit),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="decisions.csv"'},
        )
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
    response_model=ReviewedOut,
    openapi_extra=request_body(FeedbackIn, {"decision": "allow", "note": "A drawing."}),
)
async def give_feedback(request: Request, services: ServicesDep, decision_id: str) -> Response:
    """Keep what a reviewer decided; several verdicts may be given, each is kept, and the latest is the `outcome`.

    It closes the decision's case if one is open; whoever has claimed that loses it.

    With `add_to_list` the same file gets this verdict from now on, by every policy and in every gateway. A block list
    that somebody else keeps wins over it, and is named in `still_blocked_by`.
    """
    with services.admission.request() as reservation:
        given = validated(FeedbackIn, await read_json(request, services.body_rules, reservation))
    made = verdict_of(request, decision_id, given)
    adding = bool(given.add_to_list)
    giving = services.review.verdicts.give(made, actor=actor_of(request), add_to_list=adding)
    return await reviewed(services, giving, given.decision)


@router.delete("/v1/decisions", summary="Forget an external id", response_model=Deleted)
async def forget(
    request: Request,
    services: ServicesDep,
    external_id: Annotated[str, Query(min_length=1, max_length=256)],
) -> Deleted:
    """Delete every decision of an external id, its case and feedback, and the stills that are kept of it.

    409 `legal_hold` while the external id is under a hold: then nothing is deleted.
    """
    if services.review_images is not None:
        try:
            await stored(services.review_images.forget(external_id, actor=actor_of(request)))
        except StillStoreAway:
            raise StorageUnavailable("The stills could not be deleted; nothing else was. Try again later.") from None
    try:
        return Deleted(deleted=await stored(services.decisions.forget(external_id, actor=actor_of(request))))
    except LegallyHeld:
        raise UnderLegalHold("The external id is under a legal hold; lift that first: /v1/legal-holds.") from None


async def export(log: Decisions, wanted: DecisionFilter, first: Page, *, most: int | None) -> AsyncIterator[bytes]:
    """Yield decisions as JSON lines, page after page: every one, or so many at most."""
    async for records in pages(log, wanted, first, most=most):
        rows = {record.id: out(record) for record in records}
        if wanted.reviewed and rows:
            for row in rows.values():
                row["feedback"] = []
            for given in await log.feedback_on(list(rows)):
                rows[given.decision_id]["feedback"].append(feedback_out(given))
        yield b"".join(orjson.dumps(row) + b"\n" for row in rows.values())


async def export_csv(log: Decisions, wanted: DecisionFilter, first: Page, *, most: int | None) -> AsyncIterator[bytes]:
    """Yield decisions as CSV, likewise."""
    yield csv_export.head()
    async for records in pages(log, wanted, first, most=most):
        reviewed = [record.id for record in records if record.reviewed_at is not None]
        yield csv_export.csv_of(records, await log.feedback_on(reviewed) if reviewed else ())


async def pages(
    log: Decisions, wanted: DecisionFilter, first: Page, *, most: int | None
) -> AsyncIterator[tuple[DecisionRecord, ...]]:
    """Yield page after page: every decision, or so many at most."""
    current, sent = first, 0
    while True:
        yield current.records
        sent += len(current.records)
        left = EXPORT_PAGE if most is None else min(most - sent, EXPORT_PAGE)
        if current.next_cursor is None or not left:
            return
        current = await log.page(wanted, cursor=current.next_cursor, limit=left)


def out(record: DecisionRecord) -> dict[str, Any]:
    """Return a line of the log as the API shows it."""
    return {
        "id": record.id,
        "at": record.at.isoformat(),
        "request_id": record.request_id,
        "external_id": record.external_id,
        "key": record.detail.get("key"),
        "image": {"id": record.detail.get("image_id"), "sha256": record.image_sha256, "pdq": record.image_pdq},
        "policy": record.detail.get("policy", {"name": record.policy, "version": record.policy_version}),
        "bundle_id": record.bundle_id,
        "decision": record.decision,
        "outcome": record.outcome,
        "reviewed": record.reviewed_at
        and {"at": record.reviewed_at.isoformat(), "key": record.reviewed_by, "reviewer": record.reviewer},
        "shadow_differs": record.shadow_differs,
        "audit_share": record.detail.get("audit_share"),
        "scores": record.categories,
        "categories": record.detail.get("categories", []),
        "attributes": record.detail.get("attributes", {}),
        "shadow": record.detail.get("shadow"),
        "warnings": record.detail.get("warnings", []),
    }
