"""Faults 45 to 69 against a real gateway process: real DNS and real web servers on loopback, most of them hostile.

One gateway for the whole module. Its connections to public addresses end at the tests' servers
(``tests/support/internet_gateway.py``), and each is written down: a forbidden URL must not have caused any.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from gateway.fetching.ssrf import may_connect, parse_url
from gateway.parts import fetch_limits
from gateway.settings import Settings
from tests.conftest import Stack
from tests.support import awkward_images as make
from tests.support import fake_internet as net
from tests.support.fake_internet import PUBLIC, Handler, Internet, Zone, answer, gives, redirect, running_internet
from tests.support.fault_table import FaultLog
from tests.support.forbidden_urls import FORBIDDEN_URLS, OWN_ADDRESS, OWN_NAME
from tests.support.gateway_processes import more_gateways

PICTURE = make.plain("PNG")
SECRET = "token-4c1e-nobody-may-see"
FORBIDDEN = "422 source_url_forbidden"
MOST_BYTES = 200_000
GATEWAY = {
    "MAX_IMAGE_BYTES": str(MOST_BYTES),
    "FETCH_TIMEOUT_S": "5",
    "FETCH_DNS_TIMEOUT_S": "2.5",
    "FETCH_HEADER_TIMEOUT_S": "3",
    "FETCH_FORBIDDEN_HOSTS": f"{OWN_NAME}, {OWN_ADDRESS}",
    "LOG_LEVEL": "debug",
    "LOG_FORMAT": "json",
}

# By name, with the number of the fault that one fetch of http://<name>/ok.png stages.
FORBIDDEN_ANSWERS: list[tuple[int, str, Sequence[Sequence[str]]]] = [
    *((50, f"v4-{n}.example.org", [[address]]) for n, address in enumerate(
        ("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "127.0.0.1", "0.0.0.0", "224.0.0.1",  # noqa: S104
         "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "192.88.99.1"))),
    *((50, f"v6-{n}.example.org", [[address]]) for n, address in enumerate(
        ("::1", "::", "fc00::1", "fd12:3456::1", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1"))),
    *((51, f"wrapped-{n}.example.org", [[address]]) for n, address in enumerate(
        ("::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1",
         "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2600::5efe:10.0.0.1",
         "2600::200:5efe:7f00:1"))),
    *((52, f"metadata-{n}.example.org", [[address]]) for n, address in enumerate(
        ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "192.0.0.192", "192.80.8.124"))),
    (53, "alias-of-localhost.example.org", [["CNAME localhost"]]),
    (54, "own.example.org", [[OWN_ADDRESS]]),
    (54, "alias-of-own.example.org", [[PUBLIC, OWN_ADDRESS]]),
    (55, "mixed.example.org", [[PUBLIC, "10.0.0.1"]]),
    (55, "mixed-families.example.org", [[PUBLIC, "::1"]]),
    (55, "mixed-late.example.org", [[*net.DEAD[:60], "192.168.0.1"]]),
    (55, "chain.example.org", [["CNAME inner.example.org"]]),
]  # fmt: skip

ZONE: Zone = {
    "pictures.example.org": [[PUBLIC]],
    "other.example.com": [[PUBLIC]],
    "both.example.org": [["2606:4700::dead", net.PUBLIC_V6]],
    "untrusted.example.org": [[net.UNTRUSTED]],
    "expired.example.org": [[net.EXPIRED]],
    "no-tls.example.org": [[net.NO_TLS]],
    "wrong-name.example.org": [[PUBLIC]],
    "closed.example.org": [[net.CLOSED]],
    "rebinding.example.org": [[PUBLIC], ["127.0.0.1"]],
    "flips-at-redirect.example.org": [[PUBLIC], ["10.0.0.1"]],
    "dead.example.org": [net.DEAD],
    "half-dead.example.org": [[net.DEAD[0], PUBLIC]],
    "silent.example.org": [["SILENT"]],
    "servfail.example.org": [["SERVFAIL"]],
    "no-address.example.org": [[]],
    "ring.example.org": [["CNAME ring2.example.org"]],
    "ring2.example.org": [["CNAME nowhere.example.org"]],
    "inner.example.org": [["10.0.0.7"]],
    "localhost": [["127.0.0.1"]],
    **{name: answers for _, name, answers in FORBIDDEN_ANSWERS},
}

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FIRST_CHUNK = CHUNKED + b"%x\r\n" % len(PICTURE) + PICTURE + b"\r\n"
OK = gives(answer("200 OK", PICTURE, "Content-Type: image/png"))
LOCATIONS = (
    "http://127.0.0.1/", "http://10.0.0.1/", "http://169.254.169.254/latest/", "http://[::1]/", "http://[::ffff:7f00:1]/",
    "file:///etc/passwd", "ftp://pictures.example.org/a.png", "gopher://127.0.0.1/x", "data:image/png;base64,AAAA",
    "//localhost/ok.png", "//127.0.0.1/ok.png", "//mixed.example.org/ok.png", "http://inner.example.org/ok.png",
    "http://pictures.example.org:8080/ok.png", "http://user@pictures.example.org/ok.png", "http://2130706433/",
    "\\\\10.0.0.1\\x", f"http://{OWN_NAME}/", "http://[fe80::1%25eth0]/", "http://pictures.example.org./ok.png",
)  # fmt: skip

# Number, what is sent, the host that is asked, what it answers, what must come of it.
HOSTILE: list[tuple[int, str, str, Handler, str]] = [
    *((57, f"redirect to {to}", "pictures.example.org", redirect(to), "source_url_forbidden") for to in LOCATIONS),
    (58, "redirect to itself", "pictures.example.org", redirect("http://pictures.example.org/p{}"), "source_redirects"),
    (58, "endless redirects", "pictures.example.org", redirect("/p{}?again"), "source_redirects"),
    (60, "name that does not exist", "missing.example.org", OK, "source_unreachable"),
    (60, "name without an address", "no-address.example.org", OK, "source_unreachable"),
    (60, "CNAME that leads nowhere", "ring.example.org", OK, "source_unreachable"),
    (60, "name server that fails", "servfail.example.org", OK, "source_unreachable"),
    (60, "closed port", "closed.example.org", OK, "source_unreachable"),
    (60, "certificate of an unknown authority", "https://untrusted.example.org", OK, "source_unreachable"),
    (60, "expired certificate", "https://expired.example.org", OK, "source_unreachable"),
    (60, "certificate for another name", "https://wrong-name.example.org", OK, "source_unreachable"),
    (60, "no TLS on port 443", "https://no-tls.example.org", OK, "source_unreachable"),
    *((60, f"status {status[:3]}", "pictures.example.org", gives(answer(status)), "source_unreachable")
      for status in ("500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "599 What")),
    (60, "no HTTP", "pictures.example.org", gives(b"SSH-2.0-OpenSSH_9.6\r\n"), "source_unreachable"),
    (60, "connection closed without an answer", "pictures.example.org", gives(b""), "source_unreachable"),
    (60, "fewer bytes than Content-Length", "pictures.example.org",
     gives(answer("200 OK", PICTURE, length=len(PICTURE) + 9)), "source_unreachable"),
    (60, "two Content-Lengths", "pictures.example.org", gives(answer("200 OK", PICTURE, "Content-Length: 3")),
     "source_unreachable"),
    (60, "300 kB of one header", "pictures.example.org", gives(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000),
     "source_unreachable"),
    (60, "endless interim answers", "pictures.example.org",
     net.again_and_again(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 20), "source_unreachable"),
    *((61, f"status {status[:3]} with a picture", "pictures.example.org", gives(answer(status, PICTURE)),
       "source_not_image") for status in ("404 Not Found", "403 Forbidden", "206 Partial Content", "302 Found")),
    (61, "status 204", "pictures.example.org", gives(b"HTTP/1.1 204 No Content\r\n\r\n"), "source_not_image"),
    (61, "status 200 without a body", "pictures.example.org", gives(answer("200 OK")), "source_not_image"),
    (61, "HTML that says it is a PNG", "pictures.example.org",
     gives(answer("200 OK", b"<html>" * 99, "Content-Type: image/png")), "source_not_image"),
    (62, "name server that never answers", "silent.example.org", OK, "source_timeout"),
    (63, "200 addresses, all dead", "dead.example.org", OK, "source_timeout"),
    (64, "no headers", "pictures.example.org", net.silence, "source_timeout"),
    (64, "a byte of header at a time", "pictures.example.org",
     gives(b"HTTP/1.1 200 OK\r\nX-Slow: ", net.again_and_again(b"a", 0.05)), "source_timeout"),
    (65, "a byte of body a second", "pictures.example.org",
     gives(answer("200 OK", PICTURE, length=9999), net.again_and_again(b"a", 1.0)), "source_timeout"),
    (66, "endless chunks", "pictures.example.org",
     gives(FIRST_CHUNK, net.again_and_again(b"1000\r\n" + bytes(0x1000) + b"\r\n")), "source_too_large"),
    (66, "endless body without a length", "pictures.example.org",
     gives(b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE, net.again_and_again(bytes(0x1000))), "source_too_large"),
    (66, "endless chunks of one byte", "pictures.example.org",
     gives(FIRST_CHUNK, net.again_and_again(b"1\r\na\r\n" * 1000)), "source_too_large"),
    (66, "chunks that are nearly all extension", "pictures.example.org",
     gives(FIRST_CHUNK, net.again_and_again(b"1;" + b"x" * 4000 + b"\r\na\r\n")), "source_too_large"),
    (67, "Content-Length of a petabyte", "pictures.example.org", gives(answer("200 OK", PICTURE, length=10**15)),
     "source_too_large"),
    (67, "Content-Length smaller than the body", "pictures.example.org", gives(answer("200 OK", PICTURE, length=200)),
     "source_too_large"),
    *((68, f"{coding} bomb", "pictures.example.org",
       gives(answer("200 OK", gzip.compress(bytes(10**7)), f"Content-Encoding: {coding}")), "source_too_large")
      for coding in ("gzip", "br", "zstd", "deflate, gzip")),
]  # fmt: skip


def pages() -> dict[str, Handler]:
    """What the web servers answer by path; row N of HOSTILE is /pN."""
    made: dict[str, Handler] = {
        "/ok.png": OK,
        "/to-other": redirect("http://other.example.com/landed", "Set-Cookie: secret=1; Domain=example.com"),
        "/to-https": redirect("https://pictures.example.org/ok.png", status="307 Temporary Redirect"),
        "/landed": OK,
        "/back-to-me": redirect("http://flips-at-redirect.example.org/ok.png"),
        "/interim": gives(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer("200 OK", PICTURE)),
        "/line-feeds": gives(f"HTTP/1.1 200 OK\nContent-Length: {len(PICTURE)}\n\n".encode() + PICTURE),
    }
    for row, (_, what, _, handler, _) in enumerate(HOSTILE):
        ways = {"redirect to itself": redirect(f"/p{row}"), "endless redirects": endless_redirects(row)}
        made[f"/p{row}"] = ways.get(what, handler)
    return made


def endless_redirects(row: int) -> Handler:
    """Redirect to an address that is new each time."""
    turn = iter(range(10**6))

    async def handle(reader: Any, writer: Any) -> None:
        await redirect(f"/p{row}?{next(turn)}")(reader, writer)

    return handle


@dataclass
class Recorder:
    """A port on loopback that takes connections, answers none, and counts them."""

    port: int
    taken: int = 0


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Recorder(listener.getsockname()[1])

        def take() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                made.taken += 1
                connection.close()

        threading.Thread(target=take, daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    with running_internet(ZONE, pages(), tmp_path_factory.mktemp("internet")) as made:
        yield made


@dataclass
class Gateway:
    """The gateway under test."""

    client: httpx2.Client
    folder: Path

    def ask(self, *urls: str) -> httpx2.Response:
        """Ask for pictures by URL."""
        content = json.dumps({"images": [{"url": url} for url in urls], "labels": ["a red circle", "a blue square"]})
        return self.client.post("/v1/classify", content=content, headers={"Content-Type": "application/json"})

    def each(self, urls: Sequence[str]) -> list[str]:
        """Ask for many pictures at once and return what became of each, as ``faults.outcome`` writes it."""
        found = []
        for start in range(0, len(urls), 30):
            body = self.ask(*urls[start : start + 30], "http://pictures.example.org/ok.png").json()
            *results, neighbour = body["results"]
            assert neighbour["error"] is None
            assert neighbour["scores"]
            found += [
                f"{item['error']['status']} {item['error']['code']}" if item["error"] else "200" for item in results
            ]
        return found

    @property
    def connections(self) -> list[str]:
        """Every connection that was opened so far, ``address:port``."""
        log = self.folder / "connections.log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture(scope="module")
def gateway(
    stack: Stack, internet: Internet, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("fetching")
    proxy = f"http://127.0.0.1:{recorder.port}"
    environment = {
        **{
            name: proxy for way in ("HTTP", "HTTPS", "ALL", "GRPC") for name in (f"{way}_PROXY", f"{way.lower()}_proxy")
        },
    }
    with running_gateway(stack, internet, folder, **environment) as made:
        yield made


@contextmanager
def running_gateway(stack: Stack, internet: Internet, folder: Path, **environment: str) -> Iterator[Gateway]:
    """Start a gateway on the tests' internet."""
    environment = {
        **GATEWAY,
        "FETCH_DNS_SERVERS": f"127.0.0.1:{internet.dns_port}",
        "SSL_CERT_FILE": str(internet.authority_file),
        "TEST_INTERNET": json.dumps(
            {"routes": internet.routes, "dead": net.DEAD, "log": str(folder / "connections.log")}
        ),
        **environment,
    }
    with (
        more_gateways(stack, 1, folder, module="tests.support.internet_gateway", **environment) as (address,),
        httpx2.Client(base_url=address, timeout=30, trust_env=False) as client,
    ):
        yield Gateway(client, folder)


