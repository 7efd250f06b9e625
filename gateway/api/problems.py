"""Errors → problem documents (RFC 9457): the one place where an error becomes HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match, Mount

from gateway.api.body.validation import translated
from gateway.errors import (
    CrossSiteRequest,
    Forbidden,
    GatewayError,
    HostNotAllowed,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PolicyModelMismatch,
    RateLimited,
    RequestError,
    Unauthorized,
    UnsupportedMediaType,
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
METHODS = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")  # RFC 9110, 5789
CHALLENGE = 'Bearer realm="clip-gateway"'
OPENAI_PATH = "/v1/moderations"  # whose errors have OpenAI's shape
# What else OpenAI's clients call: their problem documents have OpenAI's ``error`` as a member (RFC 9457, 3.2).
OPENAI_TOO = ("/v1/embeddings", "/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/responses")
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


def error_response(error: GatewayError, request_id: str, path: str = "") -> Response:
    """Return an error as a response: a problem document, or on OpenAI's routes what its clients read.

    With the headers that belong to its status: Retry-After where a retry makes sense, Allow, WWW-Authenticate.
    """
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s is not None else {}
    if isinstance(error, MethodNotAllowed) and error.allow:
        headers["Allow"] = error.allow
    if isinstance(error, UnsupportedMediaType) and error.accept_encoding:
        headers["Accept-Encoding"] = error.accept_encoding  # RFC 9110, 15.5.16
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(error, Forbidden):
        headers["WWW-Authenticate"] = f'{CHALLENGE}, error="insufficient_scope"'
    if path == OPENAI_PATH:
        return Response(orjson.dumps(openai_error(error)), error.status, headers, "application/json")
    document = problem(error, request_id)
    if path.startswith(OPENAI_TOO):
        document |= openai_error(error)
    return Response(orjson.dumps(document), error.status, headers, MEDIA_TYPE)


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


def install_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error, ours or the framework's, as ``error_response`` does; it is counted and noted for the log."""

    async def answer(request: Request, error: Exception) -> Response:
        ours = gateway_error(request, error)
        metrics.errors.labels(ours.code).inc()
        request.state.code = ours.code
        return error_response(ours, request.state.request_id, request.scope["path"])

    for kind in (GatewayError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def gateway_error(request: Request, error: Exception) -> GatewayError:
    """Return our error for one of ours or of the framework's."""
    match error:
        case GatewayError():
            return error
        case RequestValidationError():
            return translated(error.errors())
        case HTTPException(status_code=NotFound.status):
            return NotFound("There is nothing at this path; /docs lists what there is.")
        case HTTPException(status_code=MethodNotAllowed.status):
            allow = ", ".join(allowed_methods(request)) or (error.headers or {}).get("Allow", "")
            return MethodNotAllowed(f"This path answers {allow}.", allow=allow)
    return InvalidRequest("The request cannot be read.")


def allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes at a request's path; the framework names those of one route only.

    Where the path itself is described (``/v1/reviews/claim``), a route that takes any name there is not meant.
    """
    path: str = request.scope["path"]
    described = request.app.openapi()["paths"].get(path) if path.startswith("/v1/") else None
    if described is not None:
        return sorted(method.upper() for method in described)
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    return [
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
