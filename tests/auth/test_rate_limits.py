"""The rate of a key: counted here or in a shared store, and here while that one is away, slow or wrong."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from gateway.auth import rate_limits as module
from gateway.auth.api_keys import ApiKey
from gateway.auth.rate_limits import CONNECTIONS, RateLimits, RateLimitStatus, RateLimitStoreInvalid
from tests.conftest import free_ports
from tests.support.log_lines import collected
from tests.support.redis_server import redis_server
from tests.support.waiting import UNTIL_S, until


def key(name: str, rate: str | None = "3/minute") -> ApiKey:
    return ApiKey(name, name.encode(), frozenset({"infer"}), rate)


async def hit(rate_limits: RateLimits, name: str = "a", rate: str = "3/minute") -> RateLimitStatus:
    async with asyncio.timeout(UNTIL_S):
        status = await rate_limits.hit(key(name, rate))
    assert status is not None
    return status


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time of day, in seconds; minutes of the counters begin at whole multiples of 60."""
    return lambda now: monkeypatch.setattr(time, "time", lambda: now)


async def test_a_key_without_a_rate_is_not_counted() -> None:
    assert await RateLimits().hit(key("a", None)) is None


async def test_without_a_shared_store_none_is_missed() -> None:
    rate_limits = RateLimits()
    with collected() as lines:
        assert (await hit(rate_limits)).admitted
    await rate_limits.close()
    assert lines == []


async def test_so_many_requests_pass_in_a_window_and_then_one_as_each_third_of_it_has_gone_by(
    clock: Callable[[float], None],
) -> None:
    """Three a minute: the earlier minute's three count less and less, so that one of them is over every 20 s."""
    rate_limits = RateLimits()
    clock(610.5)
    assert [await hit(rate_limits) for _ in range(4)] == [
        RateLimitStatus(admitted=True, limit=3, window_s=60, remaining=2, reset_s=50),
        RateLimitStatus(admitted=True, limit=3, window_s=60, remaining=1, reset_s=50),
        RateLimitStatus(admitted=True, limit=3, window_s=60, remaining=0, reset_s=50),
        RateLimitStatus(admitted=False, limit=3, window_s=60, remaining=0, reset_s=50),
    ]
    clock(660.0)
    at_once = await hit(rate_limits)
    assert (at_once.admitted, at_once.reset_s) == (False, 1), "never 0, which would mean now"
    clock(660.6)
    assert await hit(rate_limits) == RateLimitStatus(admitted=True, limit=3, window_s=60, remaining=0, reset_s=20)
    assert not (await hit(rate_limits)).admitted
    clock(680.1)
    assert (await hit(rate_limits)).admitted
    assert not (await hit(rate_limits)).admitted


async def test_each_name_has_its_own_rate_and_keys_of_one_name_share_it(clock: Callable[[float], None]) -> None:
    clock(36_600.5)
    rate_limits = RateLimits()
    first, second = (ApiKey("a", digest, frozenset({"infer"}), "3/hour") for digest in (b"1", b"2"))
    hits = [await rate_limits.hit(one) for one in (first, second, first, second)]
    assert [status and status.admitted for status in hits] == [True, True, True, False]
    assert (await hit(rate_limits, "b", "3/hour")).remaining == 2


async def test_whoever_waits_as_told_is_admitted() -> None:
    rate_limits = RateLimits()
    while (status := await hit(rate_limits, rate="2/second")).admitted:
        pass
    await asyncio.sleep(status.reset_s)
    assert (await hit(rate_limits, rate="2/second")).admitted


BEGINS = "^an address begins with redis:// or rediss://$"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host", BEGINS),
        ("memory://", BEGINS),
        ("async+redis://host", BEGINS),
        ("redis", BEGINS),
        ("redis://host:port", "^the address cannot be read$"),
        ("rediss://host/0?socket_timeout=host", "^the address cannot be read$"),
    ],
)
def test_addresses_of_no_shared_store(url: str, said: str) -> None:
    with pytest.raises(RateLimitStoreInvalid, match=said) as raised:
        RateLimits(url)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None or raised.value.__suppress_context__, (
        "what the library says of it may repeat a password"
    )


