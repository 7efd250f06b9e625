"""Errors → problem documents (RFC 9457): the one place where an error becomes HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.api.body.validation import translated
from gateway.errors import (
    CrossSiteRequest,
    Forbidden,
    GatewayError,
    HostNotAllowed,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PolicyModelMismatch,
    RateLimited,
    RequestError,
    Unauthorized,
)
from gateway.observability.metrics import Metrics

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:clip-gateway:problem:"
# On every answer, also those that never reach the application. /docs has a content policy of its own.
SECURITY_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        "Cache-Control": "no-store",
    }
)
CHALLENGE = 'Bearer realm="clip-gateway"'
OPENAI_PATH = "/v1/moderations"  # whose errors have OpenAI's shape
OPENAI_KINDS = {
    Unauthorized: "authentication_error",
    Forbidden: "permission_error",
    CrossSiteRequest: "permission_error",
    HostNotAllowed: "invalid_request_error",
    RateLimited: "rate_limit_error",
}


def problem(error: GatewayError, request_id: str) -> dict[str, Any]:
    """Return the problem document of an error."""
    return {
        "type": TYPE_PREFIX + error.code,
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "request_id": request_id,
    }


def problem_response(error: GatewayError, request_id: str) -> Response:
    """Return the problem document of an error as a response, with the headers that belong to its status."""
    return error_response(error, "", request_id)


def error_response(error: GatewayError, path: str, request_id: str) -> Response:
    """Return an error as a response: a problem document, or on OpenAI's route what its clients read.

    With the headers that belong to its status: Retry-After where a retry makes sense, Allow, WWW-Authenticate.
    """
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s is not None else {}
    if isinstance(error, MethodNotAllowed) and error.allow:
        headers["Allow"] = error.allow
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(error, Forbidden):
        headers["WWW-Authenticate"] = f'{CHALLENGE}, error="insufficient_scope"'
    if path == OPENAI_PATH:
        return Response(orjson.dumps(openai_error(error)), error.status, headers, "application/json")
    return Response(orjson.dumps(problem(error, request_id)), error.status, headers, MEDIA_TYPE)


def openai_error(error: GatewayError) -> dict[str, Any]:
    """Return an error in OpenAI's shape, with our code."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"  # noqa: PLR2004
    param = "input" if isinstance(error, RequestError) else None
    if isinstance(error, (NotFound, PolicyModelMismatch)):
        param = "model"
    for known, said in OPENAI_KINDS.items():
        if isinstance(error, known):
            kind, param = said, None
    return {"error": {"message": error.detail, "type": kind, "param": param, "code": error.code}}


def answered(request: Request, error: GatewayError, metrics: Metrics) -> Response:
    """Return a request's error as its response; it is counted, and noted for the request's log line."""
    metrics.errors.labels(error.code).inc()
    request.state.code = error.code
    return error_response(error, request.scope["path"], request.scope["state"]["request_id"])


def install_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Register the handlers that turn every error, ours or the framework's, into a problem document."""

    async def ours(request: Request, error: Exception) -> Response:
        known = error if isinstance(error, GatewayError) else InternalError("The service failed.")
        return answered(request, known, metrics)

    async def frameworks(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        known: GatewayError
        if status == NotFound.status:
            known = NotFound("There is nothing at this path; /docs lists what there is.")
        elif status == MethodNotAllowed.status:
            # The framework knows the methods of one route only, and a path may have several.
            allow = ", ".join(allowed_methods(request.app.openapi(), request.scope["path"]))
            allow = allow or (getattr(error, "headers", None) or {}).get("Allow", "")
            known = MethodNotAllowed(f"This path answers {allow or 'other methods'}.", allow=allow)
        else:
            known = InvalidRequest("The request cannot be read.")
        return await ours(request, known)

    async def parameters(request: Request, error: Exception) -> Response:
        errors = error.errors() if isinstance(error, RequestValidationError) else []
        return await ours(request, translated(errors))

    app.add_exception_handler(GatewayError, ours)
    app.add_exception_handler(RequestValidationError, parameters)
    app.add_exception_handler(HTTPException, frameworks)


def allowed_methods(schema: dict[str, Any], path: str) -> list[str]:
    """Return the methods that the documented path matching ``path`` has, or none."""
    for template, operations in schema["paths"].items():
        parts = (re.escape(part) for part in re.split(r"\{[^}]+\}", template))
        if re.fullmatch("[^/]+".join(parts), path):
            return sorted(method.upper() for method in operations)
    return []
