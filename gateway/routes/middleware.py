"""The outermost layer: request ids, metrics, one log line a request, and an answer to what nobody caught."""

from __future__ import annotations

import logging
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import InternalError
from gateway.routes.leaving import ClientLeft
from gateway.routes.problems import problem_response
from gateway.telemetry import Metrics

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})  # RFC 9110, 5789
PROBES = frozenset({"/livez", "/readyz", "/metrics"})  # asked every few seconds: seen at the level debug
NOTED = ("images", "code")  # what routes and handlers put into the request's state for its log line
CLIENT_CLOSED = 499  # nginx's code for a client that left before its answer; seen in metrics and logs alone


class RequestContext:
    """ASGI middleware around everything else.

    Args:
        app: what it wraps.
        metrics: counts and times go there.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._log = structlog.get_logger("access")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other scopes pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        start = time.perf_counter()
        status = CLIENT_CLOSED
        bytes_in = bytes_out = 0

        async def receive_counted() -> Message:
            nonlocal bytes_in
            message = await receive()
            bytes_in += len(message.get("body", b""))
            return message

        async def send_marked(message: Message) -> None:
            nonlocal status, bytes_out
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            bytes_out += len(message.get("body", b"")) if scope["method"] != "HEAD" else 0
            await send(message)

        try:
            await self._app(scope, receive_counted, send_marked)
        except (ClientLeft, ClientDisconnect):
            pass  # nobody is there to be told, and nothing went wrong here
        except Exception:  # noqa: BLE001 - the last net: the client gets a problem document, the log the trace
            self._log.exception("unhandled error")
            self._metrics.errors.labels(InternalError.code).inc()
            if status == CLIENT_CLOSED:
                answer = problem_response(InternalError("The service failed; nothing was decided."), request_id)
                await answer(scope, receive, send_marked)
        finally:
            elapsed = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in METHODS else "other"  # a client's own word is not kept
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(elapsed)
            self._log.log(
                logging.DEBUG if route in PROBES else logging.INFO,
                "request",
                method=method,
                route=route,
                status=status,
                elapsed_ms=round(elapsed * 1e3, 1),
                bytes_in=bytes_in,
                bytes_out=bytes_out,
                **{name: scope["state"][name] for name in NOTED if name in scope["state"]},
            )
