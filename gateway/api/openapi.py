"""The OpenAPI text of bodies that FastAPI does not read itself: the routes read JSON and multipart under caps."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from pydantic import BaseModel, TypeAdapter

from gateway.api.authorization import ACCESS, SESSION_PATHS, is_open
from gateway.api.body.images import FILE, list_fields
from gateway.api.body.reader import FORM_TYPE, JSON_TYPE
from gateway.api.body.repeats import HEADER
from gateway.api.problems import MEDIA_TYPE, OPENAI_PATH, OPENAI_TOO
from gateway.api.request_rules import SAFE_METHODS
from gateway.api.schemas.responses import OpenAIError, OpenAIProblem, Problem
from gateway.errors import (
    CrossSiteRequest,
    Forbidden,
    GatewayError,
    HeadersTooLarge,
    HostNotAllowed,
    HttpMalformed,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    ImageGone,
    InternalError,
    InvalidJson,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PreconditionFailed,
    ProviderUnavailable,
    RateLimited,
    RequestTimeout,
    ResourceInUse,
    SignInFailed,
    StorageUnavailable,
    Unauthorized,
    UnderLegalHold,
    UnsupportedMediaType,
    error_classes,
)

REF = "#/components/schemas/{model}"
SCHEME = "apiKey"
ALWAYS_POSSIBLE = frozenset(
    {HostNotAllowed, HttpMalformed, HeadersTooLarge, PayloadTooLarge, RequestTimeout, Overloaded, InternalError}
)
OF_KEYS = frozenset({401, 403, 429})  # statuses
HASH_PATTERN = "^[0-9a-fA-F]{64}$"
# A red disc on white, 64 x 64: small, and a drawing as the demo model knows them.
EXAMPLE_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEX////cHh7/Hx2WAAAAiElEQVR42rXRMQ6CQBAF0McsCRYm"
    "YmfJUdYbeUSOwhG2pCCsxSaGgsroNP9n3nTDP+e2IvAa2iLVuhD0jAQPrgQTQZDpSMzo5tBBFgKmFhB6GIULXI70KSP0pzS1OKPv"
    "ygL7KRXYTmmFVdigHGmHRagwS8g8BTOVYNHuDLUWgo1Cosr3wy9+Pm8djR4nTn4h5wAAAABJRU5ErkJggg=="
)
EXAMPLE_HASH = "4760824c037a62b13ede73e3ef83d506704d37f7430db5a4b5be44aca0d62d2e"
EXAMPLE_POLICY: dict[str, Any] = {
    "rules": [{"category": "circles", "classifier": "example", "labels": ["a red circle"], "review_at": 0.5}],
    "views": "center",
    "description": "Needs the classifier “example”: PUT /v1/classifiers/example with its own example.",
}
EXAMPLE_IMAGE = {"base64": EXAMPLE_PNG}


def request_body(
    json_model: Any,  # noqa: ANN401 - a model, or a union of models
    example: dict[str, Any],
    form_model: type[BaseModel] | None = None,
) -> dict[str, Any]:
    """Return the ``openapi_extra`` of a route that reads its body itself.

    Args:
        json_model: of a body that is JSON; a union of several.
        example: JSON that /docs shows and that can be sent as it is, under the name ``example``.
        form_model: of one that is a form, where that is taken too.
    """
    schema = TypeAdapter[Any](json_model).json_schema(ref_template=REF)
    content = {JSON_TYPE: {"schema": schema, "example": example}}
    if form_model is not None:
        content[FORM_TYPE] = form_content(form_model)
    return {"requestBody": {"required": True, "content": content}}


def form_content(model: type[BaseModel]) -> dict[str, Any]:
    """Return what the OpenAPI text says of a form: lists by repeated fields, and what an empty field means.

    Swagger UI sends what it finds as a field's default or makes up for one without, so those defaults are empty here.
    """
    schema = model.model_json_schema(ref_template=REF)
    lists = list_fields(model)
    for name, field in schema["properties"].items():
        default = field.pop("default", None)
        if default:
            field["description"] += f" By default {default}."
        if name in lists:
            items = next(form for form in field.pop("anyOf", [field]) if form.get("type") == "array")
            field.update(items, **({} if "examples" in field else {"default": []}))
        else:
            meant = {key: field.pop(key) for key in ("type", "enum", "pattern") if key in field}
            forms = [form for form in field.pop("anyOf", [meant]) if form.get("type") != "null"]
            field.update(anyOf=[*forms, {"const": "", "description": "Not filled in."}], default="")
    encoding = {name: {"style": "form", "explode": True} for name in sorted(lists - {FILE})}
    return {"schema": schema, "encoding": encoding}


def text_body() -> dict[str, Any]:
    """Return the ``openapi_extra`` of a route that takes hashes as JSON, as lines or as CSV."""
    text = {"schema": {"type": "string"}, "example": f"{EXAMPLE_HASH}\n"}
    hashes = {"type": "array", "items": {"type": "string", "pattern": HASH_PATTERN}, "minItems": 1}
    entries = {
        "type": "object",
        "properties": {"entries": hashes},
        "required": ["entries"],
        "additionalProperties": False,
    }
    csv = {**text, "example": f"sha256\n{EXAMPLE_HASH}\n"}
    content = {
        JSON_TYPE: {"schema": entries, "example": {"entries": [EXAMPLE_HASH]}},
        "text/plain": text,
        "text/csv": csv,
    }
    return {"requestBody": {"required": True, "content": content}}


def install_openapi(app: FastAPI) -> None:
    """Serve ``/openapi.json``; it is made once, in a thread."""

    @functools.cache
    def rendered() -> bytes:
        return orjson.dumps(description_of(app))

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi_json() -> Response:
        return Response(await asyncio.to_thread(rendered), media_type="application/json")


def description_of(app: FastAPI) -> dict[str, Any]:
    """Return FastAPI's OpenAPI text with the schemas of bodies, the keys, and every error by status."""
    text = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        webhooks=app.webhooks.routes,
    )
    for event in text["webhooks"].values():
        event["post"]["responses"].pop("422", None)
    components = text["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    forms: dict[type[BaseModel], dict[str, Any]] = {
        model: _referred(model.model_json_schema(ref_template=REF), components)
        for model in (Problem, OpenAIError, OpenAIProblem)
    }
    for path, operations in text["paths"].items():
        for method, operation in operations.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                content["schema"] = _referred(content["schema"], components)
            describe_access(operation, method.upper(), path)
            operation["responses"].pop("422", None)
            errors = error_responses(path, method, operation, forms)
            operation["responses"] = errors | operation["responses"]
    text["components"]["securitySchemes"] = {
        SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key. Without keys in the gateway's settings, none is needed.",
        }
    }
    return text