def test_45_to_54_forbidden_as_they_are_written(gateway: Gateway, internet: Internet, faults: FaultLog) -> None:
    opened, asked, documents = len(gateway.connections), len(internet.names.asked), set()
    port = str(gateway.client.base_url.port)
    own = [(54, f"http://127.0.0.1:{port}/livez"), (54, str(gateway.client.base_url))]
    for number, url in FORBIDDEN_URLS + own:
        if url.startswith("data:"):
            continue  # holds its image; a redirect to one is forbidden
        response = gateway.ask(url)
        if "\ud800" in url or not url:  # no text at all, and none: refused where the body is read
            faults.expect(number, ascii(url), response, "422 invalid_request", FORBIDDEN)
            continue
        shown = (url if len(url) < 60 else url[:60] + "…").replace(port, "PORT")
        faults.expect(number, ascii(shown), response, FORBIDDEN)
        documents.add(without_id(response.json()))
    assert len(documents) == 1, "one message for all, so that it is no port scanner"
    assert gateway.connections[opened:] == []
    assert internet.names.asked[asked:] == [], "nothing is looked up for a URL whose text is forbidden"


def without_id(problem: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in problem.items() if key != "request_id"}, sort_keys=True)


def test_50_to_55_forbidden_by_what_the_name_leads_to(gateway: Gateway, faults: FaultLog) -> None:
    opened, documents = len(gateway.connections), set()
    for number, name, answers in FORBIDDEN_ANSWERS:
        response = gateway.ask(f"http://{name}/ok.png")
        what = f"name that leads to {answers[0][0] if len(answers[0]) == 1 else ' and '.join(answers[0][-2:])}"
        faults.expect(number, what, response, FORBIDDEN)
        documents.add(without_id(response.json()))
    documents.add(without_id(gateway.ask("http://10.0.0.1/").json()))
    documents.add(without_id(gateway.ask(f"http://pictures.example.org/p{0}").json()))
    assert len(documents) == 1, "by name, by text and by redirect: one message"
    assert set(gateway.connections[opened:]) == {f"{PUBLIC}:80"}, "the redirect's first hop alone"


