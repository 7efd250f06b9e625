"""Looking names up at real name servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.fetching import dns_resolver as resolve
from gateway.fetching.dns_resolver import DnsResolver, NameServer
from tests.support.fake_internet import PUBLIC, PUBLIC_V6, Internet, Zone, running_internet
from tests.support.fake_internet import NameServer as InternetNameServer
from tests.support.waiting import UNTIL_S, only

MANY = [f"93.184.100.{number}" for number in range(200)]
ZONE: Zone = {
    "pictures.example.org": [[PUBLIC]],
    "both.example.org": [["93.184.216.1", "93.184.216.2", PUBLIC_V6]],
    "many.example.org": [MANY],
    "too-many.example.org": [[f"93.{number >> 8}.{number & 255}.1" for number in range(600)]],
    "alias.example.org": [["CNAME pictures.example.org"]],
    "empty.example.org": [[]],
    "silent.example.org": [["SILENT"]],
    "broken.example.org": [["SERVFAIL"]],
}


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    with running_internet(ZONE, {}, tmp_path_factory.mktemp("names")) as made:
        yield made


@pytest.fixture
def resolver(internet: Internet) -> DnsResolver:
    return DnsResolver([NameServer("127.0.0.1", internet.dns_port)], timeout_s=UNTIL_S)


@pytest.fixture
def hasty(internet: Internet) -> DnsResolver:
    return DnsResolver([NameServer("127.0.0.1", internet.dns_port)], timeout_s=0.6)


async def test_addresses_of_both_families_in_turn(resolver: DnsResolver) -> None:
    assert await resolver.resolve("pictures.example.org") == [PUBLIC]
    assert await resolver.resolve("alias.example.org") == [PUBLIC]
    both = await resolver.resolve("both.example.org")
    assert sorted(both) == sorted(["93.184.216.1", "93.184.216.2", PUBLIC_V6])
    assert both[1] == PUBLIC_V6


async def test_more_addresses_than_a_datagram_holds(resolver: DnsResolver) -> None:
    assert sorted(await resolver.resolve("many.example.org")) == sorted(MANY)


async def test_an_answer_has_a_largest_size(resolver: DnsResolver) -> None:
    with pytest.raises(OSError, match="no such name"):
        await resolver.resolve("too-many.example.org")


@pytest.mark.parametrize("name", ["missing.example.org", "empty.example.org", "broken.example.org"])
async def test_names_that_lead_nowhere(resolver: DnsResolver, name: str) -> None:
    with pytest.raises(OSError, match="no such name"):
        await resolver.resolve(name)


async def test_a_look_up_that_gets_no_answer_ends_in_time_and_leaves_nothing(hasty: DnsResolver) -> None:
    before = asyncio.all_tasks()
    start_s = time.monotonic()
    outcomes = await asyncio.gather(*(hasty.resolve("silent.example.org") for _ in range(50)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TimeoutError] * 50
    assert time.monotonic() - start_s < 5
    await only(before)


async def test_look_ups_that_get_no_answer_hold_up_no_other(resolver: DnsResolver) -> None:
    before = asyncio.all_tasks()
    silent = [asyncio.create_task(resolver.resolve("silent.example.org")) for _ in range(50)]
    assert await resolver.resolve("pictures.example.org") == [PUBLIC]
    assert not any(task.done() for task in silent), "they wait for their answers beside it"
    for task in silent:
        task.cancel()
    await only(before)


async def test_a_look_up_can_be_given_up(resolver: DnsResolver) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolver.resolve("silent.example.org"), 0.05)
    await only(before)


async def test_the_systems_name_servers_are_read_again_when_they_change(
    internet: Internet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "resolv.conf"
    monkeypatch.setattr(resolve, "RESOLV_CONF", written)
    monkeypatch.setattr(resolve, "DNS_PORT", internet.dns_port)
    resolver = DnsResolver(timeout_s=UNTIL_S)
    assert await resolver.resolve("pictures.example.org") == [PUBLIC], "without a file: the server on this machine"
    other = InternetNameServer({})
    written.write_text("nameserver 127.0.0.9\nsearch example.org\n")
    endpoint = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: other, ("127.0.0.9", internet.dns_port)
    )
    with contextlib.closing(endpoint[0]), pytest.raises(OSError, match="no such name"):
        await resolver.resolve("pictures.example.org")
    assert ("pictures.example.org", "A") in other.asked
    written.write_text("nameserver 127.0.0.1\nsearch example.org\n")
    assert await resolver.resolve("pictures.example.org") == [PUBLIC]
    with pytest.raises(OSError, match="no such name"):
        await resolver.resolve("pictures")
    assert ("pictures.example.org", "A") in internet.names.asked, "the search domain is never tried"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.2.3.4", ("1.2.3.4", 53)), ("1.2.3.4:5353", ("1.2.3.4", 5353)), ("2001:db8::1", ("2001:db8::1", 53)),
     ("[2001:db8::1]", ("2001:db8::1", 53)), ("[2001:db8::1]:5353", ("2001:db8::1", 5353))],
)  # fmt: skip
def test_name_servers_as_they_are_written(text: str, expected: tuple[str, int]) -> None:
    server = NameServer.parse(text)
    assert (server.address, server.port) == expected


@pytest.mark.parametrize("text", ["", "dns.example.org", "1.2.3.4:0", "1.2.3.4:99999", "1.2.3.4:x", "[::1", "::1:x"])
def test_what_is_no_name_server(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|address|literal"):
        NameServer.parse(text)
