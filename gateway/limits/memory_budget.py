"""Work waits its turn until the memory it is estimated to need is free."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.limits.deadline import Deadline


class MemoryBudget:
    """Lets work in while its estimated memory fits; first come, first served, so that nothing large starves.

    Args:
        capacity: bytes. Work that alone needs more is let in when it is alone.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, count: int, deadline: Deadline) -> AsyncIterator[None]:
        """Hold ``count`` bytes, once there is room.

        Raises:
            DeadlineExceeded: there was no room in time.
        """
        taken = await self.take_by(deadline, count)
        try:
            yield
        finally:
            self.give(taken)

    async def take_by(self, deadline: Deadline, count: int) -> int:
        """Take ``count`` bytes when there is room; return how many they are to be given back as.

        Raises:
            DeadlineExceeded: there was no room in time.
        """
        if self._is_taken(count):
            async with deadline.enforced():
                return await self.take(count)
        return await self.take(count)

    async def take(self, count: int) -> int:
        """Take ``count`` bytes when there is room; return how many they are to be given back as."""
        count = min(count, self._capacity)
        if not self._is_taken(count):
            self._used += count
            return count
        turn = asyncio.get_running_loop().create_future()
        entry = (count, turn)
        self._waiting.append(entry)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._used -= count  # our turn had come just as we gave up
            elif entry in self._waiting:
                self._waiting.remove(entry)
            self._let_in()
            raise
        return count

    def give(self, count: int) -> None:
        """Give bytes back."""
        self._used -= count
        self._let_in()

    def _is_taken(self, count: int) -> bool:
        return bool(self._waiting) or self._used + min(count, self._capacity) > self._capacity

    def _let_in(self) -> None:
        while self._waiting and self._used + self._waiting[0][0] <= self._capacity:
            count, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._used += count
                turn.set_result(None)


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
