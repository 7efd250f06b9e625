"""/v1/classifiers and /v1/policies: versioned resources, saved whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.openapi import EXAMPLE_POLICY, request_body
from gateway.api.parameters import Name, known_parameters
from gateway.api.schemas.stored_requests import SERVERS_FIELDS, Activation, BundleId
from gateway.api.schemas.stored_responses import ResourceOut, ResourcesOut
from gateway.api.store_calls import ChangeDep, changed, stored
from gateway.errors import InvalidRequest, NotFound, PolicyModelMismatch
from gateway.limits.deadline import Deadline
from gateway.moderation.classifiers import Classifier
from gateway.moderation.heads import HeadClassifier, classifier_form, without_parameters
from gateway.moderation.policy import Policy
from gateway.store.bundles import SHORTEST
from gateway.store.versions import Kind, Version

BundleQuery = Annotated[BundleId | None, Query(description="As a gateway with this bundle sees them.")]
EXAMPLE_CLASSIFIER = {"labels": [{"label": "a red circle"}, {"label": "a blue square"}]}


def routes(
    kind: Kind,
    plural: str,
    body_model: Any,  # noqa: ANN401 - a model, or a union of models
    example: dict[str, Any],
) -> APIRouter:
    """Return the routes of one kind of resource."""
    router = APIRouter(prefix=f"/v1/{plural}", tags=["policies"], dependencies=[Depends(known_parameters)])

    @router.get("", summary=f"All {plural}", response_model=ResourcesOut)
    async def read_all(services: ServicesDep, bundle_id: BundleQuery = None) -> Response:
        if bundle_id is None:
            return all_of(as_served(services, await stored(services.versions.shown(kind))))
        there = services.bundles.versions(await bundle_of(services, bundle_id))
        return all_of(await stored(there.shown(kind)))

    @router.put(
        "/{name}",
        summary=f"Create a {kind} or its next version",
        response_model=ResourceOut,
        responses={201: {"model": ResourceOut}},
        openapi_extra=request_body(body_model, example),
    )
    async def save(request: Request, services: ServicesDep, change: ChangeDep, *, activate: bool = True) -> Response:
        with services.admission.request() as reservation:
            given = await read_json(request, services.body_rules, reservation)
            fields = without_servers_fields(change.name, given)
            form: type[Classifier | HeadClassifier | Policy] = Policy if kind == "policy" else classifier_form(fields)
            body = await asyncio.to_thread(validated, form, fields)  # a head's numbers may be megabytes
            # Numbers are never given out again, so the number does not tell whether there was anything before.
            created = await stored(services.versions.read(kind, change.name, None)) is None
            saving = services.saver.save(
                change.name, body, activate=activate, actor=change.actor, precondition=change.precondition
            )
            saved = await changed(change, saving, services.catalog)
        return answer(saved.version, 201 if created else 200)

    @router.get("/{name}", summary=f"Read a {kind}", response_model=ResourceOut)
    async def read(services: ServicesDep, name: Name, version: int | None = None) -> Response:
        row = await stored(services.versions.read(kind, name, version))
        if row is None:
            raise NotFound(f"There is no such {kind} or version.")
        (shown,) = as_served(services, [row])
        return answer(shown)

    @router.get("/{name}/versions", summary="All versions", response_model=ResourcesOut)
    async def versions(services: ServicesDep, name: Name) -> Response:
        rows = await stored(services.versions.history(kind, name))
        if not rows:
            raise NotFound(f"There is no such {kind}.")
        return all_of(as_served(services, rows))

    @router.post(
        "/{name}/activate",
        summary="Promote a version or roll back to it",
        response_model=ResourceOut,
        openapi_extra=request_body(Activation, {"version": 1}),
    )
    async def activate(request: Request, services: ServicesDep, change: ChangeDep) -> Response:
        with services.admission.request() as reservation:
            given = await read_json(request, services.body_rules, reservation)
            number = validated(Activation, given).version
            await check_usable(services, await stored(services.versions.read(kind, change.name, number)))
            activation = services.versions.activate(
                kind, change.name, number, actor=change.actor, precondition=change.precondition
            )
            made = await changed(change, activation, services.catalog)
            if made is None:  # deleted meanwhile
                raise NotFound(f"There is no such {kind} or version.")
            return answer(made)

    @router.delete("/{name}", summary=f"Delete a {kind}", status_code=204)
    async def delete(services: ServicesDep, change: ChangeDep) -> Response:
        deletion = services.versions.remove(kind, change.name, actor=change.actor, precondition=change.precondition)
        if not await changed(change, deletion, services.catalog):
            raise NotFound(f"There is no such {kind}.")
        return Response(status_code=204)

    return router


def as_served(services: Services, versions: Sequence[Version]) -> list[Version]:
    """Return versions, of which a head of another bundle that this one cannot apply is not active."""
    left_out = services.catalog.not_applicable
    return [
        replace(version, active=False) if version.foreign and (version.kind, version.name) in left_out else version
        for version in versions
    ]


async def bundle_of(services: Services, given: str) -> str:
    """Return the id of the bundle that a text stands for: an id that the database knows, or its first digits.

    Raises:
        InvalidRequest: it knows none, or several.
    """
    found = await stored(services.bundles.matching(given))
    if not found:
        raise InvalidRequest(
            f"“{given}” is no bundle on this database, nor the first {SHORTEST} digits or more of one."
        )
    if len(found) > 1:
        raise InvalidRequest(f"Several bundles begin with “{given}”: {', '.join(found[:5])}.")
    return found[0]


async def check_usable(services: Services, version: Version | None) -> None:
    """Check that a version can be put in force; the text vectors of a classifier are computed.

    Raises:
        NotFound: there is no such version.
        HeadModelMismatch: a head for another model.
        PolicyModelMismatch: a policy's version was saved for another bundle.
        ServiceError: text vectors could not be computed.
    """
    if version is None:
        raise NotFound("There is no such version.")
    if version.kind == "classifier":
        await services.catalog.bind_classifier(version, Deadline.after(services.saver.timeout_s))
    elif version.bundle_id != services.manifest.bundle_id:
        raise PolicyModelMismatch(
            f"Version {version.number} was saved for bundle {version.bundle_id}; save it again for this model."
        )


def out(version: Version, *, whole: bool = True) -> dict[str, Any]:
    """Return a version as the API shows it; unless it is to be whole, without the numbers of a head."""
    shown = {
        "name": version.name,
        "version": version.number,
        "active": version.active,
        "created_at": version.created_at.isoformat(),
        **(version.body if whole else without_parameters(version.body)),
    }
    if version.kind == "policy":
        records = {name: version.body.get(name) for name in ("tuned_on", "carried_from")}  # earlier releases lack them
        shown |= {"bundle_id": version.bundle_id, "classifiers": version.pins, **records}
    return shown


def answer(version: Version, status: int = 200) -> Response:
    """Return a version as a response with its ETag."""
    return Response(orjson.dumps(out(version)), status, {"ETag": version.etag}, "application/json")


def all_of(versions: Sequence[Version]) -> Response:
    """Return versions as a response; a head's numbers are in the answer for its version alone."""
    shown = [out(version, whole=False) for version in versions]
    return Response(orjson.dumps({"data": shown}), media_type="application/json")


def without_servers_fields(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return a body without what the service itself adds to one, so that what was read can be edited and sent back.

    Raises:
        InvalidRequest: it was read under another name.
    """
    check_same_name(name, fields.get("name") or name)
    return {field: value for field, value in fields.items() if field not in SERVERS_FIELDS}


def check_same_name(name: str, given: object) -> None:
    """Check the name that a body was read under against the path's.

    Raises:
        InvalidRequest: it is another one.
    """
    if given != name:
        raise InvalidRequest("Field “name” is another one than the path's; leave it out to save a copy.")


router = APIRouter()
router.include_router(routes("classifier", "classifiers", Classifier | HeadClassifier, EXAMPLE_CLASSIFIER))
router.include_router(routes("policy", "policies", Policy, EXAMPLE_POLICY))
