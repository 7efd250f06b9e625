"""/v1/webhooks/deliveries: what was told to webhooks, what waits, and what is dead."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from starlette.requests import Request

from gateway.api.authorization import actor_of
from gateway.api.dependencies import ServicesDep
from gateway.api.parameters import Limit, known_parameters
from gateway.api.schemas.webhooks import DeliveriesOut, DeliveryOut, WebhookEvent
from gateway.api.store_calls import stored
from gateway.errors import NotFound
from gateway.store.review.outbox import EventRecord, EventState

MAX_NUMBER = 2**63 - 1

router = APIRouter(prefix="/v1/webhooks/deliveries", tags=["webhooks"], dependencies=[Depends(known_parameters)])
events = APIRouter()


@router.get("", summary="Webhook events, newest first", response_model=DeliveriesOut)
async def deliveries(
    services: ServicesDep,
    state: EventState | None = None,
    cursor: Annotated[int | None, Query(ge=1, le=MAX_NUMBER)] = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """Return a page of events and how many there are in each state; `state=dead` is the dead-letter view."""
    rows = await stored(services.outbox.page(state, limit=limit + 1, before=cursor))
    counts = await stored(services.outbox.counts())
    return {
        "data": [_out(row) for row in rows[:limit]],
        "next_cursor": str(rows[limit - 1].number) if len(rows) > limit else None,
        "counts": {"waiting": counts.waiting, "dead": counts.dead, "delivered": counts.delivered},
    }


@router.post("/{delivery_id}/retry", summary="Deliver an event now", status_code=202, response_model=DeliveryOut)
async def retry(request: Request, services: ServicesDep, delivery_id: str) -> dict[str, Any]:
    """Make an event due at once, a dead one with all attempts anew. One that is delivered stays delivered."""
    found = await stored(services.outbox.retry(delivery_id, actor=actor_of(request)))
    if found is None:
        raise NotFound("There is no such webhook event.")
    return _out(found)


@events.post("review.verdict", summary="A reviewer's verdict", status_code=204)
async def verdict_given(body: WebhookEvent) -> Response:
    """Sent after each verdict; `outcome` is what holds from now on. Any 2xx says that it has arrived."""
    raise NotImplementedError(body)


@events.post("review.appeal", summary="An appeal", status_code=204)
async def appealed(body: WebhookEvent) -> Response:
    """Sent when a decision is to be looked at again; `outcome` is what holds until then."""
    raise NotImplementedError(body)


@events.post("review.undo", summary="A verdict taken back", status_code=204)
async def undone(body: WebhookEvent) -> Response:
    """Sent when a reviewer takes a verdict back; `outcome` is what held before it, and holds again."""
    raise NotImplementedError(body)


def _out(row: EventRecord) -> dict[str, Any]:
    return {
        "id": row.message_id,
        "event": row.event,
        "decision_id": row.decision_id,
        "state": row.state,
        "attempts": row.attempts,
        "created_at": row.created_at.isoformat(),
        "next_at": row.next_at and row.next_at.isoformat(),
        "last_error": row.last_error,
        "delivered_at": row.delivered_at and row.delivered_at.isoformat(),
    }
