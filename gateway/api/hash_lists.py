"""/v1/lists: known images by hash."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import orjson
import structlog
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.authorization import actor_of
from gateway.api.body.reader import JSON_TYPE, read_plain
from gateway.api.body.strict_json import parse_object
from gateway.api.body.validation import validated
from gateway.api.classifiers_and_policies import away, json_body
from gateway.api.dependencies import Services
from gateway.api.openapi import request_body, text_body
from gateway.api.preconditions import OF_LISTS, conditional, precondition_of, refusal
from gateway.api.query_params import known_parameters
from gateway.api.schemas.stored_requests import ListIn
from gateway.api.schemas.stored_responses import Added, Deleted, EntriesOut, ListOut, ListsOut
from gateway.errors import InvalidRequest, NotFound
from gateway.hash_matching.import_file import MAX_ENTRIES, read_hashes
from gateway.hash_matching.refresher import ListRefresher, check_list
from gateway.moderation.classifiers import check_name
from gateway.store.audit import Actor
from gateway.store.lists import HashList, ListKind
from gateway.store.outages import StoreUnavailable
from gateway.store.preconditions import Precondition, StaleWrite, list_etag

T = TypeVar("T")
CURSOR = re.compile("[0-9a-f]{64}")

router = APIRouter(prefix="/v1/lists", tags=["lists"], dependencies=[Depends(known_parameters)])


@router.put(
    "/{name}",
    summary="Create or change a list",
    response_model=ListOut,
    responses={201: {"model": ListOut}},
    openapi_extra=request_body(ListIn) | conditional(OF_LISTS),
)
async def put_list(request: Request, response: Response, name: str) -> ListOut:
    """Create a list or change its action or distance; its kind stays."""
    services: Services = request.state.services
    given = validated(ListIn, await json_body(request))
    made = check_list(HashList(check_name(name), given.action, given.kind, given.max_distance))
    created = await change(request, name, put(services, made, actor_of(request), precondition_of(request)))
    await refreshed(services.list_refresher)
    response.status_code = 201 if created else 200
    return shown(response, await found(services, name))


@router.get("", summary="All lists", response_model=ListsOut)
async def lists(request: Request) -> ListsOut:
    """Return all lists with their numbers of entries."""
    services: Services = request.state.services
    return ListsOut(data=[out(made) for made in await away(services.lists.every())])


@router.get("/{name}", summary="One list", response_model=ListOut)
async def read_list(request: Request, response: Response, name: str) -> ListOut:
    """Return a list."""
    return shown(response, await found(request.state.services, check_name(name)))


@router.delete(
    "/{name}", summary="Delete a list with its entries", status_code=204, openapi_extra=conditional(OF_LISTS)
)
async def delete_list(request: Request, name: str) -> Response:
    """Delete a list."""
    services: Services = request.state.services
    deletion = services.lists.drop(check_name(name), actor=actor_of(request), precondition=precondition_of(request))
    if not await change(request, name, deletion):
        raise NotFound("There is no such list.")
    await refreshed(services.list_refresher)
    return Response(status_code=204)


@router.post(
    "/{name}/entries",
    summary="Add hashes",
    response_model=Added,
    openapi_extra=text_body() | conditional(OF_LISTS),
)
async def add_entries(request: Request, name: str) -> Added:
    """Add hashes: JSON ``{"entries": […]}``, one hash a line, or CSV with a header."""
    services: Services = request.state.services
    made = await found(services, check_name(name))
    hashes = await read_entries(request, made.kind)
    adding = services.lists.add(name, hashes, actor=actor_of(request), precondition=precondition_of(request))
    added = await change(request, name, adding)
    if added is None:
        raise NotFound("There is no such list.")
    await refreshed(services.list_refresher)
    return Added(received=len(hashes), added=added)


@router.delete(
    "/{name}/entries",
    summary="Remove hashes",
    response_model=Deleted,
    openapi_extra=text_body() | conditional(OF_LISTS),
)
async def remove_entries(request: Request, name: str) -> Deleted:
    """Remove hashes, given as for adding."""
    services: Services = request.state.services
    made = await found(services, check_name(name))
    hashes = await read_entries(request, made.kind)
    removing = services.lists.remove(name, hashes, actor=actor_of(request), precondition=precondition_of(request))
    removed = await change(request, name, removing)
    await refreshed(services.list_refresher)
    return Deleted(deleted=removed)


@router.get("/{name}/entries", summary="A list's hashes", response_model=EntriesOut)
async def entries(
    request: Request,
    name: str,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> EntriesOut:
    """Return a page of hashes, ascending."""
    services: Services = request.state.services
    await found(services, check_name(name))
    if cursor is not None and not CURSOR.fullmatch(cursor):
        raise InvalidRequest("The cursor is not one that this service gave out.")
    page = await away(services.lists.read(name, after=cursor, limit=limit))
    return EntriesOut(data=list(page), next_cursor=page[-1] if len(page) == limit else None)


async def refreshed(refresher: ListRefresher) -> None:
    """Match by a change at once in this process; the other processes do within two seconds."""
    try:
        await refresher.refresh()
    except StoreUnavailable:
        structlog.get_logger("lists").warning("saved, but not matched yet: the watch will load it")


async def change(request: Request, name: str, changing: Coroutine[Any, Any, T]) -> T:
    """Return what a change of a list returns.

    Raises:
        PreconditionFailed: the request's precondition does not hold.
        InvalidRequest, StorageUnavailable: as ``away``.
    """
    try:
        return await away(changing)
    except StaleWrite:
        stale = f"If-Match does not name the list “{name}” as it is now; read it again."
        raise refusal(precondition_of(request), name, stale) from None


async def put(services: Services, made: HashList, actor: Actor, precondition: Precondition) -> bool:
    """Save a list; return whether it is new.

    Raises:
        InvalidRequest: it is there and of the other kind.
    """
    try:
        return await services.lists.put(made, actor=actor, precondition=precondition)
    except ValueError:
        raise InvalidRequest("The kind of a list cannot change; make another list.") from None


async def read_entries(request: Request, kind: ListKind) -> tuple[str, ...]:
    """Return the hashes of a body.

    Raises:
        RequestError: a line is no hash of this kind; it is numbered.
    """
    services: Services = request.state.services
    with services.admission.request() as reservation:
        content_type, body = await read_plain(request, services.body_rules, reservation)
    if content_type == JSON_TYPE:
        body = plain(body)
    return (await asyncio.to_thread(read_hashes, body, kind)).hashes


def plain(body: bytes) -> bytes:
    """Return the list of ``{"entries": […]}`` as JSON of its own; any other JSON as it is."""
    if body.lstrip()[:1] != b"{":
        return body
    given = parse_object(body, MAX_ENTRIES * 2)
    if set(given) != {"entries"} or not isinstance(given["entries"], list):
        raise InvalidRequest("JSON entries are a list of hashes, or an object with a list “entries”.")
    return orjson.dumps(given["entries"])


async def found(services: Services, name: str) -> HashList:
    """Return a list by name.

    Raises:
        NotFound: there is none.
    """
    for made in await away(services.lists.every()):
        if made.name == name:
            return made
    raise NotFound("There is no such list.")


def shown(response: Response, made: HashList) -> ListOut:
    """Return a list as the API shows it, and its ETag in the response."""
    response.headers["ETag"] = list_etag(made.revision)
    return out(made)


def out(made: HashList) -> ListOut:
    """Return a list as the API shows it."""
    return ListOut(
        name=made.name, action=made.action, kind=made.kind, max_distance=made.max_distance, entries=made.entries
    )
