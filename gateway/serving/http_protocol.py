"""HTTP/1.1 connections as clients may use them: deadlines, caps, and errors of our own form.

uvicorn ends no slow head, caps no header, answers what it cannot parse in plain text, and closes a connection whose
body it has not read, so that the client's kernel throws the answer away. Here

- a head has to be whole in time and within ``MAX_HEAD_BYTES``; one connection too many is told so and closed;
- an answer that comes before the end of the body is followed by a half-close, and the rest of the body is read and
  thrown away for a while, as nginx's ``lingering_close`` does it: the client can finish sending, and read why. One that
  hardly sends is not waited for, so that nobody holds a connection by a byte now and then;
- a client that ends its own side after a whole request is answered, unless it has left.

What is read past in this way takes no memory (``gateway/serving/sequential.py`` bounds the rest). llhttp itself refuses
Content-Length beside Transfer-Encoding, repeated lengths, and line ends that others may see elsewhere (RFC 9112, 6.1
and 11.2).
"""

from __future__ import annotations

import asyncio
import http
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog

from gateway.api.body.reader import BODY_CUT
from gateway.api.problems import SECURITY_HEADERS, error_response
from gateway.api.request_rules import TARGET
from gateway.errors import GatewayError, HeadersTooLarge, HttpMalformed, Overloaded, PayloadTooLarge, RequestTimeout
from gateway.serving.sequential import BODY_READ_BYTES, SequentialProtocol
from gateway.serving.unread_answers import UnsentAnswers

MAX_HEAD_BYTES = 32 * 1024
PROBE_S = 0.25
PROBES = 2
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
LINGER_S = 60.0
LINGER_BYTES = 256 * 1024 * 1024
LINGER_CHECK_S = 2.0
LINGER_PACE_BYTES = 16 * 1024  # for each check so far, or the client is not waited for
RETRY_AFTER_S = 1
LENGTH_OVERFLOW = "Content-Length overflow"  # llhttp's reason, which its binding gives as text alone


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Connections at a time; seconds for a head, and to read an answer."""

    max_connections: int
    head_timeout_s: float
    write_timeout_s: float


def protocol_with(limits: ConnectionLimits) -> type[GuardedProtocol]:
    """Return the protocol for uvicorn's ``http``, which makes one of it for each connection."""
    members = {
        "limits": limits,
        "incoming": memoryview(bytearray(BODY_READ_BYTES)),
        "unsent": UnsentAnswers(limits.write_timeout_s),
    }
    return type("LimitedProtocol", (GuardedProtocol,), members)


