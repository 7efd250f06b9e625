"""Spans of requests, their stages and inferences in OpenTelemetry.

The request that is traced stands in the context of its tasks. Without one, ``span`` costs a look at the context. No
span carries what a client wrote but the request's id and the trace state that it sent: no path, query, label, external
id or host. The server's span is this one and not the framework's, whose attributes have paths and queries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Final

from opentelemetry import context
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    TracerProvider,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACER: Final = "clip_gateway.tracer"  # its place in the context
CLOSE_WITHIN_S: Final = 3.0
POLL_S: Final = 0.02
NS: Final = 1_000_000_000
CLIENT_LEFT: Final = "client_closed"
CLIENT_CLOSED_STATUS: Final = 499
SERVER_ERROR: Final = 500


@contextmanager
def span(name: str, attributes: Mapping[str, str | int] | None = None, *, outgoing: bool = False) -> Iterator[None]:
    """Show what runs inside ``with`` in the trace of the request that it runs for, if that is traced.

    Args:
        name: of few kinds.
        attributes: likewise, without anything that a client wrote.
        outgoing: another server is asked.
    """
    tracer = _tracer()
    if tracer is None:
        yield
        return
    kind = SpanKind.CLIENT if outgoing else SpanKind.INTERNAL
    made = tracer.start_span(name, kind=kind, attributes=attributes)
    token = context.attach(set_span_in_context(made))
    try:
        yield
    except BaseException as error:
        made.set_attribute("error.type", _kind_of(error))
        made.set_status(StatusCode.ERROR)
        raise
    finally:
        context.detach(token)
        made.end()


def show_past(elapsed_s: Mapping[str, float]) -> None:
    """Show what was timed elsewhere: one span behind the other, the last of which ends now; lengths are exact."""
    tracer = _tracer()
    if tracer is None:
        return
    end_ns = time.time_ns() - round(sum(elapsed_s.values()) * NS)
    for name, seconds in elapsed_s.items():
        made = tracer.start_span(name, start_time=end_ns)
        end_ns += round(seconds * NS)
        made.end(end_ns)


def propagated() -> tuple[tuple[str, str], ...]:
    """Return the headers by which another server continues the trace (W3C Trace Context); none where none is.

    Those that are not sampled have none either: Triton records every request that has a context, whatever its flags.
    """
    headers: dict[str, str] = {}
    if get_current_span().is_recording():
        TraceContextTextMapPropagator().inject(headers)
    return tuple(headers.items())


class RequestSpan:
    """The span of one request.

    Args:
        made: None where the request is not traced.

    Attributes:
        trace_id: 32 hexadecimal digits; empty where the request is not traced.
    """

    def __init__(self, made: Span | None) -> None:
        self._made = made
        self.trace_id = format_trace_id(made.get_span_context().trace_id) if made else ""

    def answered(self, method: str, route: str, status: int, noted: Mapping[str, str | int]) -> None:
        """Say how the request ended.

        Args:
            method: of few kinds.
            route: its template.
            status: of HTTP; 499 where the client left before its answer.
            noted: further attributes by name; ``code`` is that of an error.
        """
        if self._made is None:
            return
        self._made.update_name(f"{method} {route}")
        attributes = {f"clip.{name}": value for name, value in noted.items() if name != "code"}
        attributes |= {"http.request.method": "_OTHER" if method == "other" else method, "http.route": route}
        if status == CLIENT_CLOSED_STATUS:
            attributes["error.type"] = CLIENT_LEFT
        else:
            attributes["http.response.status_code"] = status
        if "code" in noted:
            attributes["error.type"] = noted["code"]
        self._made.set_attributes(attributes)
        if status >= SERVER_ERROR:
            self._made.set_status(StatusCode.ERROR)


class Tracing:
    """Traces requests.

    Args:
        provider: what their spans go through; None: nothing is traced.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("clip-gateway") if provider is not None else None

    @contextmanager
    def request(self, traceparent: str, tracestate: str, request_id: str) -> Iterator[RequestSpan]:
        """Trace what runs inside ``with`` as one request.

        Args:
            traceparent: header of the client (W3C Trace Context), or empty.
            tracestate: likewise.
            request_id: as in the log.
        """
        if self._tracer is None:
            yield RequestSpan(None)
            return
        parent = TraceContextTextMapPropagator().extract(
            {"traceparent": traceparent, "tracestate": tracestate}, context.Context()
        )
        made = self._tracer.start_span("request", parent, SpanKind.SERVER, {"clip.request_id": request_id})
        token = context.attach(context.set_value(TRACER, self._tracer, set_span_in_context(made, parent)))
        try:
            yield RequestSpan(made if made.is_recording() else None)
        finally:
            context.detach(token)
            made.end()

    async def close(self) -> None:
        """Send what is left, for ``CLOSE_WITHIN_S`` seconds at most."""
        shutdown = getattr(self._provider, "shutdown", None)
        if shutdown is None:
            return
        # No pool's thread: the interpreter would wait for it at its end.
        sending = Thread(target=shutdown, name="last-spans", daemon=True)
        sending.start()
        end_s = time.monotonic() + CLOSE_WITHIN_S
        while sending.is_alive() and time.monotonic() < end_s:  # noqa: ASYNC110 - a thread
            await asyncio.sleep(POLL_S)


def _tracer() -> Tracer | None:
    """Return what makes spans of the request at hand; None where there is none, or it is not sampled."""
    if not get_current_span().is_recording():
        return None
    found = context.get_value(TRACER)
    return found if isinstance(found, Tracer) else None


def _kind_of(error: BaseException) -> str:
    """Return the code of one of our errors, of another its type."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) else type(error).__name__
