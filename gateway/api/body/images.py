"""Fields and images of a request, from JSON or from a form alike."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

from gateway.api.body.multipart import Part
from gateway.api.body.reader import BodyRules, RawBody
from gateway.api.body.strict_json import parse_object
from gateway.api.body.validation import validated
from gateway.api.schemas.requests import ImageIn, SourceIn
from gateway.errors import InvalidRequest
from gateway.fetching.image_source import Base64, ImageRequest, Upload, Url
from gateway.limits.admission import Reservation

J = TypeVar("J", bound=BaseModel)
F = TypeVar("F", bound=BaseModel)
FILE = "file"


def read_fields(
    body: RawBody, rules: BodyRules, json_model: type[J], form_model: type[F], lists: frozenset[str]
) -> tuple[Any, list[ImageRequest]]:
    """Return the checked fields and the images: ``images`` of JSON, ``file`` and ``url`` of a form.

    The images are handed over: neither the fields nor, if the caller forgets it, the body keeps their bytes.

    Args:
        body: as read.
        rules: its caps.
        json_model: with a list ``images``.
        form_model: with a list ``url``.
        lists: names of form fields that may be repeated.

    Raises:
        RequestError: a field or the number of images is wrong.
    """
    if body.json is not None:
        fields: Any = validated(json_model, body.json)
        images = [image_request(image, body.reservation) for image in fields.images]
        fields.images.clear()
    else:
        fields = validated(form_model, form_fields(body.parts, lists, rules.max_json_bytes))
        images = [ImageRequest(Upload(part.content, body.reservation)) for part in body.parts if part.name == FILE]
        images += [ImageRequest(Url(url)) for url in fields.url]
    if not images:
        raise InvalidRequest("No image given: send file parts, url fields, or “images” in JSON.")
    if len(images) > rules.max_images:
        raise InvalidRequest(f"{len(images)} images given; at most {rules.max_images} are accepted in a request.")
    return fields, images


def image_request(image: SourceIn, reservation: Reservation | None = None) -> ImageRequest:
    """Return the image that a JSON entry names; its text is counted in ``reservation``, unless the caller keeps it."""
    client_id = image.id if isinstance(image, ImageIn) else None
    if image.base64 is not None:
        return ImageRequest(Base64(image.base64, reservation), client_id)
    return ImageRequest(Url(image.url or ""), client_id)


def form_fields(parts: tuple[Part, ...], lists: frozenset[str], max_tokens: int) -> dict[str, Any]:
    """Return the fields of a form by name: those in ``lists`` as lists, the others as one string; files left out.

    Raises:
        InvalidRequest: a file part of another name, a repeated single field, or a field given twice by ``options``.
    """
    fields: dict[str, Any] = {}
    for part in parts:
        if part.name == FILE:
            continue
        if part.is_file:
            raise InvalidRequest(f"Files go into parts named {FILE}.")
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
        if extra.keys() & {*fields, FILE}:
            raise InvalidRequest("A field is given both by itself and within options.")
        fields |= extra
    return fields