def _referred(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """Move a model's schema, and those that it refers to, to the components; return a reference to it."""
    components |= schema.pop("$defs", {})
    if "title" not in schema:
        return schema
    components[schema["title"]] = schema
    return {"$ref": REF.format(model=schema["title"])}


def describe_access(operation: dict[str, Any], method: str, path: str) -> None:
    """Say which key a route asks for."""
    if is_open(path):
        operation["security"] = []
        return
    operation["security"] = [{SCHEME: []}]
    roles = " or ".join(f"`{role}`" for role in sorted(ACCESS.get((method, path), ())))
    operation["description"] = f"{operation.get('description', '')}\n\nRole of the key: {roles or 'none'}.".strip()


def error_responses(
    path: str, method: str, operation: dict[str, Any], forms: dict[type[BaseModel], dict[str, Any]]
) -> dict[str, Any]:
    """Return the OpenAPI responses of the errors that an operation can give, by status, each naming its codes."""
    by_status: dict[int, list[type[GatewayError]]] = {}
    for error in error_classes():
        if is_possible(error, path, method, operation):
            by_status.setdefault(error.status, []).append(error)
    content = {MEDIA_TYPE: {"schema": forms[OpenAIProblem if path in OPENAI_TOO else Problem]}}
    if path == OPENAI_PATH:
        content[JSON_TYPE] = {"schema": forms[OpenAIError]}
    return {
        str(status): {
            "description": ", ".join(sorted({f"`{error.code}`" for error in errors})),
            "content": content,
        }
        for status, errors in sorted(by_status.items())
    }


def is_possible(error: type[GatewayError], path: str, method: str, operation: dict[str, Any]) -> bool:
    """Tell whether an operation can answer with an error: one that reads a body with any, the others with a few."""
    if error in {MethodNotAllowed, ImageGone}:  # the one is of no operation
        return error is ImageGone and path.endswith("/image")
    if error in {CrossSiteRequest, IdempotencyKeyInUse, IdempotencyKeyReused}:
        has_key = any(parameter["name"] == HEADER for parameter in operation.get("parameters", ()))
        return method.upper() not in SAFE_METHODS if error is CrossSiteRequest else has_key
    if error in {ProviderUnavailable, SignInFailed} or path in SESSION_PATHS:
        return is_possible_at_sign_in(error, path, method)
    if "requestBody" in operation or error in ALWAYS_POSSIBLE:
        return True
    if error.status in OF_KEYS:
        return not is_open(path)
    if error in {InvalidRequest, StorageUnavailable}:
        return path.startswith("/v1/")
    if error is NotFound:
        return path.startswith("/v1/") and ("{" in path or (path == "/v1/legal-holds" and method == "delete"))
    return error in {PreconditionFailed, ResourceInUse, UnderLegalHold} and method == "delete"


def is_possible_at_sign_in(error: type[GatewayError], path: str, method: str) -> bool:
    """Tell the same of the routes that sign people in: ``ImageError`` and the like cannot happen there."""
    if error in ALWAYS_POSSIBLE or error in {InvalidRequest, StorageUnavailable}:
        return path in SESSION_PATHS
    if path == "/v1/session":
        with_body = error in {InvalidJson, UnsupportedMediaType} and method in {"post", "patch"}
        return (
            with_body
            or (error is Unauthorized and method in {"post", "patch"})
            or (error is RateLimited and method == "post")
        )
    comes_back = path.endswith("/callback") and error in {SignInFailed, Forbidden}
    return path in SESSION_PATHS and (comes_back or error in {NotFound, ProviderUnavailable, RateLimited})
