"""/v1/lists: known images by hash."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.authorization import actor_of
from gateway.api.body.reader import JSON_TYPE, read_json, read_plain
from gateway.api.body.strict_json import parse_object
from gateway.api.body.validation import validated
from gateway.api.dependencies import Services
from gateway.api.openapi import request_body, text_body
from gateway.api.parameters import OF_LISTS, Name, conditional, known_parameters, precondition_of
from gateway.api.schemas.stored_requests import ListIn
from gateway.api.schemas.stored_responses import Added, Deleted, EntriesOut, ListOut, ListsOut
from gateway.api.store_calls import changed, stored
from gateway.errors import InvalidRequest, NotFound
from gateway.hash_matching.import_file import MAX_ENTRIES, read_hashes
from gateway.hash_matching.refresher import check_list
from gateway.store.lists import HashList, ListKind
from gateway.store.preconditions import list_etag

CURSOR = re.compile("[0-9a-f]{64}")
OTHER_KIND = "The kind of a list cannot change; make another list."

router = APIRouter(prefix="/v1/lists", tags=["lists"], dependencies=[Depends(known_parameters)])


@router.put(
    "/{name}",
    summary="Create or change a list",
    response_model=ListOut,
    responses={201: {"model": ListOut}},
    openapi_extra=request_body(ListIn) | conditional(OF_LISTS),
)
async def put_list(request: Request, response: Response, name: Name) -> HashList:
    """Create a list or change its action or distance; its kind stays."""
    services: Services = request.state.services
    with services.admission.request() as reservation:
        given = validated(ListIn, await read_json(request, services.body_rules, reservation))
    made = check_list(HashList(name, given.action, given.kind, given.max_distance))
    saving = services.lists.put(made, actor=actor_of(request), precondition=precondition_of(request))
    created = await changed(request, saving, services.list_refresher, OTHER_KIND)
    response.status_code = 201 if created else 200
    return await shown(response, services, name)


@router.get("", summary="All lists", response_model=ListsOut)
async def lists(request: Request) -> dict[str, tuple[HashList, ...]]:
    """Return all lists with their numbers of entries."""
    services: Services = request.state.services
    return {"data": await stored(services.lists.every())}


@router.get("/{name}", summary="One list", response_model=ListOut)
async def read_list(request: Request, response: Response, name: Name) -> HashList:
    """Return a list."""
    return await shown(response, request.state.services, name)


@router.delete(
    "/{name}", summary="Delete a list with its entries", status_code=204, openapi_extra=conditional(OF_LISTS)
)
async def delete_list(request: Request, name: Name) -> Response:
    """Delete a list."""
    services: Services = request.state.services
    deletion = services.lists.drop(name, actor=actor_of(request), precondition=precondition_of(request))
    if not await changed(request, deletion, services.list_refresher):
        raise NotFound("There is no such list.")
    return Response(status_code=204)


@router.post(
    "/{name}/entries",
    summary="Add hashes",
    response_model=Added,
    openapi_extra=text_body() | conditional(OF_LISTS),
)
async def add_entries(request: Request, name: Name) -> Added:
    """Add hashes: JSON ``{"entries": […]}``, one hash a line, or CSV with a header."""
    services: Services = request.state.services
    made = await found(services, name)
    hashes = await read_entries(request, made.kind)
    adding = services.lists.add(name, hashes, actor=actor_of(request), precondition=precondition_of(request))
    added = await changed(request, adding, services.list_refresher)
    if added is None:
        raise NotFound("There is no such list.")
    return Added(received=len(hashes), added=added)


@router.delete(
    "/{name}/entries",
    summary="Remove hashes",
    response_model=Deleted,
    openapi_extra=text_body() | conditional(OF_LISTS),
)
async def remove_entries(request: Request, name: Name) -> Deleted:
    """Remove hashes, given as for adding."""
    services: Services = request.state.services
    made = await found(services, name)
    hashes = await read_entries(request, made.kind)
    removing = services.lists.remove(name, hashes, actor=actor_of(request), precondition=precondition_of(request))
    return Deleted(deleted=await changed(request, removing, services.list_refresher))


@router.get("/{name}/entries", summary="A list's hashes", response_model=EntriesOut)
async def entries(
    request: Request,
    name: Name,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> EntriesOut:
    """Return a page of hashes, ascending."""
    services: Services = request.state.services
    await found(services, name)
    if cursor is not None and not CURSOR.fullmatch(cursor):
        raise InvalidRequest("The cursor is not one that this service gave out.")
    page = await stored(services.lists.read(name, after=cursor, limit=limit))
    return EntriesOut(data=list(page), next_cursor=page[-1] if len(page) == limit else None)


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
    for made in await stored(services.lists.every()):
        if made.name == name:
            return made
    raise NotFound("There is no such list.")


async def shown(response: Response, services: Services, name: str) -> HashList:
    """Return a list as it is now, and its ETag in the response."""
    made = await found(services, name)
    response.headers["ETag"] = list_etag(made.revision)
    return made
