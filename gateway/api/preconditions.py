"""``If-Match`` and ``If-None-Match`` of a request that changes something (RFC 9110, 13.1.1 and 13.1.2)."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request

from gateway.errors import HttpMalformed, PreconditionFailed
from gateway.store.preconditions import ANY, Precondition

# One entity tag of a list, with what stands before and behind it; a list may have empty elements (RFC 9110, 5.6.1.2).
ELEMENT = re.compile(r'[ \t,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)')
NAMES = ("If-Match", "If-None-Match")
OF_VERSIONS = "the latest version, in force or a draft"
OF_ACTIVATION = "the version in force, or the latest one"
OF_LISTS = "the list, as reading it tells"


def precondition_of(request: Request) -> Precondition:
    """Return what a request asks for before it may change something; a weak tag matches no ``If-Match``.

    Raises:
        HttpMalformed: a header is no list of entity tags, and not ``*``.
    """
    match, none_match = (_tags(name, request.headers.getlist(name)) for name in NAMES)
    return Precondition(match, frozenset(tag.removeprefix("W/") for tag in none_match or ()))


def refusal(precondition: Precondition, name: str, otherwise: str) -> PreconditionFailed:
    """Return the error of a precondition that does not hold.

    Args:
        precondition: it.
        name: of what was to be changed.
        otherwise: the sentence for tags that are not current.
    """
    if precondition.none_match:
        return PreconditionFailed(f"If-None-Match is given, and what it names is there: “{name}”.")
    return PreconditionFailed(otherwise)


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
