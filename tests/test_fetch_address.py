"""Which URLs, hosts and addresses are let through; the number in a test's id is the one in the list of faults."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.address import SystemResolver, UrlRules, is_public, parse_answer, parse_host, parse_url, redirect_target

RULES = UrlRules(
    max_url_chars=2048,
    ports=(80, 443),
    allowed_test_hosts=frozenset({"127.0.0.1:8080", "pictures:9000"}),
    forbidden_hosts=frozenset({"gateway.example.org", "93.184.216.99"}),
)

FORBIDDEN_URLS = [
    ("45", "file:///etc/passwd"), ("45", "ftp://example.org/a.png"), ("45", "gopher://example.org/"),
    ("45", "data:image/png;base64,AAAA"), ("45", "//example.org/a.png"), ("45", "example.org/a.png"), ("45", ""),
    ("45", "http:/example.org/"), ("45", "http:///a"), ("45", "https:example.org"), ("45", "javascript:alert(1)"),
    ("45", "dict://example.org/"), ("45", "unix:///var/run/docker.sock"), ("45", " http://example.org/"),
    ("46", "http://user@example.org/"), ("46", "http://user:pass@example.org/"), ("46", "http://@example.org/"),
    ("46", "http://example.org\\@127.0.0.1/"), ("46", "http://example.org\\.internal/"), ("46", "http://exa\tmple.org/"),
    ("46", "http://example.org/\r\nHost: x"), ("46", "http://example.org/a b"), ("46", "http://example.org\n/"),
    ("46", "http://example.org/\x00"), ("46", "http://example.org/\x7f"), ("46", "http://example.org/\ud800"),
    ("46", "http://1.1.1.1 &@2.2.2.2# @3.3.3.3/"), ("46", "http://example.org#@127.0.0.1/x@y\\"),
    ("47", "http://example.org:22/"), ("47", "http://example.org:8080/"), ("47", "http://example.org:0/"),
    ("47", "http://example.org:65536/"), ("47", "http://example.org:99999999/"), ("47", "http://example.org:-80/"),
    ("47", "http://example.org:+80/"), ("47", "http://example.org:8\u0660/"), ("47", "http://example.org:80:80/"),
    ("48", "http://2130706433/"), ("48", "http://0x7f000001/"), ("48", "http://0x7f.0.0.1/"),
    ("48", "http://017700000001/"), ("48", "http://0177.0.0.1/"), ("48", "http://127.1/"), ("48", "http://127.0.1/"),
    ("48", "http://0/"), ("48", "http://0x/"), ("48", "http://1.1.1.01/"), ("48", "http://1.1.1.256/"),
    ("48", "http://134744072/"), ("48", "http://8.8.2056/"), ("48", "http://8.8.8.0x8/"), ("48", "http://1.1.1.1.1/"),
    ("49", "http://①②⑦.⓪.⓪.①/"), ("49", "http://127。0。0。1/"), ("49", "http://example。org/"),
    ("49", "http://example.org./"), ("49", "http://1.1.1.1./"), ("49", "http://xn--bcher-kva.example.org/"),
    ("49", "http://bücher.de/"), ("49", "http://ⓔxample.org/"), ("49", "http://exa%6dple.org/"),
    ("49", "http://example.org%00.png/"), ("49", "http://example..org/"), ("49", "http://.example.org/"),
    ("49", "http://-a.org/"), ("49", "http://a" + "a" * 63 + ".org/"), ("49", "http://" + "a." * 130 + "org/"),
    ("49", "http://ex\u00adample.org/"), ("49", "http://example.org\u2028/"), ("49", "http://\u212aelvin.org/"), ("49", "http\u017f://example.org/"),
    ("50", "http://10.0.0.1/"), ("50", "http://172.16.0.1/"), ("50", "http://172.31.255.255/"),
    ("50", "http://192.168.1.1/"), ("50", "http://100.64.0.1/"), ("50", "http://169.254.1.1/"),
    ("50", "http://224.0.0.1/"), ("50", "http://240.0.0.1/"), ("50", "http://255.255.255.255/"),
    ("50", "http://127.0.0.1/"), ("50", "http://127.255.0.1/"), ("50", "http://0.0.0.0/"), ("50", "http://[::1]/"),
    ("50", "http://[::]/"), ("50", "http://[fc00::1]/"), ("50", "http://[fe80::1]/"), ("50", "http://[fe80::1%25lo]/"),
    ("50", "http://[fec0::1]/"), ("50", "http://[ff02::1]/"), ("50", "http://192.0.2.1/"), ("50", "http://198.18.0.1/"),
    ("51", "http://[::ffff:127.0.0.1]/"), ("51", "http://[::ffff:7f00:1]/"), ("51", "http://[::127.0.0.1]/"),
    ("51", "http://[64:ff9b::7f00:1]/"), ("51", "http://[64:ff9b:1::1]/"), ("51", "http://[2002:7f00:1::]/"),
    ("51", "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/"), ("51", "http://[2600::5efe:10.0.0.1]/"),
    ("51", "http://[2600::200:5efe:7f00:1]/"),
    ("52", "http://169.254.169.254/latest/meta-data/"), ("52", "http://168.63.129.16/"), ("52", "http://[fd00:ec2::254]/"),
    ("52", "http://metadata.google.internal/"), ("52", "http://METADATA.google.internal/"),
    ("52", "http://100.100.100.200/"), ("52", "http://192.0.0.192/"),
    ("53", "http://localhost/"), ("53", "http://a.localhost/"), ("53", "http://printer.local/"), ("53", "http://metadata/"),
    ("53", "http://db.internal/"), ("53", "http://router.home.arpa/"), ("53", "http://a.lan/"), ("53", "http://x.onion/"),
    ("53", "http://a.svc.cluster.local/"),
    ("54", "http://gateway.example.org/"), ("54", "http://93.184.216.99/"),
    ("length", "http://example.org/" + "a" * 2048),
]  # fmt: skip


@pytest.mark.parametrize("url", [pytest.param(url, id=f"{number}-{url[:40]!a}") for number, url in FORBIDDEN_URLS])
def test_forbidden_urls(url: str) -> None:
    assert parse_url(url, RULES) is None


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("http://example.org", "example.org", 80, "/", "example.org"),
        ("HTTPS://Example.ORG/A?b=1#c", "example.org", 443, "/A?b=1", "example.org"),
        ("https://example.org?x=1", "example.org", 443, "/?x=1", "example.org"),
        ("http://example.org:443/", "example.org", 443, "/", "example.org:443"),
        ("http://example.org:80/", "example.org", 80, "/", "example.org"),
        ("http://a_b.example.co.uk/%20", "a_b.example.co.uk", 80, "/%20", "a_b.example.co.uk"),
        ("http://example.org/é?ü", "example.org", 80, "/%C3%A9?%C3%BC", "example.org"),
        ("http://1.1.1.1/a", "1.1.1.1", 80, "/a", "1.1.1.1"),
        ("http://[2606:4700::1111]/", "2606:4700::1111", 80, "/", "[2606:4700::1111]"),
        ("http://127.0.0.1:8080/", "127.0.0.1", 8080, "/", "127.0.0.1:8080"),
        ("http://pictures:9000/", "pictures", 9000, "/", "pictures:9000"),
        ("http://example.org/@/a:b", "example.org", 80, "/@/a:b", "example.org"),
    ],
)
def test_allowed_urls(url: str, host: str, port: int, path: str, authority: str) -> None:
    target = parse_url(url, RULES)
    assert target is not None
    assert (target.host, target.port, target.path, target.authority) == (host, port, path, authority)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/b", "http://example.org/b"),
        ("b?c", "http://example.org/a/b?c"),
        ("//other.example.com/x", "http://other.example.com/x"),
        ("https://other.example.com/", "https://other.example.com/"),
        ("//localhost/", None), ("//127.0.0.1/", None), ("//host/", None), ("file:///etc/passwd", None),
        ("http://10.0.0.1/", None), ("http://example.org:22/", None), ("\\\\10.0.0.1\\x", None), ("http://[::1", None),
        ("gopher:x", None), ("ht\ttp://10.0.0.1/", None), ("http://user@example.org/", None),
    ],
)  # fmt: skip
def test_57_redirects_are_judged_like_urls(location: str, expected: str | None) -> None:
    source = parse_url("http://example.org/a/", RULES)
    assert source is not None
    assert redirect_target(source, location, RULES) == (parse_url(expected, RULES) if expected else None)


@pytest.mark.parametrize(
    "address",
    [  # is_global says True of the first six in Python 3.11
        "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "fec0::1", "224.0.0.1", "168.63.129.16",
        "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1:abcd::1", "100::1", "2001:db8::1", "2001:2::1", "3fff::1",
        "5f00::1", "ff0e::1", "fd00:ec2::254", "192.88.99.1", "192.0.0.8", "203.0.113.7", "198.51.100.1", "0.1.2.3",
        "2001::1", "2001:10::1", "2001:20::1", "4000::1", "1::1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe",
        "2002:808:808::1",
    ],
)  # fmt: skip
def test_50_51_52_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1",
     "64:ff9b::808:808", "::ffff:8.8.8.8", "2600::5efe:8.8.8.8", "192.0.1.1", "2001:200::1"],
)  # fmt: skip
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_embedding_never_makes_a_private_address_public(address: object) -> None:
    inner = ip_address(str(address))
    for wrapped in (f"::ffff:{inner}", f"64:ff9b::{inner}", f"::{inner}", f"2600::5efe:{inner}"):
        assert is_public(inner) or not is_public(ip_address(wrapped))


@given(st.ip_addresses())
def test_the_standard_library_never_knows_better(address: object) -> None:
    inner = ip_address(str(address))
    # 192.88.99.0/24 and the like are ours in addition; nothing that is not global may pass.
    assert inner.is_global or not is_public(inner)


@given(st.text(max_size=40))
def test_any_text_is_judged_without_a_crash(text: str) -> None:
    parse_url(f"http://{text}/", RULES)
    parse_url(text, RULES)
    parse_host(text.lower())
    parse_answer(text)


def test_answers_with_a_zone_are_not_addresses() -> None:
    assert parse_answer("fe80::1%eth0") is None
    assert parse_answer("nonsense") is None


async def test_62_abandoned_look_ups_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that gives up leaves its thread busy; later ones wait for a thread, and none is added."""
    running, peak, gate, lock = 0, 0, threading.Event(), threading.Lock()

    def slow(*_: object, **__: object) -> list[tuple[object, object, object, str, tuple[str, int]]]:
        nonlocal running, peak
        with lock:
            running, peak = running + 1, max(peak, running + 1)
        gate.wait(10)
        with lock:
            running -= 1
        return [(0, 0, 0, "", ("8.8.8.8", 80)), (0, 0, 0, "", ("8.8.8.8", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    resolver = SystemResolver(max_lookups=3)
    start_s = time.monotonic()
    lookups = [asyncio.wait_for(resolver.resolve("a.example.org", 80), 0.1) for _ in range(20)]
    outcomes = await asyncio.gather(*lookups, return_exceptions=True)
    assert all(isinstance(outcome, TimeoutError) for outcome in outcomes)
    assert time.monotonic() - start_s < 2
    assert peak == 3
    gate.set()
    assert await asyncio.wait_for(resolver.resolve("a.example.org", 80), 2) == ["8.8.8.8"]
    assert peak == 3
    await resolver.aclose()


async def test_60_names_that_do_not_exist_are_os_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", missing)
    resolver = SystemResolver()
    with pytest.raises(OSError, match="not known"):
        await resolver.resolve("missing.example.org", 80)
    await resolver.aclose()
