"""Clients that hold connections by sending next to nothing, and come again whenever they are ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class SlowSenders:
    """Senders of one byte every few seconds, which reconnect as soon as they are ended.

    Args:
        port: of the server.
        head: what each begins with.
        sources: addresses they come from, in turns.
        every_s: seconds from byte to byte.
        stubborn: they send on after an answer and its end, until the connection is reset.

    Attributes:
        connected: how many have a connection and have sent their head.
        answers: statuses they were answered with.
    """

    def __init__(self, port: int, head: bytes, sources: Sequence[str], every_s: float, *, stubborn: bool) -> None:
        self._port = port
        self._head = head
        self._sources = sources
        self._every_s = every_s
        self._stubborn = stubborn
        self.connected = 0
        self.answers: Counter[int] = Counter()

    async def send(self, number: int) -> None:
        """Be one of them, until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                await self._hold(self._sources[number % len(self._sources)])
            await asyncio.sleep(0)

    async def _hold(self, source: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(source, 0))
        reading = asyncio.create_task(self._read(reader))
        self.connected += 1
        try:
            writer.write(self._head)
            while self._stubborn or not reading.done():
                await writer.drain()
                await (
                    asyncio.sleep(self._every_s) if self._stubborn else asyncio.wait([reading], timeout=self._every_s)
                )
                writer.write(b"x")
        finally:
            self.connected -= 1
            writer.transport.abort()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        if first := await reader.readline():
            self.answers[int(first[9:12])] += 1
        while await reader.read(65536):
            pass


@asynccontextmanager
async def slow_senders(
    port: int, count: int, head: bytes, sources: Sequence[str], *, every_s: float = 8.0, stubborn: bool = False
) -> AsyncIterator[SlowSenders]:
    """Have so many of them while inside, from the time on that all are connected."""
    senders = SlowSenders(port, head, sources, every_s, stubborn=stubborn)
    tasks = [asyncio.create_task(senders.send(number)) for number in range(count)]
    try:
        async with asyncio.timeout(60):
            while senders.connected < count * 0.9:  # noqa: ASYNC110 - those that are ended are between two connections
                await asyncio.sleep(0.05)
        yield senders
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
