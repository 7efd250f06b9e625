"""HTTP/1.1 connections, one request after another: uvicorn's protocol on llhttp, with bounded memory.

uvicorn parses all that it reads, thousands of requests at a time if they come pipelined, holds each of them, and waits
for ever for a client to read its answer. Here

- while a request is worked on, or its answer is not all sent, nothing of the next is parsed, at most one read of it is
  kept, and then reading stops;
- a body is not read on before the application asks for it, so that what is refused is refused before it is read, and
  what came with its head is at most ``HEAD_READ_BYTES``;
- an answer that is not read ends its connection (``gateway/serving/unread_answers.py``);
- an offer to upgrade is ignored, as RFC 9110, 7.8 allows.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.serving.unread_answers import UnsentAnswers

HEAD_READ_BYTES = 64 * 1024  # a common small upload comes whole; one that has to wait holds no more
BODY_READ_BYTES = 256 * 1024
NEXT_READ_BYTES = 4 * 1024  # of what comes behind a request that is worked on
HEAD_END = b"\r\n\r\n"  # and a chunked body's


class SequentialProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        incoming: what all connections of an event loop read into, one at a time.
        unsent: all their answers that are not read.
        in_head: before, between and within heads.
        message_open: from a message's first byte to its last.
        received: not parsed yet.
    """

    incoming: ClassVar[memoryview]
    unsent: ClassVar[UnsentAnswers]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments
        super().__init__(*args, **kwargs)
        self.in_head = True
        self.message_open = False
        self.received = bytearray()
        self._body_left = 0  # of a body whose length was declared

    @property
    def busy(self) -> bool:
        """Whether a whole request is worked on, or something of an answer is not sent yet."""
        working = self.cycle is not None and not self.cycle.response_complete
        return self.flow.write_paused or (working and not self.message_open)

    @property
    def ending(self) -> bool:
        """Whether nothing is read or answered any more."""
        return self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        super().connection_made(transport)
        transport.set_protocol(_Incoming(self))
        transport.set_write_buffer_limits(0)  # writing pauses as soon as anything is unsent

    def connection_lost(self, exc: Exception | None) -> None:
        """End all waiting for this connection."""
        self.unsent.end(self.transport)
        self.received.clear()
        super().connection_lost(exc)

    def read_buffer(self) -> memoryview:
        """Return where the next bytes are to be read into."""
        size = NEXT_READ_BYTES if self.busy else HEAD_READ_BYTES if self.in_head else BODY_READ_BYTES
        return self.incoming[:size]

    def data_received(self, data: bytes) -> None:
        """Take what was read; pieces of a body go on without a copy."""
        if self._body_left >= len(data) and not self.received and not self.busy:
            self.feed(data)
        else:
            self.received += data
            self.parse()

    def parse(self) -> None:
        """Parse what was received, up to the end of one request; while that is worked on, the rest waits.

        llhttp parses all that it is given. So it is given a piece at a time: a body of declared length, or no more than
        one end of a head or of a chunked body.
        """
        while not self.busy and not self.ending:
            piece = bytes(self.received[: self._body_left or self._piece_bytes()])
            if not piece:
                break
            del self.received[: len(piece)]
            self.feed(piece)
        if self.ending:
            self.received.clear()
        elif self.received and self.busy:
            self.transport.pause_reading()  # not the flow, which an application that waits for the end would resume
        elif not self.flow.read_paused:
            self.transport.resume_reading()

    def _piece_bytes(self) -> int:
        end = self.received.find(HEAD_END)
        if end >= 0:
            return end + len(HEAD_END)
        tail = self.received[1 - len(HEAD_END) :]  # where an end may have begun
        return len(self.received) - len(tail) + len(tail.rstrip(HEAD_END))

    def feed(self, piece: bytes) -> None:
        """Parse a piece."""
        super().data_received(piece)

    def pause_writing(self) -> None:
        """Wait for a while until the client has read on."""
        super().pause_writing()
        self.unsent.begin(self.transport)

    def resume_writing(self) -> None:
        """Go on: all is sent."""
        super().resume_writing()
        self.unsent.end(self.transport)
        self.parse()

    def on_message_begin(self) -> None:
        """Note a message's first byte."""
        super().on_message_begin()
        self.message_open = True

    def on_headers_complete(self) -> None:
        """Start the request; its body waits until it is asked for."""
        if self._offers_upgrade and self.parser.should_upgrade():
            return  # the head is parsed again without that
        self.in_head = False
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # it knows no interim answers (RFC 9110, 10.1.1)
        super().on_headers_complete()
        lengths = {name: value for name, value in self.headers if name in {b"content-length", b"transfer-encoding"}}
        # Python refuses thousands of digits, which zeros may be; llhttp has seen that it is a number.
        self._body_left = int(lengths.get(b"content-length", b"").strip(b" \t").lstrip(b"0") or 0)
        if lengths:
            self.flow.pause_reading()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body_left = max(self._body_left - len(body), 0)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a message, and read on: an end of the connection is not seen otherwise."""
        if self.in_head:
            return
        super().on_message_complete()
        self.message_open = False
        self.in_head = True
        self._body_left = 0
        self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """Go on to the next request, unless the connection ends here."""
        super().on_response_complete()
        self.parse()

    @property
    def _offers_upgrade(self) -> bool:
        return any(name == b"upgrade" for name, _ in self.headers)

    def _unsupported_upgrade_warning(self) -> None:
        """Parse the head again without its offer: behind one llhttp takes the body for another protocol's."""
        if self._offers_upgrade:
            lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
            lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
            self.parser = HttpRequestParser(self)  # this one reads nothing more where the connection is to be closed
            super().data_received(b"\r\n".join([*lines, b"", b""]))


class _Incoming(asyncio.BufferedProtocol):
    """A connection's protocol as the event loop sees it: one that says how much is read at a time."""

    def __init__(self, protocol: SequentialProtocol) -> None:
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
