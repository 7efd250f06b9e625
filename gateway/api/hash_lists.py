"""/v1/lists: known images by hash."""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.reader import JSON_TYPE, read_json, read_plain
from gateway.api.body.strict_json import parse_object
from gateway.api.body.validation import validated
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.openapi import HASH_PATTERN, request_body, text_body
from gateway.api.parameters import Name, known_parameters
from gateway.api.schemas.stored_requests import ListIn
from gateway.api.schemas.stored_responses import Added, Deleted, EntriesOut, ListOut, ListsOut
from gateway.api.store_calls import ChangeDep, changed, stored
from gateway.errors import InvalidRequest, NotFound
from gateway.hash_matching.import_file import MAX_ENTRIES, read_hashes
from gateway.hash_matching.refresher import check_list
from gateway.store.lists import HashList, ListKind
from gateway.store.preconditions import list_etag

OTHER_KIND = "The kind of a list cannot change; make another list."

router = APIRouter(prefix="/v1/lists", tags=["lists"], dependencies=[Depends(known_parameters)])


@router.put(
    "/{name}",
    summary="Create or change a list",
    response_model=ListOut,
    responses={201: {"model": ListOut}},
    openapi_extra=request_body(ListIn, {"action": "block", "kind": "sha256"}),
)
async def put_list(request: Request, response: Response, services: ServicesDep, change: ChangeDep) -> HashList:
    """Create a list or change its action or distance; its kind stays."""
    with services.admission.request() as reservation:
        given = validated(ListIn, await read_json(request, services.body_rules, reservation))
    made = check_list(HashList(change.name, given.action, given.kind, given.max_distance, withhold=given.withhold))
    saving = services.lists.put(made, actor=change.actor, precondition=change.precondition)
    saved = await changed(change, saving, services.list_refresher, OTHER_KIND)
    response.status_code = 201 if saved.created else 200
    response.headers["ETag"] = list_etag(saved.made.revision)
    return saved.made


@router.get("", summary="All lists", response_model=ListsOut)
async def lists(services: ServicesDep) -> dict[str, tuple[HashList, ...]]:
    """Return all lists with their numbers of entries."""
    return {"data": await stored(services.lists.every())}


@router.get("/{name}", summary="One list", response_model=ListOut)
async def read_list(services: ServicesDep, response: Response, name: Name) -> HashList:
    """Return a list."""
    made = await found(services, name)
    response.headers["ETag"] = list_etag(made.revision)
    return made


@router.delete("/{name}", summary="Delete a list with its entries", status_code=204)
async def delete_list(services: ServicesDep, change: ChangeDep) -> Response:
    """Delete a list."""
    deletion = services.lists.drop(change.name, actor=change.actor, precondition=change.precondition)
    if not await changed(change, deletion, services.list_refresher):
        raise NotFound("There is no such list.")
    return Response(status_code=204)


@router.post("/{name}/entries", summary="Add hashes", openapi_extra=text_body())
async def add_entries(request: Request, services: ServicesDep, change: ChangeDep) -> Added:
    """Add hashes: JSON ``{"entries": […]}``, one hash a line, or CSV with a header."""
    made = await found(services, change.name)
    hashes = await read_entries(request, services, made.kind)
    adding = services.lists.add(change.name, hashes, actor=change.actor, precondition=change.precondition)
    added = await changed(change, adding, services.list_refresher)
    if added is None:
        raise NotFound("There is no such list.")
    return Added(received=len(hashes), added=added)


@router.delete("/{name}/entries", summary="Remove hashes", openapi_extra=text_body())
async def remove_entries(request: Request, services: ServicesDep, change: ChangeDep) -> Deleted:
    """Remove hashes, given as for adding."""
    made = await found(services, change.name)
    hashes = await read_entries(request, services, made.kind)
    removing = services.lists.remove(change.name, hashes, actor=change.actor, precondition=change.precondition)
    return Deleted(deleted=await changed(change, removing, services.list_refresher))


@router.get("/{name}/entries", summary="A list's hashes")
async def entries(
    services: ServicesDep,
    name: Name,
    cursor: Annotated[str | None, Query(pattern=HASH_PATTERN, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> EntriesOut:
    """Return a page of hashes, ascending."""
    await found(services, name)
    page = await stored(services.lists.read(name, after=cursor, limit=limit))
    return EntriesOut(data=list(page), next_cursor=page[-1] if len(page) == limit else None)


async def read_entries(request: Request, services: Services, kind: ListKind) -> tuple[str, ...]:
    """Return the hashes of a body.

    Raises:
        RequestError: a line is no hash of this kind; it is numbered.
    """
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
