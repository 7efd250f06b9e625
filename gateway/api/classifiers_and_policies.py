"""/v1/classifiers and /v1/policies: versioned resources, saved whole or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson
import structlog
from fastapi import APIRouter, Depends
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.authorization import actor_of
from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.dependencies import Services
from gateway.api.openapi import request_body
from gateway.api.preconditions import OF_ACTIVATION, OF_VERSIONS, conditional, precondition_of, refusal
from gateway.api.query_params import known_parameters
from gateway.api.schemas.stored_requests import Activation
from gateway.api.schemas.stored_responses import ResourceOut, ResourcesOut
from gateway.errors import (
    InvalidRequest,
    NotFound,
    PolicyModelMismatch,
    PreconditionFailed,
    ResourceInUse,
    ServiceError,
    StorageUnavailable,
)
from gateway.limits.deadline import Deadline
from gateway.moderation.catalog import Catalog
from gateway.moderation.classifiers import Classifier, check_name
from gateway.moderation.policy import Policy
from gateway.store.audit import Actor
from gateway.store.outages import StoreUnavailable
from gateway.store.preconditions import Precondition, StaleWrite
from gateway.store.versions import InUse, Kind, PinMissing, Version

T = TypeVar("T")
KINDS: dict[str, Kind] = {"classifiers": "classifier", "policies": "policy"}

SERVERS_FIELDS = frozenset({"name", "version", "active", "created_at", "bundle_id", "classifiers"})

router = APIRouter(tags=["policies"], dependencies=[Depends(known_parameters)])


@asynccontextmanager
async def admitted(request: Request) -> AsyncIterator[dict[str, Any]]:
    """Yield the JSON object of a request, under the caps; it counts as in flight while inside.

    Raises:
        RequestError: none, or not one.
        Overloaded: the service works on as many requests as it takes.
    """
    services: Services = request.state.services
    with services.admission.request() as reservation:
        yield await read_json(request, services.body_rules, reservation)


async def json_body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request whose work is small.

    Raises:
        RequestError, Overloaded: as ``admitted``.
    """
    async with admitted(request) as body:
        return body


def out(version: Version) -> dict[str, Any]:
    """Return a version as the API shows it."""
    shown = {
        "name": version.name,
        "version": version.number,
        "active": version.active,
        "created_at": version.created_at.isoformat(),
        **version.body,
    }
    if version.kind == "policy":
        shown |= {"bundle_id": version.bundle_id, "classifiers": version.pins}
    return shown


def answer(version: Version, status: int = 200) -> Response:
    """Return a version as a response with its ETag."""
    return Response(orjson.dumps(out(version)), status, {"ETag": version.etag}, "application/json")


async def away(reading: Coroutine[Any, Any, T]) -> T:
    """Return what the store returns.

    Raises:
        StorageUnavailable: the store is away.
        InvalidRequest: a value that no database keeps, such as text with a NUL.
    """
    try:
        return await reading
    except ValueError:
        raise InvalidRequest("A text of the request holds a character that cannot be kept.") from None
    except StoreUnavailable:
        raise StorageUnavailable(
            "The store does not answer; a change may not have been kept. Try again later."
        ) from None