def test_56_a_name_that_rebinds_is_looked_up_once(gateway: Gateway, internet: Internet, faults: FaultLog) -> None:
    opened = len(gateway.connections)
    first = gateway.ask("http://rebinding.example.org/ok.png")
    faults.expect(56, "name that is public at the first look-up and 127.0.0.1 at every later one", first, "200")
    assert sorted(internet.names.asked).count(("rebinding.example.org", "A")) == 1
    assert gateway.connections[opened:] == [f"{PUBLIC}:80"]
    assert b"\r\nHost: rebinding.example.org\r\n" in internet.web.requests_for("/ok.png")[-1]
    second = gateway.ask("http://rebinding.example.org/ok.png")
    faults.expect(56, "the same name again, now 127.0.0.1: judged anew, no connection is reused", second, FORBIDDEN)
    assert gateway.connections[opened:] == [f"{PUBLIC}:80"]


def test_56_a_name_that_rebinds_between_two_hops(gateway: Gateway, faults: FaultLog) -> None:
    opened = len(gateway.connections)
    response = gateway.ask("http://flips-at-redirect.example.org/back-to-me")
    faults.expect(56, "name that becomes 10.0.0.1 between a redirect and its target", response, FORBIDDEN)
    assert gateway.connections[opened:] == [f"{PUBLIC}:80"]


