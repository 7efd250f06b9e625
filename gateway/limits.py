"""Admission: what is over a limit is refused at once (requests) or waits its turn within the deadline (decodes)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from gateway.deadline import Deadline
from gateway.errors import Overloaded

RETRY_AFTER_S = 1


class Admission:
    """Counts requests in flight and the bytes of their bodies; refuses at once what would go over.

    A request counts as in flight from the end of its body: until then it is its bytes that count, so that clients who
    send slowly take no places from those who do not.

    Args:
        max_requests: requests at a time.
        max_bytes: body bytes at a time.
        observe: called with the number in flight after each change.
    """

    def __init__(self, max_requests: int, max_bytes: int, observe: Callable[[int], None]) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._observe = observe
        self._requests = 0
        self._bytes = 0

    @contextmanager
    def request(self) -> Iterator[Reservation]:
        """Take one request up; yields the account on which its body's bytes are reserved and its work is begun.

        Raises:
            Overloaded: as many requests as allowed are in flight.
        """
        self.check_room()
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self._bytes -= reservation.held_bytes
            if reservation.working:
                self._requests -= 1
                self._observe(self._requests)

    def check_room(self) -> None:
        """Check that one more request may be in flight.

        Raises:
            Overloaded: as many as allowed are.
        """
        if self._requests >= self._max_requests:
            raise Overloaded("The service is working on as many requests as it takes.", retry_after_s=RETRY_AFTER_S)

    def begin(self) -> None:
        """Count one request as in flight.

        Raises:
            Overloaded: as many as allowed are.
        """
        self.check_room()
        self._requests += 1
        self._observe(self._requests)

    def reserve(self, count: int) -> None:
        """Take ``count`` bytes.

        Raises:
            Overloaded: they would go over the limit.
        """
        if self._bytes + count > self._max_bytes:
            raise Overloaded("The service holds as many bytes of uploads as it takes.", retry_after_s=RETRY_AFTER_S)
        self._bytes += count


class Reservation:
    """One request's account: the bytes it holds, and whether it is being worked on."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.held_bytes = 0
        self.working = False

    def grow_to(self, total: int) -> None:
        """Hold at least ``total`` bytes.

        Raises:
            Overloaded: they would go over the limit.
        """
        if total > self.held_bytes:
            self._admission.reserve(total - self.held_bytes)
            self.held_bytes = total

    def begin(self) -> None:
        """Count the request as in flight: its body is there.

        Raises:
            Overloaded: as many as allowed are.
        """
        if not self.working:
            self._admission.begin()
            self.working = True


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
        """Hold ``count`` bytes while inside.

        Raises:
            DeadlineExceeded: there was no room in time.
        """
        count = min(count, self._capacity)
        if self._waiting or self._used + count > self._capacity:
            turn = asyncio.get_running_loop().create_future()
            entry = (count, turn)
            self._waiting.append(entry)
            try:
                async with deadline.enforced():
                    await turn
            except BaseException:
                if turn.done() and not turn.cancelled():
                    self._used -= count  # our turn had come just as we gave up
                elif entry in self._waiting:
                    self._waiting.remove(entry)
                self._let_in()
                raise
        else:
            self._used += count
        try:
            yield
        finally:
            self._used -= count
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._used + self._waiting[0][0] <= self._capacity:
            count, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._used += count
                turn.set_result(None)


@dataclass(frozen=True, slots=True)
class Budgets:
    """Memory that pictures may take, by what it is for.

    Attributes:
        views: squares on their way to the model.
        decode: frames being decoded.
    """

    views: MemoryBudget
    decode: MemoryBudget
