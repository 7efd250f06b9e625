"""Parameters of paths and queries, and preconditions in headers (RFC 9110, 13.1.1 and 13.1.2).

Unknown parameters of a query are refused, as unknown fields of a body are. Else ``?active=false`` for
``?activate=false`` would put a draft in force, and ``?external=…`` read everybody's decisions.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Path, Query
from fastapi.routing import APIRoute
from starlette.requests import Request

from gateway.api.body.validation import NAME_PATTERN
from gateway.errors import HttpMalformed, InvalidRequest
from gateway.store.preconditions import ANY, Precondition

Name = Annotated[str, Path(pattern=NAME_PATTERN, examples=["example"])]
Text = Annotated[str | None, Query(max_length=256)]
Limit = Annotated[int, Query(ge=1, le=500)]
# One entity tag of a list, with what stands before and behind it; a list may have empty elements (RFC 9110, 5.6.1.2).
ELEMENT = re.compile(r'[ \t,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)')
IF_MATCH, IF_NONE_MATCH = "If-Match", "If-None-Match"
NOTHING = "Change nothing (412)"
TAGS = (
    "one of these entity tags is current: that of the list, or of the latest version, in force or a draft (to "
    "activate one, also of the version in force). `*` stands for whatever is there."
)


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


async def precondition_of(
    if_match: Annotated[list[str] | None, Header(alias=IF_MATCH, description=f"{NOTHING} unless {TAGS}")] = None,
    if_none_match: Annotated[list[str] | None, Header(alias=IF_NONE_MATCH, description=f"{NOTHING} if {TAGS}")] = None,
) -> Precondition:
    """Return what has to hold before a request changes something, for ``Depends``; no weak tag matches ``If-Match``.

    Raises:
        HttpMalformed: a header is no list of entity tags, and not ``*``.
    """
    none_match = _tags(IF_NONE_MATCH, if_none_match) or ()
    return Precondition(_tags(IF_MATCH, if_match), frozenset(tag.removeprefix("W/") for tag in none_match))


def _tags(name: str, lines: list[str] | None) -> frozenset[str] | None:
    """Return the entity tags of a header, which may have several lines; None where it is absent."""
    if lines is None:
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
