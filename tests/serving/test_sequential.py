"""Requests of one connection, however their bytes are split: each is answered as it would be alone, in order."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.app import connection_protocol
from gateway.settings import Settings
from tests.support.raw_http import head

END = b"\r\n\r\n"
OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")
CHUNKED = b"5\r\n\r\n\r\na\r\n0\r\n\r\n"
STREAM = b"".join(
    [
        head(method="GET", path="/1"),
        head("Content-Length: 12", path="/2") + END + b"GET " + END,
        head("Transfer-Encoding: chunked", path="/3") + CHUNKED,
        head(*OFFER, "Content-Length: 3", path="/4") + b"abc",
        head(*OFFER, "Transfer-Encoding: chunked", path="/5") + CHUNKED[:-2] + b"X-Trailer: x\r\n\r\n",
        head(*OFFER, method="GET", path="/6"),
        head("Content-Length: 0", path="/7"),
        head(method="HEAD", path="/8"),
        head("Connection: close", method="GET", path="/9"),
        head(method="GET", path="/10"),
    ]
)
BODIES = [b"", END + b"GET " + END, END + b"a", b"abc", END + b"a", b"", b"", None, b""]


class Written(asyncio.Transport):
    """Keeps what is written; over a socket nobody could say how the bytes are split."""

    def __init__(self) -> None:
        super().__init__()
        self.content = b""
        self.protocol: Any = None
        self.reading = True
        self.closed = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.content += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    body = scope["path"].encode() + b"=" + body + b"."
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def answered(stream: bytes, size: int) -> bytes:
    """Return what is answered to a connection's bytes, sent so many at a time."""
    made = connection_protocol(Settings())
    protocol: Any = made(config=uvicorn.Config(echo, lifespan="off"), server_state=ServerState(), app_state={})  # type: ignore[call-arg]
    transport = Written()
    protocol.connection_made(transport)
    sent = 0
    for _ in range(20 * len(stream)):
        if transport.reading and not transport.closed and sent < len(stream):
            buffer = transport.protocol.get_buffer(-1)
            piece = stream[sent : sent + min(size, len(buffer))]
            buffer[: len(piece)] = piece
            transport.protocol.buffer_updated(len(piece))
            sent += len(piece)
        await asyncio.sleep(0)
        if transport.closed:
            break
    protocol.connection_lost(None)
    return transport.content


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 13, 64, len(STREAM)])
async def test_requests_are_read_alike_however_they_are_split(size: int) -> None:
    content = await answered(STREAM, size)
    assert content.count(b"HTTP/1.1 200 OK\r\n") == len(BODIES)
    found = re.findall(rb"\r\n\r\n/(\d+)=(.*?)\.(?=HTTP|$)", content, re.DOTALL)
    expected = [(b"%d" % number, body) for number, body in enumerate(BODIES, 1) if body is not None]
    assert found == expected


@pytest.mark.parametrize("size", [1, 1000])
async def test_an_offer_to_upgrade_on_a_connection_that_is_to_be_closed(size: int) -> None:
    offer = head("Connection: Upgrade, close", "Upgrade: h2c", "Content-Length: 3", path="/1") + b"abc"
    assert (await answered(offer, size)).endswith(b"/1=abc.")
    old = head(*OFFER, "Content-Length: 3", path="/1").replace(b"HTTP/1.1", b"HTTP/1.0") + b"abc"
    assert (await answered(old, size)).endswith(b"/1=abc.")


async def test_http_1_0_is_told_no_interim_answer() -> None:
    ask = head("Expect: 100-continue", "Content-Length: 3") + b"abc"
    assert (await answered(ask, 1000)).startswith(b"HTTP/1.1 100 ")
    assert (await answered(ask.replace(b"HTTP/1.1", b"HTTP/1.0"), 1000)).startswith(b"HTTP/1.1 200 ")
