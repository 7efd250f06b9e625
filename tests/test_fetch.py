"""Fetching from real servers on loopback, most of them hostile; the number in a test's id is the one in the list."""

from __future__ import annotations

import asyncio
import gzip
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpcore2
import pytest

from gateway.errors import GatewayError
from gateway.fetch import Fetcher, FetchLimits
from tests import pictures as make

PICTURE = make.plain("PNG")
PUBLIC = "93.184.216.34"
LIMITS = FetchLimits(max_bytes=200_000, timeout_s=1.0, dns_timeout_s=0.3)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Answers:
    """A resolver that gives what it is told, one answer after another, and remembers what it was asked."""

    by_host: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    delay_s: float = 0.0
    asked: list[str] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        await asyncio.sleep(self.delay_s)
        answers = self.by_host.get(host, [[PUBLIC]])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if not answer:
            raise OSError("no such name")
        return answer

    async def aclose(self) -> None:
        pass


class Internet(httpcore2.AsyncNetworkBackend):
    """Public addresses that lead to a server of ours on loopback; remembers every connection that was made."""

    def __init__(self, port: int, dead: Iterable[str] = (), here: str = "10.0.0.5") -> None:
        self._port = port
        self._here = here
        self._dead = frozenset(dead)
        self._real = httpcore2.AnyIOBackend()
        self.connected: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.connected.append(f"{host}:{port}")
        if host in self._dead:
            await asyncio.sleep(60)
        return PublicStream(await self._real.connect_tcp("127.0.0.1", self._port, timeout, local_address), self._here)


class PublicStream(httpcore2.AsyncNetworkStream):
    """A loopback connection that does not look like one."""

    def __init__(self, inner: httpcore2.AsyncNetworkStream, here: str = "10.0.0.5") -> None:
        self._inner = inner
        self._here = here

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return await self._inner.start_tls(*args, **options)

    def get_extra_info(self, info: str) -> Any:
        return {"client_addr": (self._here, 1), "server_addr": (PUBLIC, 80)}.get(info)


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[int]:
    """Run a server on loopback and give its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def answer(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def replies(*answers: bytes, requests: list[bytes] | None = None, then: Handler | None = None) -> Handler:
    """Return a handler that gives one answer per connection, the last one again and again."""
    left = list(answers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if requests is not None:
            requests.append(request)
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        if then is not None:
            await then(reader, writer)

    return handle


async def outcome(
    handler: Handler,
    url: str = "http://pictures.example.org/a.png",
    *,
    limits: FetchLimits = LIMITS,
    resolver: Answers | None = None,
    dead: Iterable[str] = (),
) -> bytes | str:
    """Fetch through the public rules; return the bytes, or the error's code."""
    async with serve(handler) as port:
        network = Internet(port, dead)
        async with Fetcher(limits, resolver=resolver or Answers(), network=network) as fetcher:
            detail = ""
            try:
                return await fetcher.fetch(url)
            except GatewayError as fault:
                detail, code = fault.detail, fault.code
    assert str(port) not in detail
    assert "127.0.0.1" not in detail
    assert PUBLIC not in detail
    return code


async def endless_chunks(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"1000\r\n" + bytes(0x1000) + b"\r\n")
        await writer.drain()


async def endless_bytes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(0x1000))
        await writer.drain()


async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)


