"""An HTTP body → checked fields and images. JSON or multipart, capped while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from gateway.api.body.multipart import MultipartReader, Part, read_options
from gateway.api.body.strict_json import parse_object
from gateway.errors import (
    GatewayError,
    HttpMalformed,
    InvalidJson,
    InvalidLabels,
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from gateway.fetching.image_source import KEPT_JSON_WEIGHT
from gateway.limits.admission import Reservation
from gateway.moderation.classifiers import REFERENCE_PATTERN

M = TypeVar("M", bound=BaseModel)

LABEL_FIELDS = frozenset({"labels", "templates", "negatives"})
SHOWN_ERRORS = 3
INTERNAL_STEPS = frozenset({"EmbeddingInput", "query", "path", "body"})  # of pydantic's and FastAPI's own
LARGE_BYTES = 1 << 18
PATTERNS: Mapping[str, str] = {REFERENCE_PATTERN: "must be a name in lower case, or name@version"}
JSON_WEIGHT = 3  # the body, its text and its values
WIDE_JSON_WEIGHT = 6  # Python's text takes four bytes a character if one of them is beyond U+FFFF
GRACE = 1 / 2  # of the time for a body: a busy server reads late, and that is not the client's fault
PACE_CHECK_S = 0.25
PROMPT_BYTES = 1 << 20  # in every quarter of a second from its turn on, or the client is called slow
UNDECLARED_BYTES = 1 << 20  # room for a body of unknown length; what is beyond counts as a slow client's
BODY_CUT = "body_cut"  # in the request's state: the connection ended before the body did


@dataclass(frozen=True, slots=True)
class BodyRules:
    """Caps of a request's body; bytes and seconds."""

    max_body_bytes: int
    max_json_bytes: int
    max_images: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class RawBody:
    """A body taken apart, nothing checked but its form: a JSON object, or the parts of a multipart form.

    ``reservation`` counts its bytes, until its images are done with.
    """

    json: dict[str, Any] | None
    parts: tuple[Part, ...]
    reservation: Reservation


async def read_body(request: Request, rules: BodyRules, reservation: Reservation) -> RawBody:
    """Read and take apart the body; with its end the request's work begins.

    Raises:
        UnsupportedMediaType: neither JSON nor multipart.
        PayloadTooLarge: over a cap, found before it is all read.
        InvalidJson, MultipartMalformed, InvalidRequest: not what the Content-Type says.
        Overloaded: the service holds as many bytes, or works on as many requests, as it takes.
        RequestTimeout: the client took too long to send it.
    """
    kind, options = read_options(request.headers.get("content-type", ""))
    if kind not in {"application/json", "multipart/form-data"}:
        raise UnsupportedMediaType("Send application/json or multipart/form-data.")
    if kind == "application/json":
        body = RawBody(await _read_json(request, rules, reservation), (), reservation)
    else:
        reader = MultipartReader(options.get("boundary", "").encode("latin-1"))
        await _receive(request, rules, reservation, reader.feed)
        body = RawBody(None, tuple(reader.parts()), reservation)
    reservation.begin()
    return body


async def read_plain(request: Request, rules: BodyRules, reservation: Reservation) -> tuple[str, bytes]:
    """Return the Content-Type, lower case without parameters, and the whole body, whatever it is.

    Raises:
        PayloadTooLarge, Overloaded, RequestTimeout: as ``read_body``.
        HttpMalformed: the connection ended before the body did.
    """
    kind, _ = read_options(request.headers.get("content-type", ""))
    body = bytearray()
    await _receive(request, rules, reservation, body.extend)
    if _is_cut(request):
        raise HttpMalformed("The connection ended before the body did.")
    reservation.begin()
    return kind, bytes(body)


