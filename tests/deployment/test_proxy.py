"""The proxy that is shipped, as a real nginx in front of a real gateway with API keys."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from gateway import errors
from gateway.serving.http_protocol import MAX_HEAD_BYTES
from tests.conftest import free_ports
from tests.serving.test_http_faults import is_problem as is_the_gateways_problem
from tests.support.http_servers import serving
from tests.support.proxies import Keyed, Proxy, keyed_gateway, proxy
from tests.support.raw_http import RawAnswer, connection, head, read_answer, send_raw
from tests.support.slow_senders import slow_senders
from tests.support.waiting import until

pytestmark = pytest.mark.heavy

JSON = "Content-Type: application/json"
SECRET = "Zwiebelkuchen"
HONEST = "127.9.0.1"
MIB = 1 << 20


@dataclass(frozen=True)
class Pair:
    """A proxy and the gateway behind it."""

    proxy: Proxy
    gateway: Keyed

    @property
    def port(self) -> int:
        return int(self.proxy.url.rsplit(":", 1)[1])

    @property
    def authorization(self) -> str:
        return f"Authorization: {self.gateway.authorization}"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with keyed_gateway(folder) as gateway, proxy(folder / "proxy", gateway.port) as running:
        yield Pair(running, gateway)


def ask(port: int, key: str, source: str = HONEST, path: str = "/v1/models", **headers: str) -> tuple[int, float]:
    """Ask as an honest client would; returns the status and how many seconds it took."""
    begin = time.monotonic()
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
    with contextlib.closing(asking):
        asking.request("GET", path, headers={"Authorization": f"Bearer {key}", **headers})
        answer = asking.getresponse()
        answer.read()
        return answer.status, time.monotonic() - begin


def addresses(count: int) -> list[str]:
    return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(count)]


def lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def is_problem(answer: RawAnswer) -> None:
    """As the gateway's, but that nginx tells its name."""
    headers = {name: value for name, value in answer.headers.items() if (name, value) != ("server", "nginx")}
    is_the_gateways_problem(replace(answer, headers=headers))


# --- Slow senders ---


@dataclass(frozen=True)
class Crowd:
    """Slow senders: how many, whether they have a key, from how many addresses, whether they stay until reset."""

    count: int
    keyed: bool = False
    sources: tuple[str, ...] = field(default=("127.0.0.2",))
    stubborn: bool = True
    honest: str = HONEST


@pytest.mark.heavy
@pytest.mark.parametrize(
    "crowd",
    [
        pytest.param(Crowd(256, sources=tuple(addresses(256))), id="256 without a key"),
        pytest.param(Crowd(1000, sources=tuple(addresses(1000))), id="1,000 without a key"),
        pytest.param(Crowd(256, honest="127.0.0.2"), id="256 without a key, at the honest client's address"),
        pytest.param(Crowd(256, stubborn=False), id="256 without a key that come again at once"),
        pytest.param(Crowd(256, keyed=True, sources=tuple(addresses(256))), id="256 with a key"),
        pytest.param(Crowd(1000, keyed=True), id="1,000 with a key, at one address"),
    ],
)
async def test_slow_senders_shut_nobody_out(pair: Pair, crowd: Crowd) -> None:
    key = [pair.authorization] if crowd.keyed else []
    begin = head(JSON, "Content-Length: 100000", *key)
    statuses: Counter[int] = Counter()
    longest_s = 0.0
    async with slow_senders(pair.port, crowd.count, begin, crowd.sources, stubborn=crowd.stubborn) as senders:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            status, took_s = await asyncio.to_thread(ask, pair.port, pair.gateway.key, crowd.honest)
            statuses[status] += 1
            longest_s = max(longest_s, took_s)
            await asyncio.sleep(0.1)
    assert set(statuses) == {200}, (statuses, senders.answers)
    assert longest_s < 10


