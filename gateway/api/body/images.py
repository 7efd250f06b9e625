"""Fields and images of a request, from JSON or from a form alike."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

from gateway.api.body.reader import BodyRules, RawBody, form_fields, validated
from gateway.api.schemas.requests import ImageIn
from gateway.errors import InvalidRequest
from gateway.fetching.image_source import Base64, ImageRequest, Upload, Url
from gateway.limits.admission import Reservation

J = TypeVar("J", bound=BaseModel)
F = TypeVar("F", bound=BaseModel)
FILES = frozenset({"file"})


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
        fields = validated(form_model, form_fields(body.parts, lists, FILES, rules.max_json_bytes))
        images = [ImageRequest(Upload(part.content, body.reservation)) for part in body.parts if part.name in FILES]
        images += [ImageRequest(Url(url)) for url in fields.url]
    if not images:
        raise InvalidRequest("No image given: send file parts, url fields, or “images” in JSON.")
    if len(images) > rules.max_images:
        raise InvalidRequest(f"{len(images)} images given; at most {rules.max_images} are accepted in a request.")
    return fields, images


def image_request(image: ImageIn, reservation: Reservation | None = None) -> ImageRequest:
    """Return the image that a JSON entry names; its text is counted in ``reservation``, unless the caller keeps it."""
    if image.base64 is not None:
        return ImageRequest(Base64(image.base64, reservation), image.id)
    return ImageRequest(Url(image.url or ""), image.id)
