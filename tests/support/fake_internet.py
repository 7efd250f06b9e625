"""An internet on loopback: a DNS server that lies and web servers that misbehave, real sockets all of them.

Public addresses cannot be had on loopback, so the gateway under test (``tests/support/internet_gateway.py``) opens its
connections to them at these servers instead. Everything before that (URL, look-up, judgement) and after it (TLS, HTTP)
is what production runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import trustme

PUBLIC = "93.184.216.34"
PUBLIC_V6 = "2606:4700::1111"
UNTRUSTED, EXPIRED, NO_TLS, CLOSED = "93.184.216.35", "93.184.216.36", "93.184.216.37", "93.184.216.38"
DEAD = tuple(f"93.184.100.{number}" for number in range(200))
MAX_UDP_BYTES = 1232
MAX_WIRE_BYTES = 65535

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Zone = Mapping[str, Sequence[Sequence[str]]]
"""By name what is answered, one set after another, the last again and again: addresses, ``CNAME name``, ``SILENT``,
``SERVFAIL``, or nothing. A name that is absent does not exist."""


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Serve one connection; that the client has gone, or the test is over, is no fault here."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
        try:
            yield
        finally:
            writer.close()
            await writer.wait_closed()


class NameServer(asyncio.DatagramProtocol):
    """A DNS server for one zone, over UDP and TCP; remembers what it was asked."""

    def __init__(self, zone: Zone) -> None:
        self._left = {name: list(answers) for name, answers in zone.items()}
        self._turns: dict[tuple[str, str], int] = {}
        self.asked: list[tuple[str, str]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # Python 3.11's is one in all but name

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        reply = self._reply(query)
        if reply is None:
            return
        wire = reply.to_wire(max_size=MAX_WIRE_BYTES)
        if len(wire) > MAX_UDP_BYTES:
            short = dns.message.make_response(query)
            short.flags |= dns.flags.TC
            wire = short.to_wire()
        self._transport.sendto(wire, addr)

    async def over_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with closing(writer):
            length = int.from_bytes(await reader.readexactly(2), "big")
            reply = self._reply(dns.message.from_wire(await reader.readexactly(length)))
            if reply is not None:
                wire = reply.to_wire(max_size=MAX_WIRE_BYTES)
                writer.write(len(wire).to_bytes(2, "big") + wire)
                await writer.drain()

    def _reply(self, query: dns.message.Message) -> dns.message.Message | None:
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        turn = self._turns.get((name, kind), 0)
        while True:
            sets = self._left.get(name)
            if sets is None:
                reply.set_rcode(dns.rcode.NXDOMAIN)
                return reply
            self._turns[name, kind] = turn + 1
            answer = sets[min(turn, len(sets) - 1)]
            if "SILENT" in answer:
                return None
            if "SERVFAIL" in answer:
                reply.set_rcode(dns.rcode.SERVFAIL)
                return reply
            owner = dns.name.from_text(name)
            if answer and answer[0].startswith("CNAME "):
                name = answer[0].removeprefix("CNAME ")
                reply.answer.append(dns.rrset.from_text(owner, 0, "IN", "CNAME", f"{name}."))
                continue
            chosen = [text for text in answer if (":" in text) == (kind == "AAAA")]
            if chosen:
                reply.answer.append(dns.rrset.from_text(owner, 0, "IN", kind, *chosen))
            return reply


class WebServer:
    """Answers each path as its handler does; remembers the heads of requests and the names that TLS asked for."""

    def __init__(self, pages: dict[str, Handler]) -> None:
        self._pages = pages
        self.requests: list[bytes] = []
        self.server_names: list[str | None] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            path = head.split(b" ")[1].decode().partition("?")[0]
            await self._pages[path](reader, writer)

    def requests_for(self, path: str) -> list[bytes]:
        return [head for head in self.requests if head.split(b" ")[1].decode().partition("?")[0] == path]


class ProxyServer:
    """An outbound proxy that knows ``CONNECT`` alone; remembers the heads of requests.

    Args:
        routes: ``host:port`` → port on loopback; every other target gets ``refusal``.
        refusal: status line of a refusal.
    """

    def __init__(self, routes: dict[str, int], refusal: str = "502 Bad Gateway") -> None:
        self._routes = routes
        self._refusal = refusal
        self.requests: list[bytes] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            method, target, _ = head.split(b" ", 2)
            if method != b"CONNECT" or target.decode() not in self._routes:
                writer.write(answer(self._refusal))
                return
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            there, back = await asyncio.open_connection("127.0.0.1", self._routes[target.decode()])
            async with closing(back):
                ways = [asyncio.create_task(_pour(reader, back)), asyncio.create_task(_pour(there, writer))]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


class Internet:
    """What stands on loopback, and where.

    Attributes:
        names: the DNS server.
        web: plain and TLS servers share its pages.
        routes: ``address:port`` of the public internet → port on loopback.
        authority_file: certificate of the authority that signed the good server's.
        dns_port: of the DNS server.
        proxy: an outbound proxy to all routes.
        proxy_port: its port.
    """

    def __init__(self, zone: Zone, pages: dict[str, Handler], folder: Path) -> None:
        self.names = NameServer(zone)
        self.web = WebServer(pages)
        self.routes: dict[str, int] = {}
        self.dns_port = 0
        self.proxy = ProxyServer(self.routes)
        self.proxy_port = 0
        self.authority_file = folder / "authority.pem"
        self._open: list[asyncio.Server | asyncio.DatagramTransport] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        """Open all servers."""
        loop = asyncio.get_running_loop()
        self.dns_port = await self._serve(None, self.names.over_tcp)
        over_udp, _ = await loop.create_datagram_endpoint(lambda: self.names, ("127.0.0.1", self.dns_port))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.authority_file))
        long_ago = datetime.now(UTC) - timedelta(days=1)
        good = authority.issue_cert("pictures.example.org", "other.example.com")
        plain = await self._serve(None)
        self.proxy_port = await self._serve(None, self.proxy.handle)
        self.routes |= {
            f"{PUBLIC}:80": plain,
            f"[{PUBLIC_V6}]:80": plain,
            f"{PUBLIC}:443": await self._serve(good),
            f"{UNTRUSTED}:443": await self._serve(trustme.CA().issue_cert("untrusted.example.org")),
            f"{EXPIRED}:443": await self._serve(authority.issue_cert("expired.example.org", not_after=long_ago)),
            f"{NO_TLS}:443": await self._serve(None, no_tls),
        }
        self._open.append(over_udp)

    async def stop(self) -> None:
        """Close all servers and end what they are in the middle of."""
        for one in self._open:
            one.close()
        for writer in self._writers:
            writer.transport.abort()  # a TLS connection would wait for the other end's farewell
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # what was closed is let go of in the next turns

    async def _serve(self, certificate: trustme.LeafCert | None, handler: Handler | None = None) -> int:
        context: ssl.SSLContext | None = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            context.set_alpn_protocols(["h2", "http/1.1"])  # whoever offers HTTP/2 gets it, and cannot be served
            context.sni_callback = lambda _, name, __: self.web.server_names.append(name)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            await (handler or self.web.handle)(reader, writer)

        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
        self._open.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port


@contextmanager
def running_internet(zone: Zone, pages: dict[str, Handler], folder: Path) -> Iterator[Internet]:
    """Run an internet in a thread of its own."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # handshakes that fail are what is staged
    thread = threading.Thread(target=loop.run_forever, name="internet", daemon=True)
    thread.start()
    internet = Internet(zone, pages, folder)
    try:
        asyncio.run_coroutine_threadsafe(internet.start(), loop).result(10)
        yield internet
    finally:
        asyncio.run_coroutine_threadsafe(internet.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def answer(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """Return an HTTP answer; ``length`` is what it claims to be long."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def gives(data: bytes, then: Handler | None = None) -> Handler:
    """Return a handler that sends these bytes, then goes on as it is told."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then is not None:
            await then(reader, writer)

    return handle


def redirect(to: str, *headers: str, status: str = "302 Found") -> Handler:
    """Return a handler that redirects."""
    return gives(answer(status, b"", f"Location: {to}", *headers))


def again_and_again(data: bytes, pause_s: float = 0.0) -> Handler:
    """Return a handler that sends the same bytes for ever."""

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return handle


async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a TLS handshake as a plain web server does."""
    async with closing(writer):
        await reader.read(1)
        writer.write(answer("400 Bad Request"))


async def silence(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Keep the connection open and say nothing."""
    await asyncio.sleep(60)
