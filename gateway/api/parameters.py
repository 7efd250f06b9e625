"""Parameters of paths and queries, and preconditions in headers (RFC 9110, 13.1.1 and 13.1.2).

Unknown parameters of a query are refused, as unknown fields of a body are. Else ``?active=false`` for
``?activate=false`` would put a draft in force, and ``?external=…`` read everybody's decisions.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.routing import APIRoute
from starlette.requests import Request

from gateway.api.body.validation import NAME_PATTERN
from gateway.errors import HttpMalformed, InvalidRequest
from gateway.store.preconditions import ANY, Precondition

Name = Annotated[str, Path(pattern=NAME_PATTERN)]
Text = Annotated[str | None, Query(max_length=256)]
Limit = Annotated[int, Query(ge=1, le=500)]
# One entity tag of a list, with what stands before and behind it; a list may have empty elements (RFC 9110, 5.6.1.2).
ELEMENT = re.compile(r'[ \t,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)')
NAMES = ("If-Match", "If-None-Match")
OF_VERSIONS = "the latest version, in force or a draft"
OF_ACTIVATION = "the version in force, or the latest one"
OF_LISTS = "the list, as reading it tells"


async def known_parameters(request: Request) -> None:
    """Check the names of the query's parameters against those that the route declares; for ``Depends``.

    Raises:
        InvalidRequest: one is not known, or given twice.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = [parameter.alias for parameter in route.dependant.query_params]
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            shown = name.encode("ascii", "backslashreplace").decode()[:100]
            takes = f"this path takes {', '.join(known)}" if known else "this path takes none"
            raise InvalidRequest(f"The query parameter “{shown}” is not known: {takes}.")
        if names.count(name) > 1:
            raise InvalidRequest(f"The query parameter “{name}” is given twice.")


def precondition_of(request: Request) -> Precondition:
    """Return what a request asks for before it may change something; a weak tag matches no ``If-Match``.

    Raises:
        HttpMalformed: a header is no list of entity tags, and not ``*``.
    """
    match, none_match = (_tags(name, request.headers.getlist(name)) for name in NAMES)
    return Precondition(match, frozenset(tag.removeprefix("W/") for tag in none_match or ()))


def conditional(current: str) -> dict[str, Any]:
    """Return the ``openapi_extra`` of a route whose changes may be conditional.

    Args:
        current: which entity tag is compared.
    """
    said = (
        f"Change nothing (412) unless one of these entity tags is that of {current}; `*`: unless it is there.",
        f"Change nothing (412) if one of these entity tags is that of {current}; `*`: if it is there.",
    )
    return {
        "parameters": [
            {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
            for name, text in zip(NAMES, said, strict=True)
        ]
    }


def _tags(name: str, lines: list[str]) -> frozenset[str] | None:
    """Return the entity tags of a header, which may have several lines; None where it is absent."""
    if not lines:
        return None
    value = ", ".join(lines).strip(" \t")
    if value == "*":
        return ANY
    found, end = [], 0
    while element := ELEMENT.match(value, end):
        found.append(element[1])
        end = element.end()
    if not found or value[end:].strip(" \t,"):
        raise HttpMalformed(f'{name} is neither * nor a list of entity tags, each in quotes: "3-0123", "4-4567".')
    return frozenset(found)
