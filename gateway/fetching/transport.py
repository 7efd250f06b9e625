"""The connection of one hop: to the addresses that were judged, straight or through the outbound proxy, and counted."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import NoReturn, Self
from urllib.parse import unquote, urlsplit

import httpcore2
import structlog

from gateway.errors import SourceTimeout, SourceTooLarge, SourceUnreachable, SourceUrlForbidden
from gateway.fetching.ssrf import Address

MAX_HEAD_BYTES = 64 * 1024
"""Of an answer's status line and headers, with all interim answers (1xx) before it."""
MIN_CONNECT_S = 0.5
_HEAD_END = re.compile(rb"\n\r?\n")  # as h11 reads it, which forgives a missing carriage return
_INTERIM = re.compile(rb"HTTP/1\.[01] 1")
_FORBIDDEN, _PROXY_AUTHENTICATION = 403, 407
_PROXY_PORT = 80  # of http, where none is named


def forbid() -> NoReturn:
    """Raise the one error for every forbidden URL: telling the reasons apart would make a port scanner."""
    raise SourceUrlForbidden(
        "This URL is not fetched; public http and https addresses on the standard ports are, given by name without "
        "user name or password."
    )


def is_own(address: Address) -> bool:
    """Say whether an address is one of this very machine's, whatever the interface.

    Asked of the kernel without sending anything: towards an own address it picks that address as the sender's too.
    """
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))
        return bool(probe.getsockname()[0] == str(address))
    return False  # no route there: connecting will say so


@dataclass(frozen=True, slots=True)
class Proxy:
    """The outbound proxy that every fetch goes through, by ``CONNECT``, http URLs too.

    Attributes:
        host: its name or address.
        port: its port.
        authorization: value of ``Proxy-Authorization``, or None.
        resolves: names are handed to it unresolved. Then it alone decides which addresses are reached.
    """

    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)
    resolves: bool = False

    @classmethod
    def parse(cls, url: str, *, resolves: bool = False) -> Self:
        """Return the proxy at ``http://[user:password@]host:port``.

        Raises:
            ValueError: it is anything else.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PROXY_PORT
        except ValueError:
            port = 0  # its text would show part of a password that was not quoted
        if not port or parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(
                "a proxy is written http://host:port or http://user:password@host:port, with / : @ ? # of the two "
                "percent-encoded"
            )
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            authorization = b"Basic " + base64.b64encode(pair)
        return cls(parts.hostname, port, authorization, resolves)


class JudgedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to the hosts that were judged, whatever name it is asked for.

    Args:
        network: makes TCP connections.
        hosts: addresses, tried in this order; one name, where the proxy resolves.
        proxy: goes between, or None.
        timeout_s: for all attempts together.
        max_bytes: that may arrive behind the headers.
    """

    def __init__(
        self,
        network: httpcore2.AsyncNetworkBackend,
        hosts: Sequence[str],
        proxy: Proxy | None,
        *,
        timeout_s: float,
        max_bytes: int,
    ) -> None:
        self._network = network
        self._hosts = hosts
        self._proxy = proxy
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._stream: CountedStream | None = None

    @property
    def body_bytes(self) -> int:
        """Bytes received behind the response's headers, whatever they announced."""
        return 0 if self._stream is None else self._stream.body_bytes

    async def aclose(self) -> None:
        """Close the connection, also one whose TLS handshake was cut off by the deadline."""
        if self._stream is not None:
            await self._stream.aclose()

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - the name has been looked up; it is not looked up again
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - the fetch as a whole has a deadline
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        """Return a connection to the first of the hosts that takes it."""
        share_s = max(MIN_CONNECT_S, self._timeout_s / len(self._hosts))
        silent = False
        for judged in self._hosts:
            try:
                async with asyncio.timeout(share_s):
                    opened = await self._open(judged, port)
            except (TimeoutError, httpcore2.TimeoutException):
                silent = True
            except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError):
                continue
            else:
                self._stream = CountedStream(opened, self._max_bytes)
                return self._stream
        if silent:
            raise SourceTimeout("The server in the image URL did not take the connection in time.")
        raise SourceUnreachable("The server in the image URL cannot be reached.")

    async def _open(self, judged: str, port: int) -> httpcore2.AsyncNetworkStream:
        if self._proxy is None:
            return await self._network.connect_tcp(judged, port)
        return await _tunnel(self._network, self._proxy, judged, port)


async def _tunnel(
    network: httpcore2.AsyncNetworkBackend, proxy: Proxy, host: str, port: int
) -> httpcore2.AsyncNetworkStream:
    """Return a connection through the proxy; TLS, where there is any, is made inside it, with the server itself.

    Raises:
        httpcore2.ConnectError: the proxy is away, or cannot get there.
        SourceUrlForbidden: the proxy refuses.
    """
    log = structlog.get_logger("fetch")
    origin = httpcore2.Origin(b"http", proxy.host.encode("idna"), proxy.port)
    target = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()
    headers = [(b"Host", target)]
    if proxy.authorization is not None:
        headers.append((b"Proxy-Authorization", proxy.authorization))
    url = httpcore2.URL(scheme=b"http", host=origin.host, port=origin.port, target=target)
    connection = httpcore2.AsyncHTTPConnection(origin, network_backend=network)
    try:
        response = await connection.handle_async_request(httpcore2.Request("CONNECT", url, headers=headers))
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError):
        log.warning("the outbound proxy cannot be reached or breaks off")
        raise
    if 200 <= response.status < 300:  # noqa: PLR2004
        stream: httpcore2.AsyncNetworkStream = response.extensions["network_stream"]
        return stream
    await connection.aclose()
    if response.status == _FORBIDDEN:
        forbid()
    if response.status == _PROXY_AUTHENTICATION:
        log.warning("the outbound proxy wants other credentials")
    raise httpcore2.ConnectError


class CountedStream(httpcore2.AsyncNetworkStream):
    """A connection that counts what arrives, plain or through TLS, and ends what goes beyond its caps.

    Args:
        stream: the connection.
        max_body_bytes: behind the headers, as sent: with the framing of chunks.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream, max_body_bytes: int) -> None:
        self._stream = stream
        self._max_body_bytes = max_body_bytes
        self._head: bytes | None = b""
        self._head_bytes = 0
        self.body_bytes = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Read what has arrived.

        Raises:
            httpcore2.RemoteProtocolError: more headers than MAX_HEAD_BYTES.
            SourceTooLarge: more bytes than allowed.
        """
        data = await self._stream.read(max_bytes, timeout)
        if self._head is not None:
            self._count_head(data)
        else:
            self.body_bytes += len(data)
        if self.body_bytes > self._max_body_bytes:
            raise SourceTooLarge("The image URL sends more bytes than any accepted image needs.")
        return data

    def _count_head(self, data: bytes) -> None:
        self._head = (self._head or b"") + data
        while self._head is not None and (end := _HEAD_END.search(self._head)):
            self._head_bytes += end.end()
            behind = self._head[end.end() :]
            if _INTERIM.match(self._head):  # the real answer follows
                self._head = behind
            else:
                self._head, self.body_bytes = None, len(behind)
        if self._head_bytes + len(self._head or b"") > MAX_HEAD_BYTES:
            raise httpcore2.RemoteProtocolError("too many bytes of headers")

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Write all of it."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        """Speak TLS from here on; what is counted is what is inside."""
        self._stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return self

    def get_extra_info(self, info: str) -> object:
        """Return what the connection knows of itself."""
        return self._stream.get_extra_info(info)