def test_56_tls_keeps_the_name(gateway: Gateway, internet: Internet, faults: FaultLog) -> None:
    opened = len(gateway.connections)
    response = gateway.ask("https://pictures.example.org/ok.png")
    faults.expect(
        56, "https by name: the address is connected, SNI, certificate and Host are the name's", response, "200"
    )
    assert internet.web.server_names[-1] == "pictures.example.org"
    assert gateway.connections[opened:] == [f"{PUBLIC}:443"]
    head = internet.web.requests_for("/ok.png")[-1].decode().lower()
    assert "\r\nhost: pictures.example.org\r\n" in head
    assert head.startswith("get /ok.png http/1.1\r\n")


def test_57_to_68_hostile_servers_fail_alone(gateway: Gateway, faults: FaultLog) -> None:
    """In batches, each with a good picture at its end: every failure is its own."""
    urls = [(f"{host}/p{row}" if "://" in host else f"http://{host}/p{row}")
            for row, (_, _, host, _, _) in enumerate(HOSTILE)]  # fmt: skip
    for (number, what, _, _, code), seen in zip(HOSTILE, gateway.each(urls), strict=True):
        faults.expect(number, what, seen, f"422 {code}")
    allowed = {PUBLIC, net.UNTRUSTED, net.EXPIRED, net.NO_TLS, net.CLOSED, *net.DEAD}
    assert {line.rpartition(":")[0] for line in gateway.connections} <= allowed


