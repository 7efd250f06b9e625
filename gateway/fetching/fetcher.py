"""The bytes behind an image's URL, without access to the internal network (SSRF) and without being a port scanner.

Each hop goes the same way: the URL is judged as text, its host looked up once, *all* answers judged, and the
connection made to one of those very addresses, so that a second look-up cannot give another (DNS rebinding). ``Host``
and SNI keep the name. Redirects are followed here, each as a new hop with nothing carried over: no cookie, no
authorization, no referrer. Every hop has its own connection; none is pooled, so none can be reused past the check.
httpcore2 (what httpx2 stands on) is used directly, since it has the seam for the connection; it reads no proxy from the
environment.

Through a configured proxy the same holds, ``CONNECT`` naming the judged address, unless the proxy is told to resolve:
then a name is judged as text alone, and which addresses are reached is the proxy's affair.

All time, from the first look-up to the last byte, counts against one deadline.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import httpcore2

from gateway.decoding.headers.header import ALWAYS_ACCEPTED, SIGNATURE_BYTES, Formats, accepted_words, sniff
from gateway.errors import (
    Overloaded,
    SourceNotImage,
    SourceRedirects,
    SourceTimeout,
    SourceTooLarge,
    SourceUnreachable,
)
from gateway.fetching.dns_resolver import DnsResolver, Resolver
from gateway.fetching.ssrf import SourceUrl, UrlRules, may_connect, parse_answer, parse_url, redirect_target
from gateway.fetching.transport import CountedStream, Proxy, connect, forbid, is_own

_REDIRECTS = frozenset({301, 302, 303, 307, 308})  # RFC 9110 section 15.4

USER_AGENT = "Mozilla/5.0 (compatible; clip-moderation-gateway)"
"""The form that crawlers use: content delivery networks know it, and servers that refuse unknown products serve it."""
_ACCEPT = "image/avif,image/webp,image/*,*/*;q=0.8"
_FREE_PIECES = 256
_MIN_PIECE_BYTES = 256  # on average, beyond those


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits(UrlRules):
    """What a fetch may cost, and, from :class:`UrlRules`, where it may go.

    Attributes:
        max_bytes: of the answer's body.
        timeout_s: for the whole fetch with all its redirects.
        header_timeout_s: of one hop, from connecting to the end of its headers.
        max_redirects: followed at most.
        max_concurrent: images of URLs at a time, from the fetch until they are decoded.
        max_addresses: of one host that are tried.
        proxy: that everything goes through, or None.
        proxy_resolves: names are handed to it unresolved. Then it alone decides which addresses are reached.
        user_agent: sent with each request.
        accept: sent with each request; empty: what browsers ask images with, AVIF only where it is accepted.
        formats: of images that are accepted.
    """

    max_bytes: int = 10_000_000
    timeout_s: float = 5.0
    header_timeout_s: float = 3.0
    max_redirects: int = 3
    max_concurrent: int = 64
    max_addresses: int = 8
    proxy: Proxy | None = None
    proxy_resolves: bool = False
    user_agent: str = USER_AGENT
    accept: str = ""
    formats: Formats = ALWAYS_ACCEPTED


class Fetcher:
    """Fetches images; one for the life of the process.

    Args:
        limits: see :class:`FetchLimits`.
        resolver: looks names up; by default the system's name servers do.
        network: makes TCP connections to addresses; the real network by default.
        ssl_context: for https; by default certificates are verified against the system's authorities.
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
        self._resolver = resolver or DnsResolver()
        self._network = network or httpcore2.AnyIOBackend()
        self._ssl_context = ssl_context or httpcore2.default_ssl_context()
        self._ssl_context.set_alpn_protocols(["http/1.1"])
        self._places = asyncio.Semaphore(limits.max_concurrent)

    @asynccontextmanager
    async def room(self) -> AsyncIterator[None]:
        """Hold one of the places for images of URLs: taken before the fetch, given back once the bytes are done with.

        So what was fetched and waits to be decoded is bounded too: ``max_concurrent`` times ``max_bytes``.

        Raises:
            Overloaded: all places stayed taken for ``timeout_s``.
        """
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded("Too many image URLs are being fetched; try again shortly.", retry_after_s=1) from None
        try:
            yield
        finally:
            self._places.release()

    async def fetch(self, url: str) -> bytes:
        """Return the bytes behind a URL; they begin like an image of an accepted format.

        Args:
            url: http or https.

        Raises:
            SourceUrlForbidden: by its text, its host's addresses, or a redirect's.
            SourceRedirects: more than ``max_redirects``, or in a circle.
            SourceTimeout: longer than ``timeout_s`` in all, or a look-up or headers longer than they may take.
            SourceTooLarge: more than ``max_bytes``, or compressed in transit.
            SourceNotImage: a status other than 200, nothing, or no image.
            SourceUnreachable: name, connection, TLS or server error at the other end.
        """
        target = parse_url(url, self._limits) or forbid()
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await self._follow(target)
        except TimeoutError:
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
            "send the address of the image itself."
        )

    async def _hosts(self, target: SourceUrl) -> list[str]:
        """Look the host up once and judge all answers; return what to connect to, in the resolver's order."""
        if parse_answer(target.host) is not None:
            answers: Sequence[str] = [target.host]
        elif self._limits.proxy and self._limits.proxy_resolves and not target.exempt:
            return [target.host]
        else:
            try:
                answers = await self._resolver.resolve(target.host)
            except TimeoutError:
                raise SourceTimeout("DNS lookup of the host in the image URL timed out.") from None
            except OSError:
                answers = []
        if not answers:
            raise SourceUnreachable("The name in the image URL does not lead anywhere.")
        addresses = [parse_answer(answer) or forbid() for answer in answers]
        tried = addresses[: self._limits.max_addresses]
        if not target.exempt and not (
            all(may_connect(address, self._limits) for address in addresses)
            and not any(is_own(address) for address in tried)
        ):
            forbid()
        return [str(address) for address in tried]

    async def _request(self, target: SourceUrl) -> bytes | str:
        """Make one request; return the image's bytes or a redirect's ``Location``."""
        limits = self._limits
        accept = limits.accept or (_ACCEPT if "avif" in limits.formats else _ACCEPT.removeprefix("image/avif,"))
        scheme, host, path = target.scheme.encode(), target.host.encode(), target.path.encode()
        request = httpcore2.Request(
            "GET",
            httpcore2.URL(scheme=scheme, host=host, port=target.port, target=path),
            headers=[
                (b"Host", target.authority.encode()),
                (b"User-Agent", limits.user_agent.encode()),
                (b"Accept", accept.encode()),
                (b"Accept-Encoding", b"identity"),
                (b"Connection", b"close"),
            ],
        )
        hosts = await self._hosts(target)
        proxy = None if target.exempt else limits.proxy
        async with AsyncExitStack() as connections:
            try:
                async with asyncio.timeout(limits.header_timeout_s) as patience:
                    opened = await connect(self._network, hosts, target.port, proxy, limits.header_timeout_s)
                    stream = CountedStream(opened, 2 * limits.max_bytes)
                    connections.push_async_callback(stream.aclose)
                    if target.scheme == "https":
                        await stream.start_tls(self._ssl_context, target.host)
                    connection = httpcore2.AsyncHTTP11Connection(request.url.origin, stream)
                    response = await connection.handle_async_request(request)
                async with aclosing(response):
                    return await self._read(response, stream)
            except TimeoutError:
                if patience.expired():
                    raise SourceTimeout("The server in the image URL did not answer in time.") from None
                raise  # the deadline of the whole fetch
            except httpcore2.TimeoutException as fault:
                raise SourceTimeout("The server in the image URL stopped answering.") from fault
            except (httpcore2.NetworkError, httpcore2.ProtocolError, ssl.SSLError, OSError, ValueError) as fault:
                raise SourceUnreachable("The server in the image URL cannot be reached or breaks off.") from fault

    async def _read(self, response: httpcore2.Response, stream: CountedStream) -> bytes | str:
        headers = {name.lower(): value for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in headers:
            return headers[b"location"].decode("utf-8", "surrogateescape")
        if response.status >= 500:  # noqa: PLR2004
            raise SourceUnreachable("The server in the image URL answers with an error of its own.")
        if response.status != 200:  # noqa: PLR2004
            raise SourceNotImage(f"The image URL answers with status {response.status}; an image comes with 200.")
        if headers.get(b"content-encoding", b"identity").strip().lower() not in {b"", b"identity"}:
            raise SourceTooLarge("The image URL sends compressed content, whose size is unknown; send it as it is.")
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > self._limits.max_bytes:
            self._too_large()
        body = bytearray()
        judged = False
        pieces = 0
        async for piece in response.aiter_stream():
            body += piece
            pieces += 1
            if pieces > _FREE_PIECES + len(body) // _MIN_PIECE_BYTES:
                # Each piece costs the event loop time, and a server could send ten million of one byte.
                raise SourceTooLarge("The image URL sends its bytes in needlessly many pieces; send larger chunks.")
            if len(body) > self._limits.max_bytes:
                self._too_large()
            if not judged and len(body) >= SIGNATURE_BYTES:
                _check_signature(body, self._limits.formats)
                judged = True
        if length and stream.body_bytes > len(body):
            raise SourceTooLarge("The image URL sends more bytes than its Content-Length announces; send just those.")
        _check_signature(body, self._limits.formats)
        return bytes(body)

    def _too_large(self) -> NoReturn:
        raise SourceTooLarge(f"The image URL gives more than {self._limits.max_bytes:,} bytes, the most accepted.")


def _check_signature(body: bytearray, formats: Formats) -> None:
    if sniff(bytes(body[:SIGNATURE_BYTES])) not in formats:
        raise SourceNotImage(f"The image URL does not give an image; it has to be {accepted_words(formats)}.")
