"""An HTTP body → a JSON object or the parts of a form, capped while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from gateway.api.body.multipart import MultipartReader, Part, read_options
from gateway.api.body.strict_json import parse_object
from gateway.errors import HttpMalformed, InvalidJson, PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from gateway.fetching.data_url import is_data_url
from gateway.fetching.image_source import KEPT_JSON_WEIGHT
from gateway.limits.admission import Reservation

JSON_TYPE, FORM_TYPE = "application/json", "multipart/form-data"
IDENTITY = "identity"  # of Content-Encoding
LARGE_BYTES = 1 << 18
IMAGE_FIELDS = frozenset({"base64", "url"})  # whose strings are images: base64, or a data: URL
NUMBER_FIELDS = frozenset({"embedding", "weight"})  # whose strings are base64 of float32, each with a cap of its own
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


async def read_body(request: Request, rules: BodyRules, reservation: Reservation) -> dict[str, Any] | list[Part]:
    """Return the JSON object or the parts of the form that is the body; with its end the request's work begins.

    Raises:
        UnsupportedMediaType: neither JSON nor multipart, or in a content coding such as gzip.
        PayloadTooLarge: over a cap, found before it is all read.
        InvalidJson, MultipartMalformed, InvalidRequest: not what the Content-Type says.
        Overloaded: the service holds as many bytes, or works on as many requests, as it takes.
        RequestTimeout: the client took too long to send it.
    """
    kind, options = _content_type(request)
    if kind == JSON_TYPE:
        return await read_json(request, rules, reservation)
    if kind != FORM_TYPE:
        raise UnsupportedMediaType(f"Send {JSON_TYPE} or {FORM_TYPE}.")
    reader = MultipartReader(options.get("boundary", "").encode("latin-1"))
    await _receive(request, rules, reservation, reader.feed)
    parts = reader.parts()
    reservation.begin()
    return parts


async def read_json(request: Request, rules: BodyRules, reservation: Reservation) -> dict[str, Any]:
    """Return the JSON object that is the body.

    Raises:
        RequestError, Overloaded: as ``read_body``.
    """
    if _content_type(request)[0] != JSON_TYPE:
        raise UnsupportedMediaType(f"Send {JSON_TYPE}.")
    body = bytearray()
    await _receive(request, rules, reservation, body.extend, JSON_WEIGHT)
    if _is_cut(request):
        raise InvalidJson("The connection ended before the body did.")
    if not body.isascii():
        reservation.hold(len(body) * WIDE_JSON_WEIGHT)
    if len(body) > LARGE_BYTES:
        parsed = await asyncio.to_thread(_parsed, body, rules.max_json_bytes)
    else:
        parsed = _parsed(body, rules.max_json_bytes)
    reservation.release(len(body) * (JSON_WEIGHT - KEPT_JSON_WEIGHT))
    reservation.begin()
    return parsed


async def read_plain(request: Request, rules: BodyRules, reservation: Reservation) -> tuple[str, bytes]:
    """Return the Content-Type, lower case without parameters, and the whole body, whatever it is.

    Raises:
        PayloadTooLarge, Overloaded, RequestTimeout: as ``read_body``.
        HttpMalformed: the connection ended before the body did.
    """
    body = bytearray()
    await _receive(request, rules, reservation, body.extend)
    if _is_cut(request):
        raise HttpMalformed("The connection ended before the body did.")
    reservation.begin()
    return _content_type(request)[0], bytes(body)


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
    coding = request.headers.get("content-encoding", IDENTITY).strip(" \t").lower()
    if coding != IDENTITY:
        raise UnsupportedMediaType(
            "A body with a Content-Encoding is not read; send it as it is.", accept_encoding=IDENTITY
        )
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


def _content_type(request: Request) -> tuple[str, dict[str, str]]:
    return read_options(request.headers.get("content-type", ""))


def _parsed(body: bytearray, max_json_bytes: int) -> dict[str, Any]:
    """Return the object in a body.

    Raises:
        PayloadTooLarge: without its images it is over the cap.
        InvalidJson, InvalidRequest: as ``parse_object``.
    """
    parsed = parse_object(body, max_json_bytes)
    if len(body) > max_json_bytes and chars_beside_images(parsed) > max_json_bytes:
        raise PayloadTooLarge(f"Without its images the JSON is over {max_json_bytes} bytes.")
    return parsed


def chars_beside_images(value: object) -> int:
    """Count the characters of a value as compact JSON, numbers as one, without images: those have a cap of their own.

    So have vectors and the weights of heads, where they are base64.

    A client may write ``/`` or ``+`` of base64 as an escape of up to six bytes; they count as what they mean.
    """
    count, left = 0, [value]
    while left:
        inner = left.pop()
        if isinstance(inner, dict):
            for name, field in inner.items():
                count += len(name) + 4
                entries = field if isinstance(field, list) else [field]
                left += [entry for entry in entries if not is_binary(name, entry)]
                count += len(entries)
        elif isinstance(inner, list):
            count += len(inner)
            left += inner
        else:
            count += len(inner) + 2 if isinstance(inner, str) else 1
    return count


def is_binary(name: str, value: object) -> bool:
    """Return whether a field of a request, or an entry of one, is base64 of an image or of numbers, or a data: URL."""
    if not isinstance(value, str):
        return False
    return name in NUMBER_FIELDS or (name in IMAGE_FIELDS and (name == "base64" or is_data_url(value)))


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is over {most} bytes, the most that is accepted.")