def test_59_another_host_gets_no_cookie_and_no_credentials(
    gateway: Gateway, internet: Internet, faults: FaultLog
) -> None:
    content = {"images": [{"url": "http://pictures.example.org/to-other"}], "labels": ["a", "b"]}
    response = gateway.client.post(
        "/v1/classify", json=content, headers={"Authorization": f"Bearer {SECRET}", "Cookie": f"session={SECRET}"}
    )
    faults.expect(59, "redirect to another host, with Set-Cookie, asked with Authorization and Cookie", response, "200")
    for path in ("/to-other", "/landed"):
        (head,) = internet.web.requests_for(path)
        names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:] if line}
        assert names == {b"host", b"user-agent", b"accept", b"accept-encoding", b"connection"}
        assert b"\r\nAccept-Encoding: identity\r\n" in head
        assert SECRET.encode() not in head
    assert b"\r\nHost: other.example.com\r\n" in internet.web.requests_for("/landed")[0]


def test_what_must_go_on_working(gateway: Gateway) -> None:
    """Redirects between good places, IPv6 behind a dead first address, interim answers, bare line feeds."""
    paths = ("pictures.example.org/to-https", "both.example.org/ok.png", "half-dead.example.org/ok.png",
             "pictures.example.org/interim", "pictures.example.org/line-feeds")  # fmt: skip
    assert gateway.each([f"http://{path}" for path in paths]) == ["200"] * len(paths)


def test_69_proxies_in_the_environment_are_ignored(gateway: Gateway, recorder: Recorder, faults: FaultLog) -> None:
    response = gateway.ask("http://pictures.example.org/ok.png")
    faults.expect(69, "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and grpc_proxy in the environment", response, "200")
    assert recorder.taken == 0


def test_neither_logs_nor_answers_repeat_a_url(gateway: Gateway) -> None:
    """A signed URL is a credential."""
    seen = ""
    for url in (
        f"http://pictures.example.org/ok.png?X-Signature={SECRET}#{SECRET}",
        f"http://missing.example.org/{SECRET}",
        f"http://user:{SECRET}@pictures.example.org/",
        f"http://10.0.0.1/{SECRET}",
        f"http://pictures.example.org/p0?{SECRET}",
        f"https://untrusted.example.org/{SECRET}",
        f"http://pictures.example.org/{SECRET}" + "a" * 3000,
    ):
        seen += gateway.ask(url).text
    log = (gateway.folder / "gateway-0.log").read_text()
    assert '"route": "/v1/classify"' in log
    for text in (seen, log, gateway.client.get("/metrics").text):
        assert SECRET not in text
        assert "pictures.example.org" not in text
    assert gateway.ask("http://pictures.example.org/" + "a" * 3000).json()["code"] == "source_url_forbidden"