@pytest.mark.parametrize("where", ["proxy", "gateway"])
@pytest.mark.heavy
async def test_a_sender_without_a_key_loses_its_place_within_seconds(pair: Pair, where: str) -> None:
    """Even one that sends on: its connection is reset."""
    async with asyncio.timeout(40):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", pair.port if where == "proxy" else pair.gateway.port
        )
        writer.write(head(JSON, "Content-Length: 100000"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.2)
        writer.close()


def test_silent_bodies_are_told_so_by_the_gateway_and_slow_heads_are_ended(tmp_path: Path) -> None:
    waits = {"HEADER_TIMEOUT_S": "1.5", "BODY_TIMEOUT_S": "2"}
    with keyed_gateway(tmp_path, **waits) as gateway, proxy(tmp_path / "proxy", gateway.port, **waits) as running:
        key = f"Authorization: {gateway.authorization}"
        answer = send_raw(running.url, head(JSON, "Content-Length: 1000", key) + b"{")
        assert (answer.status_code, answer.json()["code"]) == (408, "request_timeout")
        is_problem(answer)
        with connection(running.url) as slow:
            slow.sendall(head()[:-2] + b"X-Slow: ")
            with contextlib.suppress(ConnectionResetError):
                assert slow.recv(1) == b""
        until(lambda: any(line["status"] == 408 for line in lines(running.log)))


def requests_passed_on(folder: Path, port: int) -> int:
    """How many connections the proxy that runs in a folder has to the gateway."""
    running = psutil.process_iter(["cmdline"])  # of one that has ended meanwhile it gives None
    masters = [one for one in running if str(folder) in " ".join(one.info["cmdline"] or ())]
    workers = [worker for master in masters for worker in master.children()]
    return sum(
        bool(one.raddr) and one.raddr.port == port for worker in workers for one in worker.net_connections("tcp")
    )


def test_requests_of_one_client_are_bounded_and_another_key_is_another_client(pair: Pair, tmp_path: Path) -> None:
    limit = {"PROXY_CONNECTIONS_PER_CLIENT": "2"}
    with proxy(tmp_path, pair.gateway.port, **limit) as running, contextlib.ExitStack() as exits:
        begin = head(JSON, "Content-Length: 9", pair.authorization) + b"x"
        for _ in range(2):
            exits.enter_context(connection(running.url)).sendall(begin)
        # Or one of them, read later, would be the one too many.
        until(lambda: requests_passed_on(tmp_path, pair.gateway.port) == 2)
        models = head(pair.authorization, method="GET", path="/v1/models")
        answer = send_raw(running.url, models)
        assert (answer.json()["code"], answer.headers["retry-after"]) == ("overloaded", "1")
        is_problem(answer)
        assert send_raw(running.url, head(method="GET", path="/livez")).status_code == 200
        assert send_raw(running.url, head("Authorization: Bearer of-another", path="/v1/models")).status_code == 401
        port = int(running.url.rsplit(":", 1)[1])
        assert ask(port, pair.gateway.key)[0] == 200, "another address"


# --- What nginx refuses ---


REFUSED: dict[str, tuple[bytes, int, type[errors.GatewayError]]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, errors.HttpMalformed),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, errors.HttpMalformed),
    "no Host": (head(method="GET", host=None), 400, errors.HttpMalformed),
    "two lengths": (
        head(JSON, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400,
        errors.HttpMalformed,
    ),
    "another coding": (head(JSON, "Transfer-Encoding: xchunked") + b"2\r\n{}\r\n", 400, errors.HttpMalformed),
    "TRACE": (head(method="TRACE", path="/livez"), 405, errors.MethodNotAllowed),
    "metrics": (head(method="GET", path=f"/metrics?{SECRET}"), 404, errors.NotFound),
    "an internal path": (head(method="GET", path="/proxy-problem/overloaded"), 404, errors.NotFound),
    "a long body": (
        head(JSON, f"Content-Length: {65 * MIB}", path=f"/v1/classify?{SECRET}"),
        413,
        errors.PayloadTooLarge,
    ),
    "a long target": (head(method="GET", path=f"/livez?{SECRET * 4000}"), 431, errors.HeadersTooLarge),
    "a long header": (head("X-A: " + "a" * 40_000, method="GET", path="/livez"), 431, errors.HeadersTooLarge),
    "many headers": (head(*["X: y"] * 10_000, method="GET", path="/livez"), 431, errors.HeadersTooLarge),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_is_a_problem_document_and_is_logged_without_the_query(pair: Pair, what: str) -> None:
    request, status, error = REFUSED[what]
    answer = send_raw(pair.proxy.url, request)
    assert (answer.status_code, answer.json()["code"]) == (status, error.code)
    assert answer.json()["status"] == status
    assert answer.json()["title"] == error.title
    is_problem(answer)
    wanted = answer.headers["x-request-id"]
    until(lambda: wanted in pair.proxy.log.read_text())
    (line,) = [line for line in lines(pair.proxy.log) if line["request_id"] == wanted]
    assert (line["event"], line["status"], line["code"], line["client"]) == ("refused", status, error.code, "127.0.0.1")
    assert SECRET not in pair.proxy.log.read_text()


def test_what_the_gateway_answers_passes_untouched_and_only_it_logs_it(pair: Pair) -> None:
    for request, status in (
        (head(method="GET", path="/v1/nothing"), 401),
        (head(pair.authorization, method="GET", path="/v1/nothing"), 404),
        (head(pair.authorization, "Content-Length: 2", JSON) + b"{}", 422),
        (head(method="GET", path="/livez"), 200),
    ):
        named = request.replace(b"Host: localhost", b"Host: localhost\r\nX-Request-ID: mine-7")
        answer = send_raw(pair.proxy.url, named)
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, "mine-7")
        if status >= 400:
            is_problem(answer)
    assert "mine-7" not in pair.proxy.log.read_text()
    bad = send_raw(pair.proxy.url, head("X-Request-ID: a b", method="GET", path="/livez"))
    assert len(bad.headers["x-request-id"]) == 32


