"""Which URLs, hosts and addresses are let through; the number in a test's id is the one in the list of faults."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_address

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fetching.host_patterns import HostPatterns
from gateway.fetching.ssrf import (
    SourceUrl,
    UrlRules,
    is_public,
    may_connect,
    parse_answer,
    parse_host,
    parse_url,
    redirect_target,
)
from gateway.fetching.transport import is_own
from tests.conftest import ROOT
from tests.support.forbidden_urls import FORBIDDEN_URLS, OWN_ADDRESS, OWN_NAME

RULES = UrlRules(
    max_url_chars=2048,
    ports=(80, 443),
    allowed_test_hosts=frozenset({"127.0.0.1:8080", "pictures:9000"}),
    forbidden_hosts=HostPatterns.parse([OWN_NAME, OWN_ADDRESS]),
)
OWN_ADDRESSES = [
    entry.address.partition("%")[0]
    for entries in psutil.net_if_addrs().values()
    for entry in entries
    if entry.family in {socket.AF_INET, socket.AF_INET6} and not entry.address.startswith("fe80")
]


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
        ("http://example.org/a b?c d", "example.org", 80, "/a%20b?c%20d", "example.org"),
        ("http://example.org/a/./b/../%2E%2e/c/..", "example.org", 80, "/", "example.org"),
        ("http://example.org/a//b/../c", "example.org", 80, "/a//c", "example.org"),
        ("http://bücher.de/", "xn--bcher-kva.de", 80, "/", "xn--bcher-kva.de"),
        ("http://BÜCHER.de/", "xn--bcher-kva.de", 80, "/", "xn--bcher-kva.de"),
        ("http://bu\u0308cher.de:443/", "xn--bcher-kva.de", 443, "/", "xn--bcher-kva.de:443"),
        ("http://XN--Bcher-KVA.de/", "xn--bcher-kva.de", 80, "/", "xn--bcher-kva.de"),
        ("https://faß.de/", "xn--fa-hia.de", 443, "/", "xn--fa-hia.de"),
        ("http://例え。テスト/", "xn--r8jz45g.xn--zckzah", 80, "/", "xn--r8jz45g.xn--zckzah"),
        ("http://i❤.ws/", "xn--i-7iq.ws", 80, "/", "xn--i-7iq.ws"),
        ("http://ΣΑΣ.gr/", "xn--mxa9ab.gr", 80, "/", "xn--mxa9ab.gr"),
        ("http://ex\u00adample。org/", "example.org", 80, "/", "example.org"),
        ("http://\u212aelvin.ⓞrg/", "kelvin.org", 80, "/", "kelvin.org"),
        ("http://r4---sn-a_b.example.org/", "r4---sn-a_b.example.org", 80, "/", "r4---sn-a_b.example.org"),
        ("http://１。１。１。１/a", "1.1.1.1", 80, "/a", "1.1.1.1"),
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
        (" /b ", "http://example.org/b"), ("\t/b\r\n\x00", "http://example.org/b"), ("/b c.png", "http://example.org/b%20c.png"),
        ("b\tc?d\ne", "http://example.org/a/bc?de"), ("ht\ttp://other.example.com/", "http://other.example.com/"),
        ('/"<>^`{}|\'?"<>^`{}|\'', "http://example.org/%22%3C%3E%5E%60%7B%7D|'?%22%3C%3E^`{}|%27"),
        ("/%20%zz", "http://example.org/%20%zz"), ("/é", "http://example.org/%C3%A9"), ("/\udce9", "http://example.org/%E9"),
        ("/b#c d", "http://example.org/b"), ("#c", "http://example.org/a/"), ("", "http://example.org/a/"),
        ("?c#d", "http://example.org/a/?c"), ("../../../b", "http://example.org/b"), ("./b/../c/", "http://example.org/a/c/"),
        ("%2e%2E/b", "http://example.org/b"), ("..", "http://example.org/"), ("/x//y", "http://example.org/x//y"),
        ("\\b\\c?d\\e", "http://example.org/b/c?d\\e"), ("\\\\other.example.com\\x", "http://other.example.com/x"),
        ("///other.example.com/x", "http://other.example.com/x"), ("http:b", "http://example.org/a/b"),
        ("http:/b", "http://example.org/b"), ("https:other.example.com", "https://other.example.com/"),
        ("http:\\\\other.example.com", "http://other.example.com/"), ("//bücher.de/ü", "http://xn--bcher-kva.de/%C3%BC"),
        ("//xn--bcher-kva.de", "http://xn--bcher-kva.de/"), ("HTTP://OTHER.example.com", "http://other.example.com/"),
        ("//１２７。０。０。１/", None), ("/\\10.0.0.1/", None), ("\t//\n10.0.0.1/", None), ("https:10.0.0.1", None),
        ("https:/\\localhost", None), ("//\udce9.org/", None), ("//example.org\\@10.0.0.1/", "http://example.org/@10.0.0.1/"),
        ("data:image/png;base64,AAAA", None), ("localhost:80/a", None), ("//a b.org/", None),
        ("//example.org%2f/", None),
        ("//localhost/", None), ("//127.0.0.1/", None), ("//host/", None), ("file:///etc/passwd", None),
        ("http://10.0.0.1/", None), ("http://example.org:22/", None), ("\\\\10.0.0.1\\x", None), ("http://[::1", None),
        ("gopher:x", None), ("ht\ttp://10.0.0.1/", None), ("http://10.0.0.1\t/", None),
        ("http://user@example.org/", None),
    ],
)  # fmt: skip
def test_57_redirects_are_judged_like_urls(location: str, expected: str | None) -> None:
    source = parse_url("http://example.org/a/", RULES)
    assert source is not None
    target = redirect_target(source, location, RULES)
    assert (target and f"{target.scheme}://{target.authority}{target.path}") == expected


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


@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("169.254.169.254", "AWS, Google, Azure, Oracle, OpenStack, DigitalOcean, Hetzner, IBM and most others"),
        ("169.254.170.2", "AWS ECS: credentials of tasks"), ("169.254.170.23", "AWS EKS: credentials of pods"),
        ("169.254.169.253", "AWS: DNS resolver"), ("169.254.169.123", "AWS: time"), ("169.254.42.42", "Scaleway"),
        ("169.254.0.23", "Tencent Cloud"), ("fd00:ec2::254", "AWS"), ("fd00:ec2::23", "AWS EKS: credentials of pods"),
        ("fd20:ce::254", "Google"), ("fd00:c1::a9fe:a9fe", "Oracle"), ("fd00:42::42", "Scaleway"),
        ("fe80::a9fe:a9fe", "OpenStack"), ("192.0.0.192", "Oracle Cloud Classic"), ("100.100.100.200", "Alibaba Cloud"),
        ("100.96.0.96", "Volcano Engine"), ("168.63.129.16", "Azure: platform channel"),
        ("192.80.8.124", "Equinix Metal, formerly Packet"), ("161.26.0.10", "IBM Cloud: infrastructure services"),
        ("166.8.0.1", "IBM Cloud: service endpoints"), ("166.11.255.255", "IBM Cloud: service endpoints"),
    ],
)  # fmt: skip
def test_52_addresses_inside_clouds(address: str, owner: str) -> None:
    assert not is_public(ip_address(address)), owner
    if "." in address:
        wrapped = (f"::ffff:{address}", f"64:ff9b::{address}", f"2600::5efe:{address}")
        assert not any(is_public(ip_address(text)) for text in wrapped), owner


def test_neighbours_of_addresses_inside_clouds_are_public() -> None:
    for address in ("168.63.129.17", "192.80.8.123", "192.80.8.125", "161.25.255.255", "161.27.0.0", "166.12.0.0"):
        assert is_public(ip_address(address))


def test_answers_with_a_zone_are_not_addresses() -> None:
    assert parse_answer("fe80::1%eth0") is None
    assert parse_answer("nonsense") is None


def test_answers_are_read_and_judged_by_themselves() -> None:
    """A resolver may give a private address: reading it is one thing, connecting to it another."""
    for text in ("93.184.216.34", "10.0.0.1", "2606:4700::1111", "fe80::1"):
        assert parse_answer(text) == ip_address(text)
    assert may_connect(ip_address("93.184.216.34"), RULES)
    assert may_connect(ip_address("2606:4700::1111"), RULES)
    assert not may_connect(ip_address("10.0.0.1"), RULES)
    assert not may_connect(ip_address(OWN_ADDRESS), RULES)
    assert may_connect(ip_address(OWN_ADDRESS), UrlRules())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTPS://Example.org/", SourceUrl("https", "example.org", 443, "/", exempt=False)),
        ("http://Example.org:443", SourceUrl("http", "example.org", 443, "/", exempt=False)),
        ("http://1.1.1.1/", SourceUrl("http", "1.1.1.1", 80, "/", exempt=False)),
        ("https://[2606:4700:0::1111]/", SourceUrl("https", "2606:4700::1111", 443, "/", exempt=False)),
        ("http://pictures:9000/", SourceUrl("http", "pictures", 9000, "/", exempt=True)),
        ("http://127.0.0.1:8080/", SourceUrl("http", "127.0.0.1", 8080, "/", exempt=True)),
        ("https://[::1]:8443/?a", SourceUrl("https", "::1", 8443, "/?a", exempt=True)),
    ],
)
def test_the_parts_of_a_url(url: str, expected: SourceUrl) -> None:
    rules = replace(RULES, allowed_test_hosts=RULES.allowed_test_hosts | {"[::1]:8443"})
    assert parse_url(url, rules) == expected


def test_what_a_path_may_hold_is_sent_as_it_stands_and_the_rest_as_utf8_in_hexadecimal() -> None:
    """WHATWG URL: the path percent-encode set, and the special-query one."""
    for kept, encoded, others in (
        ("/!$%&'()*+,-./:;=@_~[]|09azAZ", '"<>^`{}€ ', "%22%3C%3E%5E%60%7B%7D%E2%82%AC%20"),
        ("/?!$%&()*+,-./:;=?@_~[]^`{|}09azAZ", "'\"<>€ \u00a0", "%27%22%3C%3E%E2%82%AC%20%C2%A0"),
    ):
        made = parse_url("http://example.org" + kept + encoded + "a", RULES)
        assert made is not None
        assert made.path == kept + others + "a"


def test_a_bracketed_host_is_closed_and_has_no_zone() -> None:
    assert parse_host("[2606:4700::1111]") == ip_address("2606:4700::1111")
    for host in ("[2606:4700::1111", "[2606:4700::11111", "[2606:4700::1111%1]", "[2606:4700::1111%25eth0]"):
        assert parse_host(host) is None


def test_a_name_has_253_characters_and_a_label_63_at_most() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(longest) == 253
    assert parse_host(longest) == longest
    assert parse_host(longest + "b") is None
    assert parse_host("a" * 64 + ".org") is None
    assert parse_host("a.b") == "a.b"
    assert parse_host("a") is None


def test_a_redirects_location_is_judged_as_it_was_sent() -> None:
    """Its length counts before tabs and dot segments are taken out."""
    source = parse_url("http://example.org/a/", RULES)
    assert source is not None
    longest = "http://example.org/" + "a" * (RULES.max_url_chars - len("http://example.org/"))
    assert redirect_target(source, longest, RULES) == parse_url(longest, RULES) is not None
    assert redirect_target(source, longest + "a", RULES) is None
    assert redirect_target(source, "/" + "./" * 1100 + "b", RULES) is None


def test_a_url_has_a_longest_length() -> None:
    url = "http://example.org/" + "a" * (RULES.max_url_chars - len("http://example.org/"))
    assert parse_url(url, RULES) is not None
    assert parse_url(url + "a", RULES) is None


HOSTS = HostPatterns.parse(["pictures.example.org", "*.cdn.example.org", "1.1.1.1", "8.8.8.0/24", "[2606:4700::1111]"])


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://pictures.example.org/", True), ("http://PICTURES.example.org/", True), ("http://example.org/", False),
        ("http://a.cdn.example.org/", True), ("http://a.b.cdn.example.org/", True), ("http://cdn.example.org/", False),
        ("http://xcdn.example.org/", False), ("http://pictures.example.org.evil.com/", False),
        ("http://1.1.1.1/", True), ("http://1.1.1.2/", False), ("http://8.8.8.8/", True),
        ("http://[2606:4700::1111]/", True), ("http://[2606:4700:0::1111]/", True),
        ("http://[2606:4700::1112]/", False),
        ("http://[::ffff:8.8.8.8]/", True), ("http://127.0.0.1:8080/", True),
    ],
)  # fmt: skip
def test_a_list_of_hosts_restricts(url: str, allowed: bool) -> None:  # noqa: FBT001
    assert (parse_url(url, replace(RULES, allowed_hosts=HOSTS)) is not None) == allowed


def test_a_list_of_hosts_opens_nothing() -> None:
    everything = HostPatterns.parse(["localhost", "*.internal", "10.0.0.0/8", "127.0.0.1", "::/0", "0.0.0.0/0"])
    for _, url in FORBIDDEN_URLS:
        assert parse_url(url, replace(RULES, allowed_hosts=everything)) is None
    assert not may_connect(ip_address("10.0.0.1"), replace(RULES, allowed_hosts=everything))


@pytest.mark.parametrize(
    "entry", ["http://a.org", "a.org:80", "a b", "", "*", "*.", "a.*.org", "a/b", "1.2.3.4/33", "é.org"]
)
def test_a_list_of_hosts_is_checked(entry: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        HostPatterns.parse(["a.org", entry])


def test_54_own_addresses_are_known_to_the_kernel() -> None:
    for address in ("127.0.0.1", "::1", *OWN_ADDRESSES):
        assert is_own(ip_address(address))
    assert not is_own(ip_address("93.184.216.34"))
    assert not is_own(ip_address("2606:4700::1111"))


def test_54_a_public_address_of_this_machine_is_its_own() -> None:
    """In a network namespace, where an interface may be given a public address."""
    code = (
        "from ipaddress import ip_address\n"
        "from gateway.fetching.transport import is_own\n"
        "assert is_own(ip_address('93.184.216.34')) and is_own(ip_address('2606:4700::1111'))\n"
        "assert not is_own(ip_address('93.184.216.35'))\n"
    )
    addresses = (
        "ip link set lo up && ip address add 93.184.216.34/32 dev lo && ip address add 2606:4700::1111/128 dev lo"
    )
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", f'{addresses} && exec "$@"', "sh"]
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("network namespaces are not allowed here")
    run = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
