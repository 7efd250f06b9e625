"""A picture's URL to bytes, without becoming a door into the network (SSRF) or a port scanner.

Each hop goes the same way: the URL is judged as text, its host looked up once, *all* answers judged, and the
connection made to one of those very addresses, so that a second look-up cannot give another (DNS rebinding). ``Host``
and SNI keep the name. Redirects are followed here, each as a new hop with nothing carried over: no cookie, no
authorization, no referrer. Every hop has its own connection; none is pooled, so none can be reused past the check.
httpcore2 (what httpx2 stands on) is used directly, since it has the seam for the connection; it reads no proxy from the
environment.

All time, from the wait for a slot to the last byte, counts against one deadline.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self

import httpcore2

from gateway.address import (
    Address,
    Resolver,
    SourceUrl,
    SystemResolver,
    UrlRules,
    is_public,
    parse_answer,
    parse_url,
    redirect_target,
)
from gateway.errors import (
    Overloaded,
    SourceNotImage,
    SourceRedirects,
    SourceTimeout,
    SourceTooLarge,
    SourceUnreachable,
    SourceUrlForbidden,
)
from gateway.image_header import ALWAYS_ACCEPTED, SIGNATURE_BYTES, Formats, accepted_words, sniff

_REDIRECTS = frozenset({301, 302, 303, 307, 308})  # RFC 9110 section 15.4
_MIN_CONNECT_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits(UrlRules):
    """What a fetch may cost, and, from :class:`UrlRules`, where it may go.

    Attributes:
        max_bytes: of the answer's body.
        timeout_s: for the whole fetch with all its redirects.
        dns_timeout_s: for one look-up.
        max_redirects: followed at most.
        max_concurrent: fetches at a time.
        max_addresses: of one host that are tried.
        user_agent: sent with each request.
        formats: of pictures that are accepted.
    """

    max_bytes: int = 10_000_000
    timeout_s: float = 5.0
    dns_timeout_s: float = 2.0
    max_redirects: int = 3
    max_concurrent: int = 64
    max_addresses: int = 8
    user_agent: str = "clip-moderation-gateway"
    formats: Formats = ALWAYS_ACCEPTED


def forbid() -> NoReturn:
    """Raise the one error for every forbidden URL: telling the reasons apart would make a port scanner."""
    raise SourceUrlForbidden(
        "This URL is not fetched; public http and https addresses on the standard ports are, given by name without "
        "user name or password."
    )


class Fetcher:
    """Fetches pictures; one for the life of the process, used as an async context manager.

    Args:
        limits: see :class:`FetchLimits`.
        resolver: looks names up; the system's by default.
        network: makes TCP connections to addresses; the real network by default.
        ssl_context: for https; by default certificates are verified against the usual authorities.
    """

    def __init__(
        self,
        limits: FetchLimits,
        *,
        resolver: Resolver | None = None,
        network: httpcore2.AsyncNetworkBackend | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits
        self._resolver = resolver or SystemResolver()
        self._network = network or httpcore2.AnyIOBackend()
        self._ssl_context = ssl_context or httpcore2.default_ssl_context()
        self._slots = asyncio.Semaphore(limits.max_concurrent)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resolver.aclose()

    async def fetch(self, url: str) -> bytes:
        """Return the bytes behind a URL; they begin like a picture of an accepted format.

        Args:
            url: http or https.

        Raises:
            SourceUrlForbidden: by its text, its host's addresses, or a redirect's.
            SourceRedirects: more than ``max_redirects``, or in a circle.
            SourceTimeout: longer than ``timeout_s`` in all, or ``dns_timeout_s`` for a look-up.
            SourceTooLarge: more than ``max_bytes``, or compressed in transit.
            SourceNotImage: a status other than 200, nothing, or no picture.
            SourceUnreachable: name, connection, TLS or server error at the other end.
            Overloaded: all slots stayed taken for ``timeout_s``.
        """
        target = parse_url(url, self._limits) or forbid()
        holds_slot = False
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                async with self._slots:
                    holds_slot = True
                    return await self._follow(target)
        except TimeoutError:
            if not holds_slot:
                raise Overloaded("Too many image URLs are being fetched; try again shortly.", retry_after_s=1) from None
            raise SourceTimeout(
                f"The image URL did not answer completely within {self._limits.timeout_s:g} seconds."
            ) from None

    async def _follow(self, target: SourceUrl) -> bytes:
        seen = {target}
        for _ in range(self._limits.max_redirects + 1):
            answer = await self._request(target)
            if isinstance(answer, bytes):
                return answer
            target = redirect_target(target, answer, self._limits) or forbid()
            if target in seen:
                break
            seen.add(target)
        raise SourceRedirects(
            f"The image URL redirects in a circle or more than {self._limits.max_redirects} times; "
            "send the address of the picture itself."
        )

    async def _addresses(self, target: SourceUrl) -> tuple[Address, ...]:
        """Look the host up once and judge all answers; the order is the resolver's."""
        if target.address is not None:
            answers: Sequence[str] = [str(target.address)]
        else:
            try:
                async with asyncio.timeout(self._limits.dns_timeout_s):
                    answers = await self._resolver.resolve(target.host, target.port)
            except TimeoutError:
                raise SourceTimeout("The name in the image URL was not found out in time.") from None
            except OSError:
                answers = ()
        if not answers:
            raise SourceUnreachable("The name in the image URL does not lead anywhere.")
        addresses = tuple(parse_answer(answer) or forbid() for answer in answers)
        if not target.exempt and any(not is_public(a) or str(a) in self._limits.forbidden_hosts for a in addresses):
            forbid()
        return addresses

    async def _request(self, target: SourceUrl) -> bytes | str:
        """Make one request; return the picture's bytes or a redirect's ``Location``."""
        network = _PinnedNetwork(self._network, await self._addresses(target), target, self._limits)
        origin = httpcore2.Origin(target.scheme.encode(), target.host.encode(), target.port)
        request = httpcore2.Request(
            "GET",
            httpcore2.URL(
                scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
            ),
            headers=[
                (b"Host", target.authority.encode()),
                (b"User-Agent", self._limits.user_agent.encode()),
                (b"Accept", b"image/avif,image/webp,image/png,image/jpeg,image/gif;q=0.9"),
                (b"Accept-Encoding", b"identity"),
                (b"Connection", b"close"),
            ],
        )
        connection = httpcore2.AsyncHTTPConnection(origin, ssl_context=self._ssl_context, network_backend=network)
        try:
            response = await connection.handle_async_request(request)
            try:
                return await self._read(response, network)
            finally:
                await response.aclose()
        except TimeoutError:
            raise  # the deadline of the whole fetch
        except httpcore2.TimeoutException as fault:
            raise SourceTimeout("The server in the image URL stopped answering.") from fault
        except (httpcore2.NetworkError, httpcore2.ProtocolError, ssl.SSLError, OSError, ValueError) as fault:
            raise SourceUnreachable("The server in the image URL cannot be reached or breaks off.") from fault
        finally:
            await connection.aclose()
            await network.aclose()

    async def _read(self, response: httpcore2.Response, network: _PinnedNetwork) -> bytes | str:
        headers = {name.lower(): value for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in headers:
            return headers[b"location"].decode("utf-8", "replace")
        if response.status >= 500:  # noqa: PLR2004
            raise SourceUnreachable("The server in the image URL answers with an error of its own.")
        if response.status != 200:  # noqa: PLR2004
            raise SourceNotImage(f"The image URL answers with status {response.status}; a picture comes with 200.")
        if headers.get(b"content-encoding", b"identity").strip().lower() not in {b"", b"identity"}:
            raise SourceTooLarge("The image URL sends compressed content, whose size is unknown; send it as it is.")
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > self._limits.max_bytes:
            self._too_large()
        body = bytearray()
        judged = False
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self._limits.max_bytes:
                self._too_large()
            if not judged and len(body) >= SIGNATURE_BYTES:
                _check_signature(body, self._limits.formats)
                judged = True
        if length and network.body_bytes > len(body):
            raise SourceTooLarge("The image URL sends more bytes than its Content-Length announces; send just those.")
        _check_signature(body, self._limits.formats)
        return bytes(body)

    def _too_large(self) -> NoReturn:
        raise SourceTooLarge(f"The image URL gives more than {self._limits.max_bytes:,} bytes, the most accepted.")


def _check_signature(body: bytearray, formats: Formats) -> None:
    if sniff(bytes(body[:SIGNATURE_BYTES])) not in formats:
        raise SourceNotImage(f"The image URL does not give a picture; {accepted_words(formats)} are accepted.")


class _PinnedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to the addresses that were judged, whatever name it is asked for."""

    def __init__(
        self,
        network: httpcore2.AsyncNetworkBackend,
        addresses: tuple[Address, ...],
        target: SourceUrl,
        limits: FetchLimits,
    ) -> None:
        self._network = network
        self._addresses = addresses[: limits.max_addresses]
        self._target = target
        self._timeout_s = limits.timeout_s
        self._stream: _CountedStream | None = None

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
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        share_s = max(_MIN_CONNECT_S, self._timeout_s / len(self._addresses))
        silent = False
        for address in self._addresses:
            try:
                async with asyncio.timeout(share_s):
                    self._stream = _CountedStream(
                        await self._network.connect_tcp(
                            str(address), port, local_address=local_address, socket_options=socket_options
                        )
                    )
            except (TimeoutError, httpcore2.ConnectTimeout):
                silent = True
                continue
            except (httpcore2.ConnectError, OSError):
                continue
            if not self._target.exempt and _leads_back(self._stream):
                forbid()
            return self._stream
        if silent:
            raise SourceTimeout("The server in the image URL did not take the connection in time.")
        raise SourceUnreachable("The server in the image URL cannot be reached.")


class _CountedStream(httpcore2.AsyncNetworkStream):
    """A connection that counts what comes behind the response's headers, plain or through TLS."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._head: bytes | None = b""
        self.body_bytes = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        data = await self._stream.read(max_bytes, timeout)
        if self._head is None:
            self.body_bytes += len(data)
            return data
        self._head += data
        while self._head is not None and b"\r\n\r\n" in self._head:
            head, _, behind = self._head.partition(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 1"):  # an interim response: the real one follows
                self._head = behind
            else:
                self._head, self.body_bytes = None, len(behind)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        self._stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return self

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _leads_back(stream: httpcore2.AsyncNetworkStream) -> bool:
    """Say whether a connection ends on this very machine: then both its ends have one address."""
    here, there = stream.get_extra_info("client_addr"), stream.get_extra_info("server_addr")
    return isinstance(here, tuple) and isinstance(there, tuple) and here[0] == there[0]