def test_the_extra_is_named_that_a_shared_store_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(RateLimitStoreInvalid, match=r"^it needs the extra redis: pip install '\.\[redis\]'$"):
        RateLimits("redis://host")


async def test_a_store_with_tls_is_an_address_too() -> None:
    await RateLimits("rediss://host:6380/1").close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis."""
    with redis_server(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the shared store waits for it, however busy the machine is."""
    monkeypatch.setattr(module, "SHARED_TIMEOUT_S", UNTIL_S)


@asynccontextmanager
async def gateways(url: str, count: int) -> AsyncIterator[list[RateLimits]]:
    made = [RateLimits(url) for _ in range(count)]
    yield made
    for one in made:
        await one.close()


def clients(url: str) -> int:
    """How many clients a Redis has, this one left out."""
    with redis.Redis.from_url(url) as asking:
        return int(asking.info("clients")["connected_clients"]) - 1


@pytest.mark.usefixtures("patient")
async def test_gateways_count_together_in_a_shared_store_under_a_name_of_their_own(shared: str) -> None:
    with collected() as lines:
        async with gateways(shared, 2) as made:
            hits = [await hit(one, "together", "4/hour") for one in made * 3]
    assert lines == [], "none counted by itself"
    assert 4 <= sum(status.admitted for status in hits) <= 5, "one more where two windows meet"
    assert not hits[-1].admitted
    assert (hits[-1].limit, hits[-1].window_s) == (4, 3600)
    assert 1 <= hits[-1].reset_s <= 3600
    with redis.Redis.from_url(shared) as asking:
        names = asking.keys()
    assert names
    assert all(name.strip(b"{").startswith(b"clip-gateway:") for name in names)
    assert any(b"together" in name for name in names)


@pytest.mark.usefixtures("patient")
async def test_connections_to_a_shared_store_are_bounded_and_given_up(shared: str) -> None:
    before = clients(shared)
    async with gateways(shared, 1) as (one,):
        await asyncio.gather(*(hit(one, "bounded", "1000/hour") for _ in range(4 * CONNECTIONS)))
        assert 1 <= clients(shared) - before <= CONNECTIONS
    until(lambda: clients(shared) == before)


def failed(error: str) -> dict[str, Any]:
    event = "the shared rate store failed; counting by myself"
    return {"logger": "rate_limits", "level": "warning", "event": event, "error": error}


async def test_a_shared_store_that_is_away_is_asked_once_in_a_while() -> None:
    with collected() as lines:
        async with gateways(f"redis://127.0.0.1:{free_ports(1)[0]}", 1) as (one,):
            hits = [await hit(one, rate="2/hour") for _ in range(4)]
    assert 2 <= sum(status.admitted for status in hits) <= 3, "counted here instead"
    assert not hits[-1].admitted
    assert lines == [failed("ConnectionError")]


async def test_a_shared_store_that_ends_leaves_each_gateway_its_own_count(tmp_path_factory: Any) -> None:
    with redis_server(tmp_path_factory.mktemp("ending")) as (url, process):
        async with gateways(url, 1) as (one,):
            await hit(one, rate="4/hour")
            process.terminate()
            process.wait()
            assert (await hit(one, rate="4/hour")).remaining == 3


@asynccontextmanager
async def store(answer: bytes, every_s: float) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A shared store that sends the same again and again: its address, and what was first asked each time."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append(await reader.read(100))
            while answer:
                await asyncio.sleep(every_s)
                writer.write(answer)
                await writer.drain()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


@pytest.mark.parametrize(
    ("answer", "every_s"),
    [(b"", 0.0), (b"+", 0.05), (b"+OK\r\n", 0.2)],
    ids=["never", "never in full", "late to each of several commands"],
)
@pytest.mark.parametrize(("pause_s", "times"), [(3600.0, 1), (0.0, 2)])
async def test_a_shared_store_that_does_not_answer_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, every_s: float, pause_s: float, times: int
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", pause_s)
    with collected() as lines:
        async with store(answer, every_s) as (url, asked), gateways(url, 1) as (one,):
            assert [(await hit(one, rate="5/hour")).remaining for _ in range(2)] == [4, 3]
            assert len(asked) == times
    assert lines == [failed("TimeoutError")] * times
