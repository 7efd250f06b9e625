"""The fetcher by itself: what a gateway process does not show. Hostile servers are in ``test_fetch_gateway.py``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpcore2
import pytest

from gateway.errors import GatewayError, Overloaded
from gateway.fetching.fetcher import Fetcher, FetchLimits
from gateway.fetching.transport import Proxy
from tests.support import awkward_images as make
from tests.support.fake_internet import PUBLIC, Handler, ProxyServer, answer, closing, silence
from tests.support.waiting import UNTIL_S

PICTURE = make.plain("PNG")
URL = "http://pictures.example.org/a.png"
OK = answer("200 OK", PICTURE, "Content-Type: image/png")
LIMITS = FetchLimits(max_bytes=200_000, timeout_s=UNTIL_S, header_timeout_s=UNTIL_S)


@dataclass
class Answers:
    """A resolver that gives what it is told, and remembers what it was asked."""

    by_host: dict[str, Sequence[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resolve(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.by_host.get(host, [PUBLIC])


class OneServer(httpcore2.AsyncNetworkBackend):
    """Public addresses that all lead to one port on loopback; others are what they are."""

    def __init__(self, port: int, dead: Iterable[str] = ()) -> None:
        self._port = port
        self._dead = frozenset(dead)
        self._real = httpcore2.AnyIOBackend()
        self.connected: list[str] = []

    async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        self.connected.append(f"{host}:{port}")
        if host in self._dead:
            await asyncio.sleep(60)
        return await self._real.connect_tcp("127.0.0.1", port if host == "127.0.0.1" else self._port)


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[int]:
    """Run a server on loopback and give its port; what it is in the middle of ends with it."""
    serving: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        serving.append(task)
        async with closing(writer):
            await handler(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def replies(*answers: bytes, requests: list[bytes] | None = None) -> Handler:
    """Return a handler that gives one answer per connection, the last one again and again."""
    left = list(answers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if requests is not None:
            requests.append(request)
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return handle


async def code_of(fetcher: Fetcher, url: str = URL) -> str:
    with pytest.raises(GatewayError) as refused:
        await fetcher.fetch(url)
    return refused.value.code


@pytest.mark.parametrize(
    ("url", "first_line", "host"),
    [
        ("http://pictures.example.org/a%20b?c=d#e", b"GET /a%20b?c=d HTTP/1.1", b"pictures.example.org"),
        ("http://Pictures.Example.ORG?x", b"GET /?x HTTP/1.1", b"pictures.example.org"),
        ("http://pictures.example.org:443/é", b"GET /%C3%A9 HTTP/1.1", b"pictures.example.org:443"),
        ("http://[2606:4700::1111]/", b"GET / HTTP/1.1", b"[2606:4700::1111]"),
    ],
)
async def test_what_is_asked_for(url: str, first_line: bytes, host: bytes) -> None:
    seen: list[bytes] = []
    async with serve(replies(OK, requests=seen)) as port:
        assert await Fetcher(LIMITS, resolver=Answers(), network=OneServer(port)).fetch(url) == PICTURE
    lines = seen[0].split(b"\r\n")
    assert lines[0] == first_line
    assert b"Host: " + host in lines


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_58_relative_redirects_are_followed(status: int) -> None:
    seen: list[bytes] = []
    hop = answer(f"{status} Moved", b"", "Location: ../c.png?d")
    async with serve(replies(hop, OK, requests=seen)) as port:
        fetcher = Fetcher(LIMITS, resolver=Answers(), network=OneServer(port))
        assert await fetcher.fetch("http://example.org/a/b/") == PICTURE
    assert seen[1].startswith(b"GET /a/c.png?d HTTP/1.1")


async def test_57_a_redirect_is_read_as_browsers_read_it_and_looked_up_as_it_is_judged() -> None:
    seen: list[bytes] = []
    hops = [
        answer("302 Found", b"", "Location: //Bücher.example.org\\a b/\tc.png#d"),
        b"HTTP/1.1 302 Found\r\nLocation: \xe9?e f\r\nContent-Length: 0\r\n\r\n",
        OK,
    ]
    answers = Answers()
    async with serve(replies(*hops, requests=seen)) as port:
        assert await Fetcher(LIMITS, resolver=answers, network=OneServer(port)).fetch(URL) == PICTURE
    assert [request.split(b"\r\n")[0] for request in seen[1:]] == [
        b"GET /a%20b/c.png HTTP/1.1",
        b"GET /a%20b/%E9?e%20f HTTP/1.1",
    ]
    assert answers.asked == ["pictures.example.org", *["xn--bcher-kva.example.org"] * 2]
    assert b"Host: xn--bcher-kva.example.org" in seen[1].split(b"\r\n")


async def test_57_a_redirect_to_digits_of_another_script_is_forbidden() -> None:
    async with serve(replies(answer("302 Found", b"", "Location: //１２７。０。０。１/a.png"))) as port:  # noqa: RUF001
        network = OneServer(port)
        assert await code_of(Fetcher(LIMITS, resolver=Answers(), network=network)) == "source_url_forbidden"
    assert network.connected == [f"{PUBLIC}:80"]


@pytest.mark.parametrize(
    ("limits", "agent", "accept"),
    [
        (LIMITS, "Mozilla/5.0 (compatible; clip-moderation-gateway)", "image/avif,image/webp,image/*,*/*;q=0.8"),
        (
            replace(LIMITS, formats=LIMITS.formats - {"avif"}, user_agent="me/1 (me@example.org)"),
            "me/1 (me@example.org)",
            "image/webp,image/*,*/*;q=0.8",
        ),
        (replace(LIMITS, accept="image/png"), LIMITS.user_agent, "image/png"),
    ],
    ids=["default", "without AVIF", "set"],
)
async def test_servers_are_told_the_product_and_the_formats(limits: FetchLimits, agent: str, accept: str) -> None:
    seen: list[bytes] = []
    async with serve(replies(OK, requests=seen)) as port:
        await Fetcher(limits, resolver=Answers(), network=OneServer(port)).fetch(URL)
    lines = seen[0].decode().split("\r\n")
    assert f"User-Agent: {agent}" in lines
    assert f"Accept: {accept}" in lines


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
async def test_every_accepted_format_passes_whatever_its_content_type(kind: str) -> None:
    data = make.plain(kind)
    async with serve(replies(answer("200 OK", data, "Content-Type: text/plain"))) as port:
        assert await Fetcher(LIMITS, resolver=Answers(), network=OneServer(port)).fetch(URL) == data


async def test_62_63_64_one_deadline_holds_look_ups_dead_addresses_and_all_hops() -> None:
    """Each part stays below its own limit; together they do not."""

    class Slow(Answers):
        async def resolve(self, host: str) -> Sequence[str]:
            await asyncio.sleep(0.2)
            return ["93.184.216.1", PUBLIC]

    limits = replace(LIMITS, timeout_s=1.6, header_timeout_s=1.1)
    async with serve(replies(*(answer("302 Found", b"", f"Location: /{hop}") for hop in range(4)))) as port:
        start_s = time.monotonic()
        network = OneServer(port, dead=["93.184.216.1"])
        assert await code_of(Fetcher(limits, resolver=Slow(), network=network)) == "source_timeout"
    assert time.monotonic() - start_s < 3
    assert len(network.connected) > 2, "it got as far as the second hop"


async def test_64_the_system_gives_up_before_the_deadline() -> None:
    class Lost(httpcore2.AsyncMockStream):
        async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
            raise httpcore2.ReadTimeout

    class TimesOut(httpcore2.AsyncNetworkBackend):
        async def connect_tcp(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
            return Lost([])

    assert await code_of(Fetcher(LIMITS, resolver=Answers(), network=TimesOut())) == "source_timeout"


async def test_test_hosts_are_exempt_and_nothing_beside_them() -> None:
    async with serve(replies(OK)) as port:
        fetcher = Fetcher(replace(LIMITS, allowed_test_hosts=frozenset({f"127.0.0.1:{port}"})))
        assert await fetcher.fetch(f"http://127.0.0.1:{port}/") == PICTURE
        for url in (f"http://127.0.0.2:{port}/", f"http://localhost:{port}/", "http://127.0.0.1/"):
            assert await code_of(fetcher, url) == "source_url_forbidden"


async def test_pictures_of_urls_at_a_time_are_capped_until_they_are_done_with() -> None:
    now, peak = 0, 0
    fetcher = Fetcher(replace(LIMITS, max_concurrent=2))

    async def fetch_and_decode() -> None:
        nonlocal now, peak
        async with fetcher.room():
            now += 1
            peak = max(peak, now)
            await asyncio.sleep(0.02)
            now -= 1

    await asyncio.gather(*(fetch_and_decode() for _ in range(8)))
    assert peak == 2


async def test_when_all_places_stay_taken_the_service_is_overloaded() -> None:
    fetcher = Fetcher(replace(LIMITS, max_concurrent=1, timeout_s=0.1))
    async with fetcher.room():
        with pytest.raises(Overloaded) as refused:
            async with fetcher.room():
                pass
    assert refused.value.retry_after_s == 1
    async with fetcher.room():
        pass  # the place is free again


async def test_cancelling_a_fetch_closes_its_connection() -> None:
    connected, closed = asyncio.Event(), asyncio.Event()

    async def watch(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        connected.set()
        await reader.read()
        closed.set()

    async with serve(watch) as port:
        task = asyncio.ensure_future(Fetcher(LIMITS, resolver=Answers(), network=OneServer(port)).fetch(URL))
        await asyncio.wait_for(connected.wait(), UNTIL_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), UNTIL_S / 2)


# --- The outbound proxy ---


@asynccontextmanager
async def through(
    proxy: ProxyServer, *, url: str = "http://127.0.0.1:{}", resolves: bool = False, answers: Answers | None = None
) -> AsyncIterator[tuple[Fetcher, OneServer]]:
    async with serve(proxy.handle) as port:
        network = OneServer(9)
        limits = replace(LIMITS, proxy=Proxy.parse(url.format(port)), proxy_resolves=resolves)
        yield Fetcher(limits, resolver=answers or Answers(), network=network), network


async def test_a_proxy_is_told_the_judged_address_and_nothing_else_is_connected() -> None:
    seen: list[bytes] = []
    async with serve(replies(OK, requests=seen)) as port:
        proxy = ProxyServer({f"{PUBLIC}:80": port})
        async with through(proxy, url="http://me:p%40ss@127.0.0.1:{}") as (fetcher, network):
            assert await fetcher.fetch(URL) == PICTURE
    (head,) = proxy.requests
    assert head.startswith(f"CONNECT {PUBLIC}:80 HTTP/1.1\r\nHost: {PUBLIC}:80\r\n".encode())
    assert b"\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n" in head
    assert b"\r\nHost: pictures.example.org\r\n" in seen[0]
    assert b"Proxy-Authorization" not in seen[0]
    assert {target.partition(":")[0] for target in network.connected} == {"127.0.0.1"}


@pytest.mark.parametrize("answers", [["10.0.0.1"], [PUBLIC, "127.0.0.1"], ["64:ff9b::7f00:1"]], ids=str)
async def test_with_a_proxy_addresses_are_judged_all_the_same(answers: list[str]) -> None:
    proxy = ProxyServer({})
    async with through(proxy, answers=Answers({"pictures.example.org": answers})) as (fetcher, _):
        assert await code_of(fetcher) == "source_url_forbidden"
        assert await code_of(fetcher, "http://10.0.0.1/") == "source_url_forbidden"
    assert proxy.requests == []


async def test_with_a_proxy_every_hop_is_judged() -> None:
    async with serve(replies(answer("302 Found", b"", "Location: http://inner.example.org/"))) as port:
        proxy = ProxyServer({f"{PUBLIC}:80": port})
        async with through(proxy, answers=Answers({"inner.example.org": ["10.0.0.1"]})) as (fetcher, _):
            assert await code_of(fetcher) == "source_url_forbidden"
    assert len(proxy.requests) == 1


async def test_a_proxy_that_resolves_gets_the_name_and_text_alone_is_judged() -> None:
    async with serve(replies(OK)) as port:
        proxy, answers = ProxyServer({"pictures.example.org:80": port}), Answers()
        async with through(proxy, resolves=True, answers=answers) as (fetcher, _):
            assert await fetcher.fetch(URL) == PICTURE
            for url in ("http://10.0.0.1/", "http://localhost/", "http://db.internal/", "http://[::1]/"):
                assert await code_of(fetcher, url) == "source_url_forbidden"
    assert answers.asked == []
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        ("403 Forbidden", "source_url_forbidden"),
        ("407 Proxy Authentication Required", "source_unreachable"),
        ("502 Bad Gateway", "source_unreachable"),
        ("302 Found", "source_unreachable"),
    ],
)
async def test_what_a_proxy_refuses(refusal: str, code: str) -> None:
    async with through(ProxyServer({}, refusal)) as (fetcher, _):
        assert await code_of(fetcher) == code


@pytest.mark.parametrize("bad", ["silent", "absent"])
async def test_a_proxy_that_is_away(bad: str) -> None:
    async with serve(silence) as port:
        pass
    async with serve(silence) as silent:
        limits = replace(LIMITS, proxy=Proxy("127.0.0.1", silent if bad == "silent" else port))
        if bad == "silent":
            limits = replace(limits, timeout_s=0.5)
        found = await code_of(Fetcher(limits, resolver=Answers(), network=OneServer(9)))
    assert found == ("source_timeout" if bad == "silent" else "source_unreachable")


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:3128", "https://proxy:3128", "socks5://proxy:1080", "http://", "http://proxy/path", "http://p:x"],
)
def test_what_is_no_proxy(text: str) -> None:
    with pytest.raises(ValueError, match=r"proxy|[Pp]ort"):
        Proxy.parse(text)


def test_a_proxys_password_is_not_shown() -> None:
    assert "secret" not in repr(Proxy.parse("http://me:secret@proxy:3128"))
    assert "c2VjcmV0" not in repr(Proxy.parse("http://me:secret@proxy:3128"))
