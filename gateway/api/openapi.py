"""The OpenAPI text of bodies that FastAPI does not read itself: the routes read JSON and multipart under caps."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import re
from collections.abc import Sequence
from typing import Any, Literal

import orjson
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.api.authorization import ACCESS, is_open
from gateway.api.problems import OPENAI_PATH
from gateway.api.request_rules import SAFE_METHODS
from gateway.api.schemas.responses import Problem
from gateway.errors import (
    CrossSiteRequest,
    GatewayError,
    HeadersTooLarge,
    HostNotAllowed,
    HttpMalformed,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PreconditionFailed,
    RequestTimeout,
    ResourceInUse,
    StorageUnavailable,
    error_classes,
)
from gateway.moderation.classifiers import NAME

REF = "#/components/schemas/{model}"
SCHEME = "apiKey"
OPENAI_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
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
EXAMPLE_IMAGE = {"base64": EXAMPLE_PNG}
EXAMPLES = {
    "/v1/classify": {"images": [EXAMPLE_IMAGE], "labels": ["a red circle", "a blue square"]},
    "/v1/moderate": {"images": [EXAMPLE_IMAGE], "policy": "default"},
    "/v1/moderations": {"input": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{EXAMPLE_PNG}"}}]},
    "/v1/embeddings": {"input": ["a red circle", {"image": EXAMPLE_IMAGE}]},
}
"""By path, bodies that /docs shows and that can be sent as they are."""


def request_body(json_model: type[BaseModel], form_model: type[BaseModel] | None = None) -> dict[str, Any]:
    """Return the ``openapi_extra`` of a route whose body is one of these models; ``complete`` adds the schemas."""
    content = {"application/json": {"schema": {"$ref": REF.format(model=json_model.__name__)}}}
    if form_model is not None:
        content["multipart/form-data"] = {"schema": {"$ref": REF.format(model=form_model.__name__)}}
    return {"requestBody": {"required": True, "content": content}}


def text_body() -> dict[str, Any]:
    """Return the ``openapi_extra`` of a route that takes hashes as JSON, as lines or as CSV."""
    text = {"schema": {"type": "string"}}
    hashes = {"type": "array", "items": {"type": "string", "pattern": HASH_PATTERN}, "minItems": 1}
    entries = {
        "type": "object",
        "properties": {"entries": hashes},
        "required": ["entries"],
        "additionalProperties": False,
    }
    content = {"application/json": {"schema": entries}, "text/plain": text, "text/csv": text}
    return {"requestBody": {"required": True, "content": content}}


def install_docs(app: FastAPI) -> None:
    """Serve Swagger UI at /docs from an installed package, so that it works in a closed network too."""
    app.mount("/swagger", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="swagger")
    made = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url="swagger/swagger-ui-bundle.js",
        swagger_css_url="swagger/swagger-ui.css",
        swagger_favicon_url="swagger/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
    )
    page = bytes(made.body).decode()
    headers = {"Content-Security-Policy": docs_policy(page)}

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)


def docs_policy(page: str) -> str:
    """Return a content policy that allows the page its own files and the scripts that stand in it, and nothing else."""
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def install(app: FastAPI, bodies: Sequence[type[BaseModel]]) -> None:
    """Let ``/openapi.json`` hold the bodies' schemas, examples by path, and every error by status.

    Args:
        app: the application.
        bodies: models named by ``request_body``.
    """

    @app.get("/openapi.json", include_in_schema=False)
    async def described() -> Response:
        return Response(await asyncio.to_thread(rendered), media_type="application/json")

    @functools.cache
    def rendered() -> bytes:
        return orjson.dumps(app.openapi())

    def complete() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        known: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in bodies]
        _, definitions = models_json_schema([*known, (Problem, "validation")], ref_template=REF)
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        components |= definitions["$defs"]
        for unused in ("HTTPValidationError", "ValidationError"):
            components.pop(unused, None)
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                operation["responses"].pop("422", None)
                describe_access(operation, method.upper(), path)
                operation["responses"] = error_responses(path, method, operation) | operation["responses"]
                for parameter in operation.get("parameters", ()):
                    if (parameter["in"], parameter["name"]) == ("path", "name"):
                        parameter["schema"]["pattern"] = f"^{NAME.pattern}$"
                if "requestBody" in operation and path in EXAMPLES:
                    operation["requestBody"]["content"]["application/json"]["example"] = EXAMPLES[path]
        schema["components"]["securitySchemes"] = {
            SCHEME: {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key. Without keys in the gateway's settings, none is needed.",
            }
        }
        app.openapi_schema = schema
        return schema

    app.openapi = complete  # type: ignore[method-assign]


def describe_access(operation: dict[str, Any], method: str, path: str) -> None:
    """Say which key a route asks for."""
    if is_open(path):
        operation["security"] = []
        return
    operation["security"] = [{SCHEME: []}]
    roles = " or ".join(f"`{role}`" for role in sorted(ACCESS.get((method, path), ())))
    operation["description"] = f"{operation.get('description', '')}\n\nRole of the key: {roles or 'none'}.".strip()


def error_responses(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI responses of the errors that an operation can give, by status, each naming its codes."""
    by_status: dict[int, list[type[GatewayError]]] = {}
    for error in error_classes():
        if is_possible(error, path, method, operation):
            by_status.setdefault(error.status, []).append(error)
    content: dict[str, Any] = {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}}
    if path == OPENAI_PATH:
        content["application/json"] = {"schema": OPENAI_ERROR}
    return {
        str(status): {
            "description": ", ".join(sorted({f"`{error.code}`" for error in errors})),
            "content": content,
        }
        for status, errors in sorted(by_status.items())
    }


def is_possible(error: type[GatewayError], path: str, method: str, operation: dict[str, Any]) -> bool:
    """Tell whether an operation can answer with an error: one that reads a body with any, the others with a few."""
    if error is MethodNotAllowed:
        return False  # that is of no operation
    if error is CrossSiteRequest:
        return method.upper() not in SAFE_METHODS
    if "requestBody" in operation or error in ALWAYS_POSSIBLE:
        return True
    if error.status in OF_KEYS:
        return not is_open(path)
    if not path.startswith("/v1/"):
        return False
    if error in {InvalidRequest, StorageUnavailable}:
        return True
    if error is NotFound:
        return "{" in path
    return error in {PreconditionFailed, ResourceInUse} and method == "delete"
