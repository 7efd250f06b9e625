"""The connection of one hop: to the addresses that were judged, straight or through the outbound proxy, and counted."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import socket
import ssl
from collections.abc import Sequence
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
        "user name or password. A data: URI is sent as base64."
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
    """

    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
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
        return cls(parts.hostname, port, authorization)


async def connect(
    network: httpcore2.AsyncNetworkBackend, hosts: Sequence[str], port: int, proxy: Proxy | None, timeout_s: float
) -> httpcore2.AsyncNetworkStream:
    """Return a connection to the first of the hosts that takes it.

    Args:
        network: makes TCP connections.
        hosts: addresses, tried in this order; one name, where the proxy resolves.
        port: of each.
        proxy: goes between, or None.
        timeout_s: shared out among the hosts, ``MIN_CONNECT_S`` each at least; the caller has a deadline of its own.

    Raises:
        SourceTimeout: none takes it, and one at least does not answer.
        SourceUnreachable: all refuse.
        SourceUrlForbidden: the proxy refuses.
    """
    silent = False
    for host in hosts:
        try:
            async with asyncio.timeout(max(MIN_CONNECT_S, timeout_s / len(hosts))):
                return await (_tunnel(network, proxy, host, port) if proxy else network.connect_tcp(host, port))
        except (TimeoutError, httpcore2.TimeoutException):
            silent = True
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError):
            continue
    if silent:
        raise SourceTimeout("The server in the image URL did not take the connection in time.")
    raise SourceUnreachable("The server in the image URL cannot be reached.")


async def _tunnel(
    network: httpcore2.AsyncNetworkBackend, proxy: Proxy, host: str, port: int
) -> httpcore2.AsyncNetworkStream:
    """Return a connection through the proxy; TLS, where there is any, is made inside it, with the server itself.

    Raises:
        httpcore2.ConnectError: the proxy is away, or cannot get there.
        SourceUrlForbidden: the proxy refuses.
    """
    log = structlog.get_logger("fetch")
    target = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()
    headers = [(b"Host", target)]
    if proxy.authorization is not None:
        headers.append((b"Proxy-Authorization", proxy.authorization))
    origin = httpcore2.Origin(b"http", proxy.host.encode("idna"), proxy.port)
    url = httpcore2.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=target)
    try:
        stream = await network.connect_tcp(proxy.host, proxy.port)
        connection = httpcore2.AsyncHTTP11Connection(origin, stream)
        response = await connection.handle_async_request(httpcore2.Request("CONNECT", url, headers=headers))
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError):
        log.warning("the outbound proxy cannot be reached or breaks off")
        raise
    if 200 <= response.status < 300:  # noqa: PLR2004
        tunnel: httpcore2.AsyncNetworkStream = response.extensions["network_stream"]
        return tunnel
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
