"""HTTP/1.1 connections: uvicorn's protocol on llhttp, with the caps that it lacks and errors of our own form.

uvicorn ends no slow head, caps no header, answers what it cannot parse in plain text, and closes a connection whose
body it has not read, so that the client's kernel throws the answer away. Here

- a head has to be whole in time and within ``MAX_HEAD_BYTES``; one connection too many is told so and closed;
- a body is not read on before the application asks for it, so that what is refused is refused before it is read, and
  what came with its head is at most ``HEAD_READ_BYTES``;
- an answer that comes before the end of the body is followed by a half-close, and the rest of the body is read and
  thrown away for a while, as nginx's ``lingering_close`` does it: the client can finish sending, and read why. One that
  hardly sends is not waited for, so that nobody holds a connection by a byte now and then.

What is read past in this way takes no memory. llhttp itself refuses Content-Length beside Transfer-Encoding, repeated
lengths, and line ends that others may see elsewhere (RFC 9112, 6.1 and 11.2).
"""

from __future__ import annotations

import asyncio
import http
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import GatewayError, HeadersTooLarge, HttpMalformed, Overloaded, RequestTimeout
from gateway.member import Tally
from gateway.routes.body import BODY_CUT
from gateway.routes.leaving import DEPARTURE, Departure
from gateway.routes.problems import SECURITY_HEADERS, problem_response

MAX_HEAD_BYTES = 32 * 1024
HEAD_READ_BYTES = 64 * 1024  # a common small upload comes whole; one that has to wait holds no more
BODY_READ_BYTES = 256 * 1024
JOINED_BYTES = 64 * 1024  # of a body that is copied to go out with its head
LINGER_S = 60.0
LINGER_BYTES = 256 * 1024 * 1024
LINGER_CHECK_S = 2.0
LINGER_PACE_BYTES = 16 * 1024  # for each check so far, or the client is not waited for
RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Connections at a time, of all processes of the gateway; seconds for a head; where connections are counted."""

    max_connections: int
    head_timeout_s: float
    open_now: Tally


def protocol_with(limits: ConnectionLimits) -> type[GuardedProtocol]:
    """Return the protocol for uvicorn's ``http``, which makes one of it for each connection."""
    members = {"limits": limits, "incoming": memoryview(bytearray(BODY_READ_BYTES))}
    return type("LimitedProtocol", (GuardedProtocol,), members)


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        limits: those of the class that ``protocol_with`` returns.
        incoming: what all connections of an event loop read into, one at a time.
    """

    limits: ClassVar[ConnectionLimits]
    incoming: ClassVar[memoryview]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments
        super().__init__(*args, **kwargs)
        self._in_head = True  # before, between and within heads
        self._message_open = False  # from a message's first byte to its last
        self._fed_bytes = 0  # since the last message's end, while in a head
        self._head_bytes = 0  # of names and values of this message
        self._fault: GatewayError | None = None
        self._lingering = False
        self._discarded_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._departure = Departure()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or say that there are too many."""
        super().connection_made(transport)
        transport.set_protocol(_Incoming(self))
        open_now = self._count_connections()
        if open_now > 2 * self.limits.max_connections:
            transport.abort()
        elif open_now > self.limits.max_connections:
            self._refuse(Overloaded("The service has as many connections as it takes.", retry_after_s=RETRY_AFTER_S))
        else:
            self._start_timer(self.limits.head_timeout_s, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """End all waiting for this connection."""
        self._stop_timer()
        super().connection_lost(exc)
        self._count_connections()
        self._departure.happen()

    def data_received(self, data: bytes) -> None:
        """Read on, or throw away what comes after an early answer."""
        if self._lingering:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        if self.transport.is_closing():
            return
        if self._in_head:
            self._fed_bytes += len(data)
            if self._timer is None:
                self._start_timer(self.limits.head_timeout_s, self._head_is_late)
        super().data_received(data)
        if self._in_head and self._fed_bytes > MAX_HEAD_BYTES and not self._ending:
            self._fault = _head_too_large()
            self.send_400_response("")

    def eof_received(self) -> None:
        """Let a request whose body is cut short be answered; any other end closes the connection."""
        cycle = self.cycle
        if self._in_head or not self._message_open or cycle is None or cycle.response_complete or self._lingering:
            return None
        cycle.scope["state"][BODY_CUT] = True
        cycle.keep_alive = cycle.more_body = self._message_open = False
        cycle.message_event.set()
        return True  # type: ignore[return-value] # asyncio: the transport stays open for writing

    def on_message_begin(self) -> None:
        """Begin to count a message's head."""
        super().on_message_begin()
        self._message_open = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are counted and mean nothing."""
        self._count(len(name) + len(value) + 4)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request; its body waits until it is asked for."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()
        self.cycle.transport = _Outgoing(self)
        self.cycle.scope["state"][DEPARTURE] = self._departure
        if any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers):
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """Note the end of a message, and read on: an end of the connection is not seen otherwise.

        What comes instead is the head of another request, with which reading pauses until this one has been answered.
        """
        super().on_message_complete()
        self._message_open = False
        self._in_head = True
        self._fed_bytes = 0
        if not self.pipeline:
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """Go on to the next request, unless the connection ends here."""
        if self._lingering:
            self.server_state.total_requests += 1
        else:
            super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is not ours
        """Refuse what is no HTTP; an earlier request that is still worked on gets its own answer and is the last."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # its body cannot be read on
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        self._refuse(self._fault or HttpMalformed("The request cannot be read as HTTP/1.1 (RFC 9112)."))

    def shutdown(self) -> None:
        """Begin to end; a client that is reading why it was refused has another second."""
        if self._lingering:
            self._start_timer(1.0, self.transport.abort)
        else:
            super().shutdown()

    def close_gently(self) -> None:
        """Close the connection such that the client can still read what was written."""
        if not self._message_open:
            self.transport.close()
            return
        self._linger()

    def _count_connections(self) -> int:
        self.limits.open_now.set(len(self.connections))
        return self.limits.open_now.total()

    def read_buffer(self) -> memoryview:
        """Return where the next bytes are to be read into."""
        return self.incoming[:HEAD_READ_BYTES] if self._in_head else self.incoming

    @property
    def _ending(self) -> bool:
        return self._lingering or self.transport.is_closing()

    def _refuse(self, error: GatewayError) -> None:
        """Answer without the application."""
        if self._ending:
            return
        request_id = uuid.uuid4().hex
        answer = problem_response(error, request_id)
        answer.headers.update({**SECURITY_HEADERS, "X-Request-ID": request_id, "Connection": "close"})
        lines = [f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}".encode()]
        lines += [name + b": " + value for name, value in [*self.server_state.default_headers, *answer.raw_headers]]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body))
        structlog.get_logger("access").info(
            "request", request_id=request_id, method="other", route="unread", status=error.status, code=error.code
        )
        self._linger()

    def _linger(self) -> None:
        if self._ending:
            return
        self._lingering = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._unset_keepalive_if_required()
        self._start_timer(LINGER_CHECK_S, self._linger_on, 1)
        self.flow.resume_reading()

    def _linger_on(self, checks: int) -> None:
        """Wait on for a client that has sent enough for so many checks."""
        if self._discarded_bytes < checks * LINGER_PACE_BYTES or checks * LINGER_CHECK_S >= LINGER_S:
            self.transport.abort()
        else:
            self._start_timer(LINGER_CHECK_S, self._linger_on, checks + 1)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._fault = _head_too_large()
            raise ValueError  # llhttp ends the parsing, and ``send_400_response`` tells why

    def _head_is_late(self) -> None:
        self._timer = None
        cycle = self.cycle
        if self._ending:
            return
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False  # an earlier request is still worked on
        elif self._message_open:
            self._refuse(RequestTimeout(f"The head was not all sent within {self.limits.head_timeout_s:g} s."))
        else:
            self.transport.close()

    def _start_timer(self, seconds: float, call: Callable[..., None], *arguments: int) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, call, *arguments)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _unsupported_upgrade_warning(self) -> None:
        if self.cycle is not None:
            self.cycle.keep_alive = False  # answered as what it is besides, and then the connection ends