async def silence(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


OK = answer("200 OK", PICTURE, "Content-Type: image/png")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_picture_arrives_and_the_request_gives_nothing_away() -> None:
    seen: list[bytes] = []
    assert await outcome(replies(OK, requests=seen), "http://pictures.example.org/a%20b?c=d#e") == PICTURE
    lines = seen[0].decode().lower().split("\r\n")
    assert lines[0] == "get /a%20b?c=d http/1.1"
    assert "host: pictures.example.org" in lines
    assert "accept-encoding: identity" in lines
    assert not any(line.startswith(("cookie:", "authorization:", "referer:", "x-")) for line in lines)


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        pytest.param(replies(answer("302 Found", b"", "Location: http://pictures.example.org/a.png")),
                     "source_redirects", id="58-loop"),
        pytest.param(replies(*(answer("302 Found", b"", f"Location: /{k}") for k in range(9))),
                     "source_redirects", id="58-many"),
        *(pytest.param(replies(answer("302 Found", b"", f"Location: {to}")), "source_url_forbidden", id=f"57-{to}")
          for to in ("http://127.0.0.1/", "http://10.0.0.1/", "file:///etc/passwd", "//localhost/x", "http://[::1]/",
                     "http://pictures.example.org:8080/", "http://169.254.169.254/", "\\\\x", "http://a@b.org/")),
        pytest.param(replies(answer("302 Found", b"hello")), "source_not_image", id="58-no-location"),
        *(pytest.param(replies(answer(status)), "source_unreachable", id=f"60-{status}")
          for status in ("500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "599 What")),
        pytest.param(replies(b"SSH-2.0-OpenSSH_9.6\r\n"), "source_unreachable", id="60-no-http"),
        pytest.param(replies(b""), "source_unreachable", id="60-nothing"),
        pytest.param(replies(answer("200 OK", PICTURE, length=len(PICTURE) + 9)), "source_unreachable", id="60-cut"),
        pytest.param(replies(answer("200 OK", PICTURE, "Content-Length: 3")), "source_unreachable", id="60-2-lengths"),
        pytest.param(replies(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000), "source_unreachable", id="60-header-bomb"),
        pytest.param(replies(answer("404 Not Found", PICTURE)), "source_not_image", id="61-404"),
        pytest.param(replies(answer("403 Forbidden")), "source_not_image", id="61-403"),
        pytest.param(replies(b"HTTP/1.1 204 No Content\r\n\r\n"), "source_not_image", id="61-204"),
        pytest.param(replies(answer("206 Partial Content", PICTURE)), "source_not_image", id="61-206"),
        pytest.param(replies(answer("200 OK")), "source_not_image", id="61-empty"),
        pytest.param(replies(answer("200 OK", b"<html>" * 99, "Content-Type: image/png")), "source_not_image",
                     id="61-html-that-says-png"),
        pytest.param(replies(answer("200 OK", b"<html>"), then=silence), "source_not_image", id="61-short-html"),
        pytest.param(silence, "source_timeout", id="64-no-headers"),
        pytest.param(replies(b"HTTP/1.1 200 OK\r\nX-Slow: ", then=trickle), "source_timeout", id="64-slow-headers"),
        pytest.param(replies(answer("200 OK", PICTURE, length=9999), then=trickle), "source_timeout", id="65-trickle"),
        pytest.param(replies(CHUNKED + b"%x\r\n" % len(PICTURE) + PICTURE + b"\r\n", then=endless_chunks),
                     "source_too_large", id="66-endless-chunked"),
        pytest.param(replies(b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE, then=endless_bytes), "source_too_large",
                     id="66-endless-until-close"),
        pytest.param(replies(answer("200 OK", PICTURE, length=10**15)), "source_too_large", id="67-claims-a-petabyte"),
        pytest.param(replies(answer("200 OK", PICTURE, length=200)), "source_too_large", id="67-claims-less"),
        *(pytest.param(replies(answer("200 OK", gzip.compress(bytes(10**7)), f"Content-Encoding: {coding}")),
                       "source_too_large", id=f"68-{coding}") for coding in ("gzip", "br", "zstd", "deflate, gzip")),
    ],
)  # fmt: skip
async def test_hostile_servers(handler: Handler, code: str) -> None:
    start_s = time.monotonic()
    assert await outcome(handler) == code
    assert time.monotonic() - start_s < LIMITS.timeout_s + 1


async def test_59_redirects_to_another_host_carry_nothing() -> None:
    seen: list[bytes] = []
    hop = answer("302 Found", b"", "Location: https://x.test/", "Set-Cookie: secret=1; Domain=example.com")
    hop = hop.replace(b"https://x.test/", b"http://other.example.com/b.png")
    resolver = Answers()
    assert await outcome(replies(hop, OK, requests=seen), resolver=resolver) == PICTURE
    assert resolver.asked == ["pictures.example.org", "other.example.com"]
    assert b"Host: other.example.com" in seen[1]
    assert b"secret" not in seen[1]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_58_relative_redirects_are_followed(status: int) -> None:
    seen: list[bytes] = []
    hop = answer(f"{status} Moved", b"", "Location: ../c.png?d")
    assert await outcome(replies(hop, OK, requests=seen), "http://example.org/a/b/") == PICTURE
    assert seen[1].startswith(b"GET /a/c.png?d HTTP/1.1")


@pytest.mark.parametrize(
    "answers",
    [
        ["10.0.0.1"], ["127.0.0.1"], ["169.254.169.254"], ["::1"], ["fd00:ec2::254"], ["::ffff:10.0.0.1"],
        ["64:ff9b::a00:1"], [PUBLIC, "10.0.0.1"], ["2606:4700::1111", "::1"], [PUBLIC] * 20 + ["0.0.0.0"],  # noqa: S104
        ["fe80::1%eth0"], ["nonsense"],
    ],
    ids=lambda answers: f"50-55-{answers[-1]}",
)  # fmt: skip
async def test_55_one_forbidden_answer_forbids_all(answers: list[str]) -> None:
    async with serve(replies(OK)) as port:
        network = Internet(port)
        resolver = Answers({"pictures.example.org": [answers]})
        async with Fetcher(LIMITS, resolver=resolver, network=network) as fetcher:
            with pytest.raises(GatewayError) as refused:
                await fetcher.fetch("http://pictures.example.org/")
    assert refused.value.code == "source_url_forbidden"
    assert network.connected == []


async def test_56_rebinding_the_name_is_looked_up_once_and_that_address_connected() -> None:
    async with serve(replies(OK)) as port:
        network = Internet(port)
        resolver = Answers({"pictures.example.org": [[PUBLIC], ["127.0.0.1"]]})
        async with Fetcher(LIMITS, resolver=resolver, network=network) as fetcher:
            assert await fetcher.fetch("http://pictures.example.org/") == PICTURE
            assert resolver.asked == ["pictures.example.org"]
            assert network.connected == [f"{PUBLIC}:80"]
            # The next fetch is a new connection with a new judgement: nothing is pooled.
            with pytest.raises(GatewayError) as refused:
                await fetcher.fetch("http://pictures.example.org/")
    assert refused.value.code == "source_url_forbidden"
    assert network.connected == [f"{PUBLIC}:80"]


async def test_56_tls_names_the_host_not_the_address() -> None:
    hello: list[bytes] = []

    async def record(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        hello.append(await reader.read(2000))

    assert await outcome(record, "https://pictures.example.org/") == "source_unreachable"
    assert b"pictures.example.org" in hello[0]


async def test_60_bad_tls() -> None:
    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert await outcome(no_tls, "https://example.org/") == "source_unreachable"


async def test_60_the_system_gives_up_before_the_deadline() -> None:
    class TimesOut(Internet):
        async def connect_tcp(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
            stream = await super().connect_tcp(*args, **options)

            class Lost(PublicStream):
                async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
                    raise httpcore2.ReadTimeout

            return Lost(stream)

    async with serve(replies(OK)) as port:
        with pytest.raises(GatewayError) as refused:
            await Fetcher(LIMITS, resolver=Answers(), network=TimesOut(port)).fetch("http://pictures.example.org/")
    assert refused.value.code == "source_timeout"


async def test_60_no_such_name() -> None:
    assert await outcome(replies(OK), resolver=Answers({"pictures.example.org": [[]]})) == "source_unreachable"


async def test_62_slow_dns() -> None:
    start_s = time.monotonic()
    assert await outcome(replies(OK), resolver=Answers(delay_s=5)) == "source_timeout"
    assert time.monotonic() - start_s < 0.9


async def test_63_many_dead_addresses() -> None:
    dead = [f"93.184.{k // 100}.{k % 100}" for k in range(200)]
    start_s = time.monotonic()
    assert await outcome(replies(OK), resolver=Answers({"pictures.example.org": [dead]}), dead=dead) == "source_timeout"
    assert time.monotonic() - start_s < LIMITS.timeout_s + 0.5


async def test_63_one_dead_address_is_not_the_end() -> None:
    answers = Answers({"pictures.example.org": [["93.184.216.1", PUBLIC]]})
    limits = replace(LIMITS, timeout_s=2.0)
    assert await outcome(replies(OK), resolver=answers, dead=["93.184.216.1"], limits=limits) == PICTURE


async def test_60_refused_connections() -> None:
    async with serve(replies(OK)) as port:
        pass
    async with Fetcher(LIMITS, resolver=Answers(), network=Internet(port)) as fetcher:
        with pytest.raises(GatewayError) as refused:
            await fetcher.fetch("http://pictures.example.org/")
    assert refused.value.code == "source_unreachable"


async def test_54_a_public_name_that_leads_back_to_this_machine() -> None:
    async with serve(replies(OK)) as port:
        fetcher = Fetcher(LIMITS, resolver=Answers(), network=Internet(port, here=PUBLIC))
        with pytest.raises(GatewayError) as refused:
            await fetcher.fetch("http://pictures.example.org/")
    assert refused.value.code == "source_url_forbidden"


async def test_69_proxies_in_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:9")
    assert await outcome(replies(OK)) == PICTURE


async def test_test_hosts_are_exempt_and_nothing_beside_them() -> None:
    async with serve(replies(OK)) as port:
        limits = replace(LIMITS, allowed_test_hosts=frozenset({f"127.0.0.1:{port}"}))
        async with Fetcher(limits) as fetcher:
            assert await fetcher.fetch(f"http://127.0.0.1:{port}/") == PICTURE
            for url in (f"http://127.0.0.2:{port}/", f"http://localhost:{port}/", "http://127.0.0.1/"):
                with pytest.raises(GatewayError) as refused:
                    await fetcher.fetch(url)
                assert refused.value.code == "source_url_forbidden"


async def test_all_forbidden_urls_get_one_message() -> None:
    details = set()
    async with Fetcher(LIMITS, resolver=Answers({"a.example.org": [["10.0.0.1"]]})) as fetcher:
        for url in ("file:///x", "http://localhost/", "http://10.0.0.1/", "http://a.example.org/", "http://x.org:22/"):
            with pytest.raises(GatewayError) as refused:
                await fetcher.fetch(url)
            details.add(refused.value.detail)
    assert len(details) == 1


async def test_fetches_at_a_time_are_capped() -> None:
    now, peak = 0, 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await asyncio.sleep(0.05)
        await replies(OK)(reader, writer)
        now -= 1

    async with serve(slow) as port:
        limits = replace(LIMITS, max_concurrent=2)
        async with Fetcher(limits, resolver=Answers(), network=Internet(port)) as fetcher:
            got = await asyncio.gather(*(fetcher.fetch("http://pictures.example.org/") for _ in range(8)))
    assert got == [PICTURE] * 8
    assert peak == 2


async def test_when_all_slots_stay_taken_the_service_is_overloaded() -> None:
    limits = replace(LIMITS, max_concurrent=1, timeout_s=0.3)
    async with serve(silence) as port, Fetcher(limits, resolver=Answers(), network=Internet(port)) as fetcher:
        blocker = asyncio.ensure_future(fetcher.fetch("http://a.example.org/"))
        waiting = asyncio.ensure_future(fetcher.fetch("http://b.example.org/"))
        outcomes = await asyncio.gather(blocker, waiting, return_exceptions=True)
    assert [fault.code for fault in outcomes if isinstance(fault, GatewayError)] == ["source_timeout", "overloaded"]


async def test_cancelling_a_fetch_closes_its_connection() -> None:
    closed = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()
        closed.set()

    async with serve(watch) as port, Fetcher(LIMITS, resolver=Answers(), network=Internet(port)) as fetcher:
        task = asyncio.ensure_future(fetcher.fetch("http://pictures.example.org/"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
async def test_every_accepted_format_passes_whatever_its_content_type(kind: str) -> None:
    data = make.plain(kind)
    assert await outcome(replies(answer("200 OK", data, "Content-Type: text/plain"))) == data