def test_dead_name_servers_do_not_hold_up_others(gateway: Gateway) -> None:
    """Look-ups can be given up: 30 names whose name server is silent, and a good one beside them."""
    assert gateway.each(["http://silent.example.org/ok.png"] * 30) == ["422 source_timeout"] * 30


def test_an_allow_list_and_a_proxy(stack: Stack, internet: Internet, tmp_path: Path, faults: FaultLog) -> None:
    """Both as settings of a second gateway: every connection is the proxy's, to judged addresses of listed hosts."""
    proxy = f"127.0.0.1:{internet.proxy_port}"
    internet.routes[proxy] = internet.proxy_port
    settings = {"FETCH_ALLOWED_HOSTS": "*.example.org", "FETCH_PROXY": f"http://me:{SECRET}@{proxy}"}
    with running_gateway(stack, internet, tmp_path, **settings) as gateway:
        found = gateway.each(
            [
                "http://pictures.example.org/ok.png",
                "https://pictures.example.org/ok.png",
                "https://untrusted.example.org/ok.png",
                "https://wrong-name.example.org/ok.png",
                "http://closed.example.org/ok.png",
            ]
        )
        unreachable = ["422 source_unreachable"] * 3
        assert found == ["200", "200", *unreachable]
        asked = {head.split(b" ")[1].decode() for head in internet.proxy.requests}
        assert asked == {f"{PUBLIC}:80", f"{PUBLIC}:443", f"{net.UNTRUSTED}:443", f"{net.CLOSED}:80"}
        faults.expect(69, "FETCH_PROXY configured: every fetch goes through it, to the judged address", found[0], "200")
        count = len(internet.proxy.requests)
        for number, what, url in (
            (54, "host that is not on the allow-list", "http://other.example.com/ok.png"),
            (50, "name that leads to 10.0.0.1, on the allow-list, with a proxy", "http://v4-0.example.org/ok.png"),
            (55, "mixed answers, with a proxy", "http://mixed.example.org/ok.png"),
        ):
            faults.expect(number, what, gateway.ask(url), FORBIDDEN)
        assert len(internet.proxy.requests) == count
        elsewhere = gateway.ask("http://pictures.example.org/to-other")
        faults.expect(57, "redirect to a host that is not on the allow-list", elsewhere, FORBIDDEN)
        assert len(internet.proxy.requests) == count + 1
        assert set(gateway.connections) == {proxy}
        assert SECRET not in (gateway.folder / "gateway-0.log").read_text()


def test_the_exception_for_tests_says_so_in_the_log(stack: Stack) -> None:
    assert "FETCH_TEST_ALLOWED_HOSTS opens addresses that are not public" in stack.log.read_text()


def test_what_the_gateway_is_made_of_is_forbidden() -> None:
    """Also where Triton or the database have public names or addresses."""
    settings = Settings(
        triton_host="triton.example.org",
        database_url="postgresql+asyncpg://me:x@93.184.216.50,db.example.org:5432/gateway",
        fetch_proxy="http://proxy.example.org:3128",
        fetch_forbidden_hosts="93.184.217.0/24",
    )
    limits = fetch_limits(settings)
    for host in ("triton.example.org", "93.184.216.50", "db.example.org", "proxy.example.org", "93.184.217.9"):
        assert parse_url(f"http://{host}/", limits) is None
    assert parse_url("http://example.org/", limits) is not None
    assert not may_connect(ip_address("93.184.216.50"), limits)
    sockets = Settings(database_url="postgresql+asyncpg://me@%2Fvar%2Frun/gateway")
    assert fetch_limits(sockets).forbidden_hosts


@pytest.mark.parametrize(
    ("name", "value"),
    [("fetch_proxy", f"http://me:{SECRET}/@proxy"), ("fetch_allowed_hosts", "http://a.org"),
     ("fetch_forbidden_hosts", "a.org:80"), ("fetch_dns_servers", "dns.example.org")],
)  # fmt: skip
def test_settings_that_cannot_work_end_the_start(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**{name: value})  # type: ignore[arg-type]
    (error,) = refused.value.errors(include_url=False)
    assert error["loc"] == (name,)
    assert SECRET not in error["msg"]