class _Incoming(asyncio.BufferedProtocol):
    """A connection's protocol as the event loop sees it: one that says how much is read at a time."""

    def __init__(self, protocol: GuardedProtocol) -> None:
        self._protocol = protocol
        self._buffer = memoryview(b"")
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the event loop's
        """Return where to read into."""
        self._buffer = self._protocol.read_buffer()
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read; the buffer is another connection's afterwards."""
        self._protocol.data_received(self._buffer[:nbytes])  # type: ignore[arg-type]


class _Outgoing(asyncio.Transport):
    """The transport as uvicorn's request sees it; to close it is to close gently.

    Head and body of an answer are written together, as they come within one turn of the loop: each write by itself is a
    packet, and wakes the client.
    """

    def __init__(self, protocol: GuardedProtocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._held: bytes | bytearray | memoryview | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, at the end of this turn of the loop at the latest."""
        if self._held is None:
            self._held = data
            self._protocol.loop.call_soon(self._flush)
            return
        held, self._held = self._held, b""
        self._send(b"".join((held, data)) if len(data) <= JOINED_BYTES else held)
        if len(data) > JOINED_BYTES:
            self._send(data)

    def is_closing(self) -> bool:
        """Tell whether nothing can be sent any more."""
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        """End the connection once the answer has been read."""
        self._flush()
        self._protocol.close_gently()

    def _flush(self) -> None:
        held, self._held = self._held, None
        if held:
            self._send(held)

    def _send(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing():  # the client may have left since: uvloop raises then
            self._protocol.transport.write(data)


def _head_too_large() -> HeadersTooLarge:
    return HeadersTooLarge(f"The request's target and headers are over {MAX_HEAD_BYTES} bytes.")
