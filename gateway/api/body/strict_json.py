"""Bytes → a JSON object, strictly: no duplicate keys, no NaN, no depth that would break the reader."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from gateway.errors import InvalidJson, InvalidRequest, PayloadTooLarge


class _DuplicateKey(ValueError):
    """An object names a key twice."""


class _NotANumber(ValueError):
    """NaN or an infinity."""


def parse_object(body: bytes | bytearray, max_tokens: int) -> dict[str, Any]:
    """Return the object that the body holds.

    Args:
        body: UTF-8 JSON; a byte order mark before it is passed over (RFC 8259, 8.1).
        max_tokens: cap on commas, colons and brackets, so that nothing small unfolds into much memory.

    Raises:
        PayloadTooLarge: more structure than allowed.
        InvalidJson: no JSON.
        InvalidRequest: JSON, but with a duplicate key or NaN, or no object.
    """
    if sum(body.count(mark) for mark in (b",", b":", b"[", b"{")) > max_tokens:
        raise PayloadTooLarge("The JSON body has too many values.")
    try:
        text = body.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except _DuplicateKey:
        raise InvalidRequest("A JSON object names a key twice.") from None
    except _NotANumber:
        raise InvalidRequest("NaN and infinities are no JSON numbers.") from None
    except (ValueError, RecursionError):
        raise InvalidJson("The body is not valid JSON in UTF-8.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The JSON body must be an object.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _DuplicateKey
    return made


def _refuse_constant(_: str) -> NoReturn:
    raise _NotANumber
