"""The outermost layer: request ids, headers of every answer, metrics, a log entry, an answer to uncaught errors."""

from __future__ import annotations

import logging
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.disconnect import ClientLeft
from gateway.api.problems import METHODS, SECURITY_HEADERS, error_response
from gateway.api.request_rules import PREFLIGHT, RequestRules
from gateway.errors import GatewayError, InternalError, RequestError
from gateway.observability.metrics import Metrics
from gateway.observability.tracing import RequestSpan, Tracing

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
PROBES = frozenset({"/livez", "/readyz", "/metrics"})  # asked every few seconds: logged at the level debug
NOTED = ("images", "code")  # what routes and handlers put into the request's state for its log line
REQUEST_ID_NAME = b"x-request-id"
ALWAYS = tuple((name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items())
CLIENT_CLOSED = 499  # nginx's code for a client that left before its answer; in metrics and logs alone


class RequestContext:
    """ASGI middleware around everything else.

    Args:
        app: what it wraps.
        rules: what is rejected by the head alone.
        metrics: counts and times go there.
        tracing: traces what is no probe.
    """

    def __init__(self, app: ASGIApp, rules: RequestRules, metrics: Metrics, tracing: Tracing) -> None:
        self._app = app
        self._rules = rules
        self._metrics = metrics
        self._tracing, self._untraced = tracing, Tracing()
        self._log = structlog.get_logger("access")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other scopes pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._rules)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        tracing = self._untraced if scope["path"] in PROBES else self._tracing
        parent, state = (", ".join(exchange.headers.getlist(name)) for name in ("traceparent", "tracestate"))
        with tracing.request(parent, state, exchange.request_id) as traced:
            if traced.trace_id:
                structlog.contextvars.bind_contextvars(trace_id=traced.trace_id)
            await self._serve(scope, exchange, traced)

    async def _serve(self, scope: Scope, exchange: _Exchange, traced: RequestSpan) -> None:
        start = time.perf_counter()
        try:
            self._rules.check(scope, exchange.headers)
            if self._rules.is_preflight(scope["method"], exchange.headers):
                await Response(status_code=204, headers=PREFLIGHT)(scope, exchange.receive, exchange.send)
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except RequestError as refused:
            await self._answer(exchange, refused)
        except (ClientLeft, ClientDisconnect):
            pass  # the client has left: there is nothing to answer and nothing failed
        except Exception:  # noqa: BLE001 - the last net: the client gets a problem document, the log the trace
            self._log.exception("unhandled error")
            await self._answer(exchange, InternalError("The service failed; nothing was decided."))
        finally:
            self._note(scope, exchange, traced, time.perf_counter() - start)

    async def _answer(self, exchange: _Exchange, error: GatewayError) -> None:
        """Count an error, and answer with it if there was no answer yet."""
        self._metrics.errors.labels(error.code).inc()
        exchange.scope["state"]["code"] = error.code
        if exchange.status == CLIENT_CLOSED:
            answer = error_response(error, exchange.request_id, exchange.scope["path"])
            await answer(exchange.scope, exchange.receive, exchange.send)

    def _note(self, scope: Scope, exchange: _Exchange, traced: RequestSpan, elapsed_s: float) -> None:
        """Count and log a request, and end its span."""
        route = getattr(scope.get("route"), "path", None) or scope.get("root_path") or "unmatched"
        method = scope["method"] if scope["method"] in METHODS else "other"  # a client's own word is not kept
        noted = {name: scope["state"][name] for name in NOTED if name in scope["state"]}
        self._metrics.observe_request(method, route, exchange.status, elapsed_s)
        traced.answered(method, route, exchange.status, noted)
        self._log.log(
            logging.DEBUG if route in PROBES else logging.INFO,
            "request",
            method=method,
            route=route,
            status=exchange.status,
            elapsed_ms=round(elapsed_s * 1e3, 1),
            bytes_in=exchange.bytes_in,
            bytes_out=exchange.bytes_out,
            **noted,
        )


class _Exchange:
    """One request and its answer on their way through: headers added, bytes counted."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, rules: RequestRules) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        given = self.headers.get("x-request-id", "")
        self.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = self.request_id
        self.status = CLIENT_CLOSED
        self.bytes_in = self.bytes_out = 0
        self._unread = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        self._sharing = rules.sharing_headers(self.headers)
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        """Pass on a piece of the body."""
        message = await self._receive()
        self.bytes_in += len(message.get("body", b""))
        self._unread = self._unread and bool(message.get("more_body", False))
        return message

    async def send(self, message: Message) -> None:
        """Pass on a piece of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = [pair for pair in message.get("headers", ()) if pair[0] != REQUEST_ID_NAME]
            names = {name for name, _ in given}
            given.append((REQUEST_ID_NAME, self.request_id.encode()))
            given += [pair for pair in ALWAYS if pair[0] not in names]
            given += self._sharing
            if self._unread:  # what follows is the rest of a body that was not read
                given = [pair for pair in given if pair[0] != b"connection"] + [(b"connection", b"close")]
            message["headers"] = given
        self.bytes_out += len(message.get("body", b"")) if self.scope["method"] != "HEAD" else 0
        await self._send(message)
