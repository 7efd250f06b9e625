"""Bounds on the memory of work in progress: what does not fit waits for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from gateway.limits.deadline import Deadline

Allowance = Callable[[int], bool]
"""Takes so many bytes, and returns whether there was room."""


class MemoryBudget:
    """Lets work in while its estimated memory fits; first come, first served, so that nothing large starves.

    Args:
        capacity: bytes. Work that alone needs more is let in when it is alone.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._queue = asyncio.Lock()  # held by the first that waits; the others wait for it, in their order
        self._given_back = asyncio.Event()

    @asynccontextmanager
    async def hold(self, count: int, deadline: Deadline) -> AsyncIterator[None]:
        """Hold ``count`` bytes, once there is room.

        Raises:
            DeadlineExceeded: there was no room in time.
        """
        async with deadline.enforced():
            taken = await self.take(count)
        try:
            yield
        finally:
            self.give(taken)

    async def take(self, count: int) -> int:
        """Take ``count`` bytes when there is room; return how many are to be given back, at most the capacity."""
        count = min(count, self._capacity)
        async with self._queue:
            while self._used + count > self._capacity:
                self._given_back.clear()
                await self._given_back.wait()
            self._used += count
        return count

    @contextmanager
    def allowance(self) -> Iterator[Allowance]:
        """Yield what takes bytes, or says that there is no room; all are given back at the end."""
        taken = 0

        def take(count: int) -> bool:
            nonlocal taken
            if self._used + count > self._capacity:
                return False
            self._used += count
            taken += count
            return True

        try:
            yield take
        finally:
            self.give(taken)

    def give(self, count: int) -> None:
        """Give bytes back."""
        self._used -= count
        self._given_back.set()


@dataclass(frozen=True, slots=True)
class Budgets:
    """Memory that images may take, by what it is for, and how many are decoded at a time.

    Attributes:
        views: squares on their way to the model.
        decode: files whose turn to be decoded has come, and their frames.
        turns: one for each decoder.
    """

    views: MemoryBudget
    decode: MemoryBudget
    turns: asyncio.Semaphore