async def _receive(
    request: Request, rules: BodyRules, reservation: Reservation, take: Callable[[bytes], None], weight: int = 1
) -> None:
    """Hand on the body piece by piece under its caps; before anything is read, its turn is waited for.

    A client has ``timeout_s`` for the whole, and has to be on course for that: behind a declared length by more than
    GRACE of the time, it is given up early, so that nobody holds much by sending little. A slow one leaves the room,
    and holds what it has sent instead of what it has declared. For that, looks are counted rather than time: a server
    that is late has read nothing meanwhile.

    Args:
        request: whose body.
        rules: its caps.
        reservation: its account.
        take: gets each piece.
        weight: copies of the body that are held while it is worked on.
    """
    declared = declared_bytes(request.headers, rules.max_body_bytes)
    await reservation.enter_room(declared or min(UNDECLARED_BYTES, rules.max_body_bytes))
    reservation.hold(declared * weight)
    total = prompt_bytes = 0

    async def read() -> None:
        nonlocal total
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk, more = message.get("body", b""), message.get("more_body", False)
            total += len(chunk)
            if total > rules.max_body_bytes:
                raise _too_large(rules.max_body_bytes)
            reservation.hold(max(total * weight, reservation.held_bytes))
            if chunk:
                take(chunk)

    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    reading = asyncio.create_task(read())
    try:
        while True:
            course = min(1.0, GRACE + total / declared) if declared else 1.0
            left_s = begun_s + rules.timeout_s * course - loop.time()
            if left_s <= 0:
                raise RequestTimeout(f"The body was not all sent within {rules.timeout_s:g} s, nor in time for that.")
            done, _ = await asyncio.wait([reading], timeout=min(PACE_CHECK_S, left_s))
            if done:
                break
            prompt_bytes += PROMPT_BYTES
            if total < prompt_bytes:
                reservation.leave_room()
                reservation.hold(total * weight)
        await reading
    finally:
        reading.cancel()
    reservation.hold(total * weight)
    reservation.leave_room(but=total)


def declared_bytes(headers: Headers, most: int) -> int:
    """Return the Content-Length, 0 where there is none.

    Raises:
        HttpMalformed: it is no number; our own server refuses such a request by itself.
        PayloadTooLarge: it is over ``most``.
    """
    length = headers.get("content-length", "0").strip(" \t")
    if not (length.isascii() and length.isdecimal()):
        raise HttpMalformed("Content-Length is not a number of bytes.")
    digits = length.lstrip("0") or "0"
    if len(digits) > len(str(most)) or int(digits) > most:  # Python reads no number of thousands of digits
        raise _too_large(most)
    return int(digits)


def _is_cut(request: Request) -> bool:
    return bool(request.scope.get("state", {}).get(BODY_CUT))


async def _read_json(request: Request, rules: BodyRules, reservation: Reservation) -> dict[str, Any]:
    body = bytearray()
    await _receive(request, rules, reservation, body.extend, JSON_WEIGHT)
    if _is_cut(request):
        raise InvalidJson("The connection ended before the body did.")
    if not body.isascii():
        reservation.hold(len(body) * WIDE_JSON_WEIGHT)
    if len(body) > LARGE_BYTES:
        parsed = await asyncio.to_thread(parse_object, body, rules.max_json_bytes)
    else:
        parsed = parse_object(body, rules.max_json_bytes)
    reservation.release(len(body) * (JSON_WEIGHT - KEPT_JSON_WEIGHT))
    images = sum(len(text) for text in _base64_texts(parsed))
    if len(body) - images > rules.max_json_bytes:
        raise PayloadTooLarge(f"Without its base64 images the JSON is over {rules.max_json_bytes} bytes.")
    return parsed


