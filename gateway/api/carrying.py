"""/v1/policies/{name}/carry: a policy of another bundle on the same database, as a draft for the one being served."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.classifiers_and_policies import answer, bundle_of
from gateway.api.dependencies import ServicesDep
from gateway.api.openapi import request_body
from gateway.api.parameters import known_parameters
from gateway.api.schemas.stored_requests import CarryIn
from gateway.api.schemas.stored_responses import ResourceOut
from gateway.api.store_calls import ChangeDep, changed, stored
from gateway.errors import InvalidRequest, NotFound
from gateway.moderation.carrying import carry

router = APIRouter(prefix="/v1/policies/{name}/carry", tags=["policies"], dependencies=[Depends(known_parameters)])


@router.post(
    "",
    summary="Make a draft of another bundle's policy",
    response_model=ResourceOut,
    responses={201: {"model": ResourceOut}},
    openapi_extra=request_body(CarryIn, {"from_bundle": "0123456789ab"}),
)
async def carry_policy(request: Request, services: ServicesDep, change: ChangeDep) -> Response:
    """Save what is in force for another bundle as a version for this one: the same rules, pins and thresholds.

    The version says in `carried_from` that its thresholds were not measured on this bundle, and decisions by it warn
    `uncalibrated`. 201 for a new one; 200 where a version with these rules is there already. With `activate` a new one
    is put in force, and one that is there only if this bundle has none in force. A policy that uses a trained head gets
    409 `head_model_mismatch`: train the head again.
    """
    with services.admission.request() as reservation:
        given = validated(CarryIn, await read_json(request, services.body_rules, reservation))
        bundle_id = await bundle_of(services, given.from_bundle)
        if bundle_id == services.manifest.bundle_id:
            raise InvalidRequest("Field “from_bundle” names the bundle being served; name the other one.")
        source = await stored(services.bundles.versions(bundle_id).read("policy", change.name, None))
        if source is None or not source.active:
            raise NotFound(f"Of the policy “{change.name}” no version is in force for bundle {bundle_id}.")
        carrying = carry(
            services.saver, source, activate=given.activate, actor=change.actor, precondition=change.precondition
        )
        saved = await changed(change, carrying, services.catalog)
    return answer(saved.version, 201 if saved.new else 200)
