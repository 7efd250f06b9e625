"""GET /v1/audit: who changed what."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request

from gateway.api.classifiers_and_policies import away
from gateway.api.decisions import aware
from gateway.api.dependencies import Services
from gateway.api.query_params import known_parameters
from gateway.api.schemas.stored_requests import Moment
from gateway.api.schemas.stored_responses import AuditEntry, AuditOut
from gateway.store.audit import AuditFilter

MAX_NUMBER = 2**63 - 1

router = APIRouter(tags=["audit"], dependencies=[Depends(known_parameters)])

Text = Annotated[str | None, Query(max_length=256)]
Action = Literal["save", "activate", "delete", "put", "add_entries", "remove_entries", "feedback", "forget"]
Kind = Literal["classifier", "policy", "list", "decision", "external_id"]


@router.get("/v1/audit", summary="Who changed what, newest first")
async def audit(
    request: Request,
    since: Moment | None = None,
    until: Moment | None = None,
    actor: Text = None,
    action: Action | None = None,
    kind: Kind | None = None,
    name: Text = None,
    cursor: Annotated[int | None, Query(ge=1, le=MAX_NUMBER)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> AuditOut:
    """Return a page of the audit: a row for each change of a classifier, policy or list, feedback or forgetting.

    Rows are written in the transaction of the change, and never changed or deleted. `actor` is the API key's name.
    An `external_id` that was forgotten is named by its SHA-256.
    """
    services: Services = request.state.services
    wanted = AuditFilter(aware(since), aware(until), actor, action, kind, name)
    rows = await away(services.audit.latest(limit + 1, wanted, before=cursor))
    page = [
        AuditEntry(
            at=row.at.isoformat(),
            actor=row.actor,
            request_id=row.request_id,
            action=row.action,
            kind=row.kind,
            name=row.name,
            version=row.version,
            detail=row.detail,
        )
        for row in rows[:limit]
    ]
    return AuditOut(data=page, next_cursor=str(rows[limit - 1].number) if len(rows) > limit else None)