def _base64_texts(value: object, depth: int = 0) -> list[str]:
    """Collect the base64 strings where a request may have them, at most a few levels down."""
    found: list[str] = []
    if isinstance(value, dict) and depth < 4:  # noqa: PLR2004 - input → item → image → base64
        for key, inner in value.items():
            if key == "base64" and isinstance(inner, str):
                found.append(inner)
            else:
                found += _base64_texts(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                found += _base64_texts(inner, depth + 1)
    return found


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is over {most} bytes, the most that is accepted.")


def form_fields(
    parts: tuple[Part, ...], lists: frozenset[str], files: frozenset[str], max_tokens: int
) -> dict[str, Any]:
    """Return the fields of a form by name: those in ``lists`` as lists, the others as one string; files left out.

    Raises:
        InvalidRequest: a file part of another name, a repeated single field, or a field given twice by ``options``.
    """
    fields: dict[str, Any] = {}
    for part in parts:
        if part.name in files:
            continue
        if part.is_file:
            raise InvalidRequest(f"Files go into parts named {' or '.join(sorted(files))}.")
        try:
            text = part.content.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest("A form field is not UTF-8.") from None
        if part.name in lists:
            fields.setdefault(part.name, []).append(text)
        elif part.name in fields:
            raise InvalidRequest("A form field that takes one value is given twice.")
        else:
            fields[part.name] = text
    options = fields.pop("options", None)
    if options is not None:
        extra = parse_object(options.encode(), max_tokens)
        if extra.keys() & (fields.keys() | files):
            raise InvalidRequest("A field is given both by itself and within options.")
        fields |= extra
    return fields


def validated(model: type[M], fields: dict[str, Any]) -> M:
    """Return the fields as a model.

    Raises:
        InvalidLabels: something about labels, templates or negatives.
        InvalidRequest: any other field.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise translated(error.errors(include_url=False, include_context=True)) from None


def translated(errors: Sequence[ErrorDetails]) -> GatewayError:
    """Return our error for those that pydantic found, in our own words."""
    sentences = [_sentence(error) for error in errors[:SHOWN_ERRORS]]
    if len(errors) > SHOWN_ERRORS:
        sentences.append(f"And {len(errors) - SHOWN_ERRORS} more.")
    kind = InvalidLabels if errors[0]["loc"] and errors[0]["loc"][0] in LABEL_FIELDS else InvalidRequest
    return kind(" ".join(sentences))


def _sentence(error: ErrorDetails) -> str:
    """Say in our own words what is wrong with one field."""
    where = ".".join(str(step) for step in error["loc"] if step not in INTERNAL_STEPS)
    where = where.encode("ascii", "backslashreplace").decode()[:100] or "body"
    context = error.get("ctx", {})
    said = {
        "missing": "is required",
        "extra_forbidden": "is not a known field",
        "literal_error": f"must be {context.get('expected', 'one of the documented values')}",
        "greater_than_equal": f"must be at least {context.get('ge')}",
        "greater_than": f"must be more than {context.get('gt')}",
        "less_than_equal": f"must be at most {context.get('le')}",
        "too_short": f"needs at least {context.get('min_length')} item(s)",
        "too_long": f"takes at most {context.get('max_length')} item(s)",
        "string_too_long": f"takes at most {context.get('max_length')} characters",
        "string_too_short": "must not be empty",
        "string_type": "must be a string",
        "string_unicode": "must be valid Unicode without lone surrogates",
        "list_type": "must be a list",
        "int_parsing": "must be a whole number",
        "int_type": "must be a whole number",
        "float_parsing": "must be a number",
        "float_type": "must be a number",
        "finite_number": "must be a finite number",
        "bool_parsing": "must be true or false",
        "dict_type": "must be an object",
        "model_type": "must be an object",
        "model_attributes_type": "must be an object",
        "datetime_from_date_parsing": "must be a time as in 2026-01-31T12:00:00Z (in a URL, + is written %2B)",
        "datetime_parsing": "must be a time as in 2026-01-31T12:00:00Z",
        "union_tag_not_found": f"needs a field {context.get('discriminator', 'type')}",
        "union_tag_invalid": f"must have {context.get('discriminator')} {context.get('expected_tags')}",
        "string_pattern_mismatch": PATTERNS.get(str(context.get("pattern")), "holds a character that is not accepted"),
        "value_error": str(context.get("error", "is not valid")),
    }.get(error["type"], "has the wrong type or form")
    return f"Field “{where}” {said}."