def test_heads_up_to_the_gateways_cap_pass(pair: Pair) -> None:
    for size in (15_000, 20_000, MAX_HEAD_BYTES - 300):  # the proxy adds headers of its own
        for lines_of in (["X-A: " + "a" * size], ["X-A: " + "a" * (size // 4)] * 3):
            assert send_raw(pair.proxy.url, head(*lines_of, method="GET", path="/livez")).status_code == 200, size
        path = "/livez?" + "a" * size
        assert send_raw(pair.proxy.url, head(method="GET", path=path)).status_code == 200
    answer = send_raw(pair.proxy.url, head("X-A: " + "a" * MAX_HEAD_BYTES, method="GET", path="/livez"))
    assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_large")
    is_problem(answer)


# --- What nginx passes on ---


class Upstream:
    """A server that keeps connections open and notes what it gets; yields itself as ``handler``.

    Attributes:
        peers: ports that requests came from.
        forwarded: their X-Forwarded-For.
        received: bytes of bodies so far.
        dies: it ends connections instead of answering.
        takes_s: seconds before it answers.
    """

    def __init__(self) -> None:
        self.peers: list[int] = []
        self.forwarded: list[str | None] = []
        self.received = 0
        self.dies = False
        self.takes_s = 0.0
        noted = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                noted.peers.append(self.client_address[1])
                noted.forwarded.append(self.headers["X-Forwarded-For"])
                chunked = self.headers["Transfer-Encoding"] == "chunked"
                left = int(self.headers.get("Content-Length", "0"))
                while left or chunked:
                    piece = self.rfile.read(min(left or 1, 65536))
                    noted.received += len(piece)
                    left -= min(left, len(piece))
                    if not piece:
                        self.close_connection = True
                        return
                time.sleep(noted.takes_s)
                self.close_connection = noted.dies
                if not noted.dies:
                    self.send_response(200)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            do_POST = do_PUT = do_GET  # noqa: N815 - the base class's form

            def log_message(self, *_: object) -> None:
                pass

        self.handler = Handler


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


def test_bodies_go_on_as_they_come(tmp_path: Path, upstream: Upstream) -> None:
    size, half = 60 * MIB, bytes(30 * MIB)
    with serving(upstream.handler) as port, proxy(tmp_path, port) as running, connection(running.url) as made:
        made.sendall(head(f"Content-Length: {size}") + half)
        until(lambda: upstream.received == len(half), "the first half has arrived before the second is sent")
        made.sendall(half)
        assert read_answer(made).status_code == 200
        assert upstream.received == size
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > MIB]


def test_bodies_over_the_cap_end_with_or_without_a_length(tmp_path: Path, upstream: Upstream) -> None:
    cap = {"PROXY_MAX_BODY_BYTES": "100000"}
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    with serving(upstream.handler) as port, proxy(tmp_path, port, **cap) as running:
        assert send_raw(running.url, head("Content-Length: 100000") + bytes(100_000)).status_code == 200
        for begin, body in (("Content-Length: 100001", b"x"), ("Transfer-Encoding: chunked", chunk * 11)):
            answer = send_raw(running.url, head(begin) + body)
            assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
            assert "100000" in answer.json()["detail"]
            is_problem(answer)


def test_connections_to_the_gateway_are_used_again(tmp_path: Path, upstream: Upstream) -> None:
    with serving(upstream.handler) as port, proxy(tmp_path, port) as running:
        for _ in range(20):
            assert send_raw(running.url, head("Content-Length: 2") + b"{}").status_code == 200
    assert len(upstream.peers) == 20
    assert len(set(upstream.peers)) <= 2, "one for each worker"


@pytest.mark.parametrize(
    ("trusted", "sent", "seen"),
    [
        ("", "192.0.2.1", "127.0.0.1"),
        ("127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("10.0.0.0/8,127.0.0.0/8", "192.0.2.9, 192.0.2.1, 10.1.2.3", "192.0.2.1"),
        ("10.0.0.0/8, 127.0.0.1", "192.0.2.1, 192.0.2.2", "192.0.2.2"),
        ("10.0.0.0/8", "192.0.2.1", "127.0.0.1"),
    ],
)
def test_the_clients_address_is_believed_of_trusted_hops_alone(
    tmp_path: Path, upstream: Upstream, trusted: str, sent: str, seen: str
) -> None:
    settings = {"PROXY_TRUSTED": trusted, "PROXY_CONNECTIONS_PER_CLIENT": "1"}
    with serving(upstream.handler) as port, proxy(tmp_path, port, **settings) as running:
        said = f"X-Forwarded-For: {sent}"
        assert send_raw(running.url, head(said, method="GET")).status_code == 200
        assert upstream.forwarded == [seen]
        time.sleep(0.2)  # nginx may count a request for a moment longer than its answer takes
        with connection(running.url) as held:
            held.sendall(head(said, "Content-Length: 9"))
            until(lambda: len(upstream.peers) == 2)
            assert send_raw(running.url, head(said, method="GET")).status_code == 503
            another = send_raw(running.url, head("X-Forwarded-For: 192.0.2.77", method="GET"))
            counted_apart = seen.startswith("192.")
            assert another.status_code == (200 if counted_apart else 503)
        refused = [line for line in lines(running.log) if line["code"] == "overloaded"]
        assert refused[0]["client"] == seen


def test_no_request_is_sent_twice(tmp_path: Path, upstream: Upstream) -> None:
    upstream.dies = True
    with serving(upstream.handler) as port, proxy(tmp_path, port) as running:
        for method in ("GET", "POST", "PUT"):
            answer = send_raw(running.url, head("Content-Length: 2", method=method) + b"{}")
            assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable")
        assert len(upstream.peers) == 3


@pytest.mark.heavy
def test_what_is_saved_may_take_longer_than_other_requests(tmp_path: Path, upstream: Upstream) -> None:
    upstream.takes_s = 7.0
    waits = {"UPLOAD_WAIT_S": "0.25", "REQUEST_TIMEOUT_S": "0.25", "SAVE_TIMEOUT_S": "60"}  # and 5 s
    with serving(upstream.handler) as port, proxy(tmp_path, port, **waits) as running, ThreadPoolExecutor() as users:
        saved = [
            users.submit(send_raw, running.url, head("Content-Length: 0", method=method, path=path))
            for method, path in (("PUT", "/v1/classifiers/x"), ("POST", "/v1/policies/x/dry-run"))
        ]
        hung = send_raw(running.url, head("Content-Length: 0"))
        assert (hung.status_code, hung.json()["code"]) == (503, "model_unavailable")
        assert [answer.result().status_code for answer in saved] == [200, 200]


def test_a_gateway_that_dies_and_comes_again(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    alive = head(method="GET", path="/livez")
    with contextlib.ExitStack() as gateways, proxy(tmp_path / "proxy", port) as running:
        gateways.enter_context(keyed_gateway(tmp_path, GATEWAY_PORT=str(port)))
        assert send_raw(running.url, alive).status_code == 200
        gateways.close()
        answer = send_raw(running.url, alive)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["code"] == "model_unavailable"
        is_problem(answer)
        until(lambda: answer.headers["x-request-id"] in running.log.read_text())
        gateways.enter_context(keyed_gateway(tmp_path, GATEWAY_PORT=str(port)))
        assert send_raw(running.url, alive).status_code == 200
