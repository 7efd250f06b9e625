"""/v1/policies/{name}/rollout: a shadow, or a candidate for a share of the images, without any client changing."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.openapi import request_body
from gateway.api.parameters import Name, known_parameters
from gateway.api.schemas.stored_requests import RolloutIn
from gateway.api.schemas.stored_responses import RolloutOut
from gateway.api.store_calls import ChangeDep, changed, stored
from gateway.errors import InvalidRequest, NotFound
from gateway.limits.deadline import Deadline
from gateway.store.preconditions import list_etag
from gateway.store.rollouts import StoredRollout

NO_ROLLOUT = "This policy has no rollout."

router = APIRouter(prefix="/v1/policies/{name}/rollout", tags=["policies"], dependencies=[Depends(known_parameters)])


@router.put(
    "",
    summary="Run versions beside the active one",
    response_model=RolloutOut,
    openapi_extra=request_body(RolloutIn, {"shadow": "default"}),
)
async def put_rollout(request: Request, response: Response, services: ServicesDep, change: ChangeDep) -> dict[str, Any]:
    """Evaluate a shadow beside the active version, let a candidate decide about a share of the images, or both.

    It holds for requests that name the policy without a version. Which version decides about an image follows from its
    SHA-256: the same file gets the same version, and a larger share keeps the files of a smaller one. Every answer and
    log entry names the version. It ends by DELETE, and with each activation of the policy.
    """
    with services.admission.request() as reservation:
        given = validated(RolloutIn, await read_json(request, services.body_rules, reservation))
        await check_usable(services, change.name, given)
    candidate, share = (given.candidate.version, given.candidate.share) if given.candidate else (None, 0.0)
    putting = services.rollouts.put(
        change.name,
        StoredRollout(given.shadow, candidate, share),
        actor=change.actor,
        precondition=change.precondition,
    )
    made = await changed(change, putting, services.catalog)
    if made is None:  # deleted meanwhile
        raise NotFound(f"There is no policy “{change.name}”.")
    return out(response, change.name, made)


@router.get("", summary="What runs beside the active version", response_model=RolloutOut)
async def read_rollout(response: Response, services: ServicesDep, name: Name) -> dict[str, Any]:
    """Return a policy's rollout."""
    found = await stored(services.rollouts.read(name))
    if found is None:
        raise NotFound(NO_ROLLOUT)
    return out(response, name, found)


@router.delete("", summary="Let the active version decide alone", status_code=204)
async def delete_rollout(services: ServicesDep, change: ChangeDep) -> Response:
    """End a rollout: the active version decides about every image."""
    removing = services.rollouts.remove(change.name, actor=change.actor, precondition=change.precondition)
    if not await changed(change, removing, services.catalog):
        raise NotFound(NO_ROLLOUT)
    return Response(status_code=204)


async def check_usable(services: Services, name: str, wanted: RolloutIn) -> None:
    """Check that what is to run beside a policy's active version can, and is another one.

    Raises:
        NotFound: the policy is not active.
        InvalidRequest: a policy or version that is named does not exist, or is the active one.
        PolicyModelMismatch: one was saved for another bundle.
        ServiceError: text vectors could not be computed.
    """
    deadline = Deadline.after(services.saver.timeout_s)
    active = await services.catalog.policy(name, deadline)
    references = {
        "shadow": wanted.shadow,
        "candidate.version": f"{name}@{wanted.candidate.version}" if wanted.candidate else None,
    }
    for field, reference in references.items():
        if reference is None:
            continue
        try:
            beside = await services.catalog.policy(reference, deadline)
        except NotFound:
            raise InvalidRequest(f"Field “{field}” names “{reference}”, which does not exist.") from None
        if beside.key == active.key:
            raise InvalidRequest(f"Field “{field}” names “{active.key}”, which is the active version.")


def out(response: Response, name: str, rollout: StoredRollout) -> dict[str, Any]:
    """Return a rollout as JSON values, and its ETag in the response."""
    response.headers["ETag"] = list_etag(rollout.revision)
    candidate = rollout.candidate and {"version": rollout.candidate, "share": rollout.share}
    return {"policy": name, "shadow": rollout.shadow, "candidate": candidate}
