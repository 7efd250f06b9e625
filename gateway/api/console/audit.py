"""GET /v1/audit: who changed what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query

from gateway.api.dependencies import ServicesDep
from gateway.api.parameters import Limit, Text, known_parameters
from gateway.api.schemas.stored_requests import Moment
from gateway.api.schemas.stored_responses import AuditOut
from gateway.api.store_calls import stored
from gateway.store.audit import AuditFilter

MAX_NUMBER = 2**63 - 1

router = APIRouter(tags=["audit"], dependencies=[Depends(known_parameters)])

Action = Literal[
    "save",
    "activate",
    "delete",
    "revoke",
    "put",
    "add_entries",
    "remove_entries",
    "feedback",
    "forget",
    "view",
    "undo",
    "appeal",
    "hold",
    "lift",
    "retry",
]
Kind = Literal[
    "classifier", "policy", "rollout", "list", "decision", "external_id", "review_image", "session", "webhook"
]


@router.get("/v1/audit", summary="Who changed what, newest first", response_model=AuditOut)
async def audit(
    services: ServicesDep,
    since: Moment | None = None,
    until: Moment | None = None,
    actor: Text = None,
    action: Action | None = None,
    kind: Kind | None = None,
    name: Text = None,
    cursor: Annotated[int | None, Query(ge=1, le=MAX_NUMBER)] = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """Return a page of the audit: changes of classifiers, policies, rollouts and lists, feedback, forgetting, stills.

    A `view` of a `review_image` is somebody's look at a still of the decision that is its `name`.

    Rows are written in the transaction of the change, and never changed or deleted. `actor` is the API key's name.
    An `external_id` that was forgotten is named by its SHA-256.
    """
    wanted = AuditFilter(since, until, actor, action, kind, name)
    rows = await stored(services.audit.latest(limit + 1, wanted, before=cursor))
    return {"data": rows[:limit], "next_cursor": str(rows[limit - 1].number) if len(rows) > limit else None}