def written(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return a body without what the service itself adds to one, so that what was read can be edited and sent back.

    Raises:
        InvalidRequest: it was read under another name.
    """
    if fields.get("name", name) != name:
        raise InvalidRequest("Field “name” is another one than the path's; leave it out to save a copy.")
    return {field: value for field, value in fields.items() if field not in SERVERS_FIELDS}


async def refreshed(catalog: Catalog) -> None:
    """Make a change current in this process at once; the other processes see it within two seconds."""
    try:
        await catalog.refresh()
    except (StoreUnavailable, ServiceError):
        structlog.get_logger("resources").warning("saved, but not current yet: the watch will load it")


def add_routes(plural: str, body_model: type[Classifier | Policy]) -> None:
    """Register the routes of one kind of resource."""
    kind = KINDS[plural]
    base = f"/v1/{plural}"

    async def save(request: Request, name: str, *, activate: bool = True) -> Response:
        services: Services = request.state.services
        async with admitted(request) as given:
            body = validated(body_model, written(check_name(name), given))
            # Numbers are never given out again, so the number does not tell whether there was anything before.
            created = await away(services.versions.read(kind, name, None)) is None
            precondition = precondition_of(request)
            version, _ = await save_version(services, name, body, precondition, actor_of(request), activate=activate)
        return answer(version, 201 if created else 200)

    async def names(request: Request) -> Response:
        services: Services = request.state.services
        rows = await away(services.versions.shown(kind))
        return Response(orjson.dumps({"data": [out(row) for row in rows]}), media_type="application/json")

    async def read(request: Request, name: str, version: int | None = None) -> Response:
        services: Services = request.state.services
        row = await away(services.versions.read(kind, check_name(name), version))
        if row is None:
            raise NotFound(f"There is no such {kind} or version.")
        return answer(row)

    async def versions(request: Request, name: str) -> Response:
        services: Services = request.state.services
        rows = await away(services.versions.history(kind, check_name(name)))
        if not rows:
            raise NotFound(f"There is no such {kind}.")
        return Response(orjson.dumps({"data": [out(row) for row in rows]}), media_type="application/json")

    async def activate(request: Request, name: str) -> Response:
        services: Services = request.state.services
        async with admitted(request) as given:
            wanted = validated(Activation, given).version
            precondition = precondition_of(request)
            made = await activate_version(services, kind, check_name(name), wanted, precondition, actor_of(request))
            return answer(made)

    async def delete(request: Request, name: str) -> Response:
        services: Services = request.state.services
        await delete_resource(services, kind, check_name(name), precondition_of(request), actor_of(request))
        return Response(status_code=204)

    article = f"a {kind}"
    body = request_body(body_model)
    router.add_api_route(f"{base}", names, methods=["GET"], summary=f"All {plural}", response_model=ResourcesOut)
    router.add_api_route(
        f"{base}/{{name}}",
        save,
        methods=["PUT"],
        summary=f"Create {article} or its next version",
        response_model=ResourceOut,
        responses={201: {"model": ResourceOut}},
        openapi_extra=body | conditional(OF_VERSIONS),
    )
    router.add_api_route(
        f"{base}/{{name}}", read, methods=["GET"], summary=f"Read {article}", response_model=ResourceOut
    )
    router.add_api_route(
        f"{base}/{{name}}/versions", versions, methods=["GET"], summary="All versions", response_model=ResourcesOut
    )
    router.add_api_route(
        f"{base}/{{name}}/activate",
        activate,
        methods=["POST"],
        summary="Promote a version or roll back to it",
        response_model=ResourceOut,
        openapi_extra=request_body(Activation) | conditional(OF_ACTIVATION),
    )
    router.add_api_route(
        f"{base}/{{name}}",
        delete,
        methods=["DELETE"],
        summary=f"Delete {article}",
        status_code=204,
        openapi_extra=conditional(OF_VERSIONS),
    )


async def save_version(
    services: Services,
    name: str,
    body: Classifier | Policy,
    precondition: Precondition,
    actor: Actor,
    *,
    activate: bool,
) -> tuple[Version, bool]:
    """Validate whole, compute the text vectors, save, make it current here; return the version and whether it is new.

    Raises:
        RequestError: something in the body cannot work; the field is named.
        PreconditionFailed: the precondition does not hold.
        StorageUnavailable: the store is away.
        ServiceError: text vectors could not be computed.
    """
    try:
        saving = services.saver.save(name, body, activate=activate, actor=actor, precondition=precondition)
        saved = await away(saving)
    except PinMissing as gone:
        raise InvalidRequest(f"The classifiers {', '.join(gone.missing)} were deleted meanwhile.") from None
    except StaleWrite as stale:
        raise stale_version(stale, precondition, name) from None
    await refreshed(services.catalog)
    return saved.version, saved.new


def stale_version(stale: StaleWrite, precondition: Precondition, name: str) -> PreconditionFailed:
    """Return the error of a change whose precondition does not hold."""
    if stale.latest is None:
        return refusal(precondition, name, f"If-Match is given, and there is nothing named “{name}” yet.")
    latest = f"the latest version, which is {stale.latest}, in force or a draft; read ?version={stale.latest} first."
    return refusal(precondition, name, f"If-Match does not name {latest}")


async def activate_version(
    services: Services, kind: Kind, name: str, number: int, precondition: Precondition, actor: Actor
) -> Version:
    """Make a version the active one, its text vectors computed first.

    Raises:
        PreconditionFailed: the precondition does not hold.
        NotFound: there is no such version.
        PolicyModelMismatch: a policy's version was saved for another bundle.
        StorageUnavailable: the store is away.
    """
    row = await away(services.versions.read(kind, name, number))
    if row is None:
        raise NotFound(f"There is no version {number} of “{name}”.")
    if kind == "policy" and row.bundle_id != services.manifest.bundle_id:
        raise PolicyModelMismatch(
            f"Version {number} was saved for bundle {row.bundle_id}; save it again for this model."
        )
    if kind == "classifier":
        await services.catalog.bind_classifier(row, Deadline.after(services.saver.timeout_s))
    try:
        made = await away(services.versions.activate(kind, name, number, actor=actor, precondition=precondition))
    except PinMissing as gone:
        raise InvalidRequest(f"Version {number} needs {', '.join(gone.missing)}, which were deleted.") from None
    except StaleWrite as stale:
        raise stale_version(stale, precondition, name) from None
    if made is None:
        raise NotFound(f"There is no version {number} of “{name}”.")
    await refreshed(services.catalog)
    return made


async def delete_resource(services: Services, kind: Kind, name: str, precondition: Precondition, actor: Actor) -> None:
    """Delete a resource with all versions, and make that current here.

    Raises:
        NotFound: there is none.
        ResourceInUse: policies in force use the classifier.
        PreconditionFailed: the precondition does not hold.
        StorageUnavailable: the store is away.
    """
    try:
        found = await away(services.versions.remove(kind, name, actor=actor, precondition=precondition))
    except InUse as use:
        users = ", ".join(use.users)
        raise ResourceInUse(f"“{name}” is used by the policies {users}; change or delete those first.") from None
    except StaleWrite as stale:
        raise stale_version(stale, precondition, name) from None
    if not found:
        raise NotFound(f"There is no such {kind}.")
    await refreshed(services.catalog)


add_routes("classifiers", Classifier)
add_routes("policies", Policy)