class GuardedProtocol(SequentialProtocol):
    """One connection.

    Attributes:
        limits: those of the class that ``protocol_with`` returns.
    """

    limits: ClassVar[ConnectionLimits]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments
        super().__init__(*args, **kwargs)
        self._head_bytes = 0  # of this message, its trailers included
        self._fault: GatewayError | None = None  # that ended the parsing
        self._lingering = False
        self._discarded_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._outgoing = _Outgoing(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or say that there are too many."""
        super().connection_made(transport)
        open_now = len(self.connections)
        if open_now > 2 * self.limits.max_connections:
            transport.abort()
        elif open_now > self.limits.max_connections:
            self._refuse(Overloaded("The service has as many connections as it takes.", retry_after_s=RETRY_AFTER_S))
        else:
            self._start_timer(self.limits.head_timeout_s, self._head_timed_out)

    def connection_lost(self, exc: Exception | None) -> None:
        """End all waiting for this connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, or throw away what comes after an early answer."""
        if self._lingering:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES:
                self.transport.abort()
        else:
            super().data_received(data)

    def feed(self, piece: bytes) -> None:
        """Parse a piece, in a head within its deadline and its cap."""
        if self.in_head:
            if self._timer is None:
                self._start_timer(self.limits.head_timeout_s, self._head_timed_out)
            self._head_bytes += len(piece)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_head_too_large())
                return
        super().feed(piece)

    def eof_received(self) -> None:
        """Let a request that is worked on be answered, also one whose body is cut short; else close the connection."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self._lingering:
            return None
        cycle.keep_alive = False
        if self.message_open:
            cycle.scope["state"][BODY_CUT] = True
            cycle.more_body = self.message_open = False
            cycle.message_event.set()
        else:
            self._start_timer(PROBE_S, self._probe, PROBES)
        return True  # type: ignore[return-value] # asyncio: the transport stays open for writing

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are counted and mean nothing."""
        if self.in_head:
            super().on_header(name, value)
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES:
            self._fault = _head_too_large()
            raise self._fault  # llhttp ends the parsing, and ``send_400_response`` tells why

    def on_headers_complete(self) -> None:
        """Start the request."""
        super().on_headers_complete()
        if self.in_head:
            return
        self._stop_timer()
        self.cycle.transport = self._outgoing = _Outgoing(self)
        self.cycle.scope["state"][TARGET] = self.url

    def on_message_complete(self) -> None:
        """Begin to count the next head."""
        super().on_message_complete()
        self._head_bytes = 0

    def on_response_complete(self) -> None:
        """Go on to the next request, unless the connection ends here."""
        self._outgoing.flush()  # an answer to HEAD has no body
        if self._lingering:
            self.server_state.total_requests += 1
        else:
            super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is not ours
        """Refuse what is no HTTP."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # its body cannot be read on
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        if LENGTH_OVERFLOW in str(sys.exception()):
            self._refuse(PayloadTooLarge("Content-Length says more bytes than 64 bits can count."))
        elif self._fault is not None:
            self._refuse(self._fault)
        else:
            self._refuse(HttpMalformed("The request cannot be read as HTTP/1.1 (RFC 9112)."))

    def shutdown(self) -> None:
        """Begin to end; a client that is reading why it was refused, or sends its first request, has another second."""
        if self._lingering:
            self._start_timer(1.0, self.transport.abort)
        elif self.cycle is None:
            self._start_timer(1.0, self.transport.close)  # type: ignore[unreachable] # uvicorn says that there always is one
        else:
            super().shutdown()

    def close_gently(self) -> None:
        """Close the connection such that the client can still read what was written."""
        if self.message_open or self.received:
            self._linger()
        else:
            self.transport.close()

    @property
    def ending(self) -> bool:
        """Whether nothing is answered any more."""
        return self._lingering or super().ending

    def _refuse(self, error: GatewayError) -> None:
        """Answer without the application."""
        if self.ending:
            return
        request_id = uuid.uuid4().hex
        answer = error_response(error, request_id)
        answer.headers.update({**SECURITY_HEADERS, "X-Request-ID": request_id, "Connection": "close"})
        lines = [f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}".encode()]
        lines += [name + b": " + value for name, value in [*self.server_state.default_headers, *answer.raw_headers]]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body))
        structlog.get_logger("access").info(
            "request", request_id=request_id, method="other", route="unread", status=error.status, code=error.code
        )
        self._linger()

    def _linger(self) -> None:
        if self.ending:
            return
        self._lingering = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._unset_keepalive_if_required()
        self._start_timer(LINGER_CHECK_S, self._linger_on, 1)
        self.received.clear()
        self.transport.resume_reading()

    def _linger_on(self, checks: int) -> None:
        """Wait on for a client that has sent enough for so many checks."""
        if self._discarded_bytes < checks * LINGER_PACE_BYTES or checks * LINGER_CHECK_S >= LINGER_S:
            self.transport.abort()
        else:
            self._start_timer(LINGER_CHECK_S, self._linger_on, checks + 1)

    def _head_timed_out(self) -> None:
        if self.ending:
            return
        if self.message_open:
            self._refuse(RequestTimeout(f"The head was not all sent within {self.limits.head_timeout_s:g} s."))
        else:
            self.transport.close()

    def _probe(self, probes: int) -> None:
        """Send a client that has ended its side something: if it has left, its kernel refuses that, ours the next."""
        cycle = self.cycle
        if cycle.response_started or cycle.scope["http_version"] == "1.0" or self.ending:
            return
        self.transport.write(INTERIM)
        if probes > 1:
            self._start_timer(PROBE_S, self._probe, probes - 1)

    def _start_timer(self, seconds: float, call: Callable[..., None], *given: int) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, call, *given)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Outgoing(asyncio.Transport):
    """The transport as uvicorn's request sees it; to close it is to close gently.

    A head goes out with the beginning of its body: an answer that waits is then among what is unsent, not in a request.
    """

    def __init__(self, protocol: GuardedProtocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._held: list[bytes | bytearray | memoryview] = []
        self._begun = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or hold where it is a head."""
        self._held.append(data)
        answering = self._protocol.cycle.response_started  # else it is an interim answer
        if self._begun or not answering:
            self.flush()
        self._begun = answering

    def flush(self) -> None:
        """Send what is held, unless the client has left: uvloop raises then."""
        held, self._held = self._held, []
        if held and not self.is_closing():
            self._protocol.transport.writelines(held)

    def is_closing(self) -> bool:
        """Tell whether nothing can be sent any more."""
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        """End the connection once the answer has been read."""
        self.flush()
        self._protocol.close_gently()


def _head_too_large() -> HeadersTooLarge:
    return HeadersTooLarge(f"The request's target and headers are over {MAX_HEAD_BYTES} bytes.")
