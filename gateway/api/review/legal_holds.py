"""/v1/legal-holds: external ids whose decisions may not be deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.authorization import actor_of, key_name
from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.dependencies import ServicesDep
from gateway.api.openapi import request_body
from gateway.api.parameters import Limit, Text, known_parameters
from gateway.api.schemas.reviews import LegalHoldIn, LegalHoldOut, LegalHoldsOut
from gateway.api.store_calls import stored
from gateway.errors import NotFound
from gateway.store.review.legal_holds import LegalHold

router = APIRouter(prefix="/v1/legal-holds", tags=["review"], dependencies=[Depends(known_parameters)])


@router.put(
    "",
    summary="Hold an external id",
    response_model=LegalHoldOut,
    responses={201: {"model": LegalHoldOut}},
    openapi_extra=request_body(LegalHoldIn, {"external_id": "post-9", "reason": "Case 26-1137."}),
)
async def put_hold(request: Request, response: Response, services: ServicesDep) -> dict[str, Any]:
    """Place a legal hold: neither a deletion nor age deletes what was decided of the external id, nor its pictures."""
    with services.admission.request() as reservation:
        given = validated(LegalHoldIn, await read_json(request, services.body_rules, reservation))
    hold = LegalHold(given.external_id, datetime.now(UTC), given.reason, key_name(request))
    if await stored(services.review.legal_holds.put(hold, actor=actor_of(request))):
        response.status_code = 201
    return _out(hold)


@router.get("", summary="The legal holds", response_model=LegalHoldsOut)
async def holds(services: ServicesDep, cursor: Text = None, limit: Limit = 50) -> dict[str, Any]:
    """Return a page of holds by external id; the cursor is the last one's."""
    page = await stored(services.review.legal_holds.every(limit + 1, cursor or ""))
    more = len(page) > limit
    return {"data": [_out(hold) for hold in page[:limit]], "next_cursor": page[limit - 1].external_id if more else None}


@router.delete("", summary="Lift a legal hold", status_code=204)
async def lift(
    request: Request,
    services: ServicesDep,
    external_id: Annotated[str, Query(min_length=1, max_length=256)],
) -> Response:
    """Lift a hold; what is due by age is deleted within an hour."""
    if not await stored(services.review.legal_holds.lift(external_id, actor=actor_of(request))):
        raise NotFound("There is no legal hold on this external id.")
    return Response(status_code=204)


def _out(hold: LegalHold) -> dict[str, Any]:
    return {"external_id": hold.external_id, "reason": hold.reason, "at": hold.at.isoformat(), "key": hold.key}
