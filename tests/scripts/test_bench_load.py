"""What a benchmark's load says of a server, whatever way that answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from scripts.bench.client import GENERATIONS, LONGEST, Load, Steady, closed_loop, posted

ANSWER = b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n{}"


class Waiting(asyncio.Protocol):
    """A connection whose request waits until it is answered."""

    def __init__(self, waiting: list[asyncio.Transport]) -> None:
        self._waiting = waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._waiting += [self._transport] * data.count(b"\r\n\r\n")


@asynccontextmanager
async def answering(every_s: float) -> AsyncIterator[tuple[str, int]]:
    """A server that answers all that wait at once, every so many seconds."""
    waiting: list[asyncio.Transport] = []

    async def answer() -> None:
        while True:
            await asyncio.sleep(every_s)
            for one in waiting:
                one.write(ANSWER)
            waiting.clear()

    server = await asyncio.get_running_loop().create_server(lambda: Waiting(waiting), "127.0.0.1", 0)
    answers = asyncio.create_task(answer())
    async with server:
        yield server.sockets[0].getsockname()[:2]
        answers.cancel()


async def test_a_server_that_answers_in_bursts_has_a_rate() -> None:
    async with answering(0.2) as address:
        load = await closed_loop(address, [posted("/", b"")], 8, 0.1, warm=0)
    assert load.statuses == {200: len(load.latencies_s)}
    assert len(load.latencies_s) >= 8 * GENERATIONS
    assert load.rate > 0
    assert load.served == load.rate


def test_refusals_at_the_beginning_take_nothing_from_what_was_served_later() -> None:
    refused = [0.0001 * number for number in range(1000)]
    served = [1.0 + 0.01 * number for number in range(300)]
    load = Load([0.01] * 1300, refused + served, 4.0, 4.0, 0.0, [503] * 1000 + [200] * 300)
    assert load.served == load.rate == pytest.approx(300 / 3.2)
    assert load.statuses == {503: 1000, 200: 300}


def test_a_server_that_answers_nothing_is_not_waited_for_for_ever() -> None:
    steady = Steady(64, 1.0)
    assert steady.goes_on(steady.start + 2, 0)
    assert not steady.goes_on(steady.start + LONGEST, 0)
    assert not steady.goes_on(steady.start + LONGEST + 5, 0)
    assert steady.asked_s == pytest.approx(LONGEST)
