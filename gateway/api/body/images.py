"""Fields and images of a request, from JSON or from a form alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Sized
from functools import partial
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel
from starlette.requests import Request

from gateway.api.body.multipart import Part
from gateway.api.body.reader import LARGE_BYTES, BodyRules, chars_beside_images, read_body
from gateway.api.body.strict_json import parse_object
from gateway.api.body.validation import validated
from gateway.api.schemas.requests import ImageIn, ImagesBody, ImagesForm, LoggedImageIn, SourceIn
from gateway.errors import InvalidRequest, PayloadTooLarge
from gateway.fetching.image_source import KEPT_JSON_WEIGHT, Base64, ImageRequest, Upload, source_of_url
from gateway.limits.admission import Reservation

J = TypeVar("J", bound=ImagesBody)
F = TypeVar("F", bound=ImagesForm)
FILE = "file"


async def read_fields(
    request: Request,
    rules: BodyRules,
    reservation: Reservation,
    json_model: type[J],
    form_model: type[F],
    *,
    needs_image: bool = True,
) -> tuple[J | F, list[ImageRequest]]:
    """Return the checked fields and the images: ``images`` of JSON, ``file`` and ``url`` of a form.

    The images are handed over: the fields do not keep their bytes.

    Args:
        request: whose body is read.
        rules: its caps.
        reservation: counts its bytes, until its images are done with.
        json_model: of a body that is JSON.
        form_model: of a form.
        needs_image: refuse a request without any.

    Raises:
        RequestError: as ``read_body``, or a field or the number of images is wrong.
        Overloaded: as ``read_body``.
    """
    body = await read_body(request, rules, reservation)
    fields: J | F
    if isinstance(body, dict):
        fields = given = validated(json_model, body)
        images = [image_request(image, reservation) for image in given.images]
        given.images.clear()
    else:
        texts = [part for part in body if not is_image(part)]
        is_large = sum(len(part.content) for part in texts) > LARGE_BYTES
        reading = partial(form_fields, texts, list_fields(form_model), rules.max_json_bytes)
        fields = sent = validated(form_model, await asyncio.to_thread(reading) if is_large else reading())
        images = [ImageRequest(Upload(part.content, reservation)) for part in body if is_image(part)]
        images += [ImageRequest(source_of_url(url, reservation)) for url in sent.url]
        in_urls = sum(len(image.source.text) for image in images if isinstance(image.source, Base64))
        reservation.hold(reservation.held_bytes + in_urls * (KEPT_JSON_WEIGHT - 1))
        sent.url.clear()
        images = sent.named(images)
    if needs_image and not images:
        raise InvalidRequest("No image given: send file parts, url fields, or “images” in JSON.")
    check_count(images, rules.max_images)
    return fields, images


def is_image(part: Part) -> bool:
    """Tell whether a part of a form is an image; an empty field of that name is none that was chosen."""
    return part.name == FILE and (part.is_file or bool(part.content))


def check_count(images: Sized, most: int) -> None:
    """Check the number of a request's images.

    Raises:
        InvalidRequest: it is over ``most``.
    """
    if len(images) > most:
        raise InvalidRequest(f"{len(images)} images given; at most {most} are accepted in a request.")


def image_request(image: SourceIn, reservation: Reservation | None = None) -> ImageRequest:
    """Return the image that a JSON entry names; its text is counted in ``reservation``, unless the caller keeps it."""
    client_id = image.id if isinstance(image, ImageIn) else None
    external_id = image.external_id if isinstance(image, LoggedImageIn) else None
    if image.base64 is not None:
        return ImageRequest(Base64(image.base64, reservation), client_id, external_id)
    return ImageRequest(source_of_url(image.url or "", reservation), client_id, external_id)


def list_fields(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of the fields that are lists."""
    types = {name: (field.annotation, *get_args(field.annotation)) for name, field in model.model_fields.items()}
    return frozenset(name for name, parts in types.items() if any(get_origin(part) is list for part in parts))


def form_fields(parts: Sequence[Part], lists: frozenset[str], max_json_bytes: int) -> dict[str, Any]:
    """Return the fields of a form by name: those in ``lists`` as lists, the others as one string.

    Args:
        parts: all but the images' files.
        lists: names of the fields that are lists.
        max_json_bytes: cap on all of them, but for images in ``data:`` URLs.

    A browser sends a field that nobody filled in as an empty one: it counts as not sent.

    Raises:
        InvalidRequest: a file part of another name, a repeated single field, or a field given twice by ``options``.
        PayloadTooLarge: they are over the cap.
    """
    fields: dict[str, Any] = {}
    for part in parts:
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
    fields = {name: value for name, value in fields.items() if value not in ("", [""])}
    options = fields.pop("options", None)
    if options is not None:
        extra = parse_object(options.encode(), max_json_bytes)
        if {name for name in extra if extra[name] is not None} & {*fields, FILE}:
            raise InvalidRequest("A field is given both by itself and within options.")
        fields = extra | fields
    if chars_beside_images(fields) > max_json_bytes:
        raise PayloadTooLarge(f"Without its images the form is over {max_json_bytes} bytes.")
    return fields
