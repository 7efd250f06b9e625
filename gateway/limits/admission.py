"""Admission: what is over a limit is refused at once (requests) or waits its turn for a while (bodies, decodes)."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from gateway.errors import Overloaded
from gateway.limits.deadline import Deadline

RETRY_AFTER_S = 1
SMALL_BYTES = 1 << 16  # a body that may have come whole with its head
PACE_CHECK_S = 0.25
PROMPT_BYTES = 1 << 20  # in every quarter of a second from its turn on, or the client is called slow


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What bodies may hold.

    Attributes:
        max_bytes: of all together; what would go over is refused at once.
        room_bytes: of those whose clients send promptly; others wait for their turn, unread.
        wait_s: how long they wait at most.
    """

    max_bytes: int
    room_bytes: int
    wait_s: float


class Admission:
    """Counts requests in flight and the bytes of their bodies.

    A request counts as in flight from the end of its body: until then it is its bytes that count, so that clients who
    send slowly take no places from those who do not.

    Bodies go through two counts. Into the *room* each is let whole before it is read, first come, first served; until
    then its bytes stay with the client. So no body that has begun waits for another one, and what is held stays small
    however many send at once. A client that takes long is shown out of the room: its bytes count towards ``max_bytes``
    alone from then on, and its place is another's.

    Args:
        max_requests: requests at a time.
        bodies: bytes of their bodies.
        observe: called with the number in flight after each change.
    """

    def __init__(self, max_requests: int, bodies: BodyLimits, observe: Callable[[int], None]) -> None:
        self._max_requests = max_requests
        self._bodies = bodies
        self._room = MemoryBudget(bodies.room_bytes)
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
            reservation.give_back(reservation.held_bytes)
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
        """Take ``count`` bytes, or give them back where it is negative.

        Raises:
            Overloaded: they would go over the limit.
        """
        if self._bytes + count > self._bodies.max_bytes and count > 0:
            raise _full()
        self._bytes += count

    async def enter_room(self, count: int) -> int:
        """Wait until a body of ``count`` bytes may be read; return how many of the room's bytes it has.

        Raises:
            Overloaded: its turn did not come in time.
        """
        try:
            async with asyncio.timeout(self._bodies.wait_s):
                return await self._room.take(count)
        except TimeoutError:
            raise _full() from None

    def leave_room(self, count: int) -> None:
        """Give bytes of the room back."""
        self._room.give(count)


def _full() -> Overloaded:
    return Overloaded("The service holds as many bytes of uploads as it takes.", retry_after_s=RETRY_AFTER_S)


class Reservation:
    """One request's account: the bytes it holds, and whether it is being worked on.

    Attributes:
        held_bytes: towards all bodies' ``max_bytes``.
        working: it is in flight.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._room_bytes = 0
        self.held_bytes = 0
        self.working = False

    async def enter_room(self, count: int) -> None:
        """Wait for the turn of a body that will take about ``count`` bytes; what is small need not wait.

        Raises:
            Overloaded: the turn did not come in time.
        """
        if count > SMALL_BYTES:
            self._room_bytes = await self._admission.enter_room(count)

    def leave_room(self, but: int = 0) -> None:
        """Give the room's bytes back, all ``but`` so many: the client is slow, or the body has ended."""
        if self._room_bytes > but:
            self._admission.leave_room(self._room_bytes - but)
            self._room_bytes = but

    def give_back(self, count: int) -> None:
        """Hold ``count`` bytes less: they have been worked on, and dropped."""
        count = min(count, self.held_bytes)
        self._admission.reserve(-count)
        self.held_bytes -= count
        self.leave_room(but=self.held_bytes)

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


class Pace:
    """Watches a body that is being read: shows it out of the room once its client proves slow, and ends one too late.

    To be shown out costs the client nothing; it lets another one in. For that, looks are counted rather than time,
    since a server that is late has read nothing meanwhile.

    Args:
        reservation: the body's account.
        due_s: says by when, seconds after the beginning, there must be more than so many bytes.
        end: called once the client is later than that.

    Attributes:
        received_bytes: told by whoever reads.
    """

    def __init__(self, reservation: Reservation, due_s: Callable[[int], float], end: Callable[[], None]) -> None:
        self.received_bytes = 0
        self._due_bytes = 0
        self._reservation = reservation
        self._due_s = due_s
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._begun_s = self._loop.time()
        self._next_look_s = PACE_CHECK_S
        self._timer = self._loop.call_later(min(PACE_CHECK_S, due_s(0)), self._check)

    def end(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _check(self) -> None:
        elapsed_s = self._loop.time() - self._begun_s
        due_s = self._due_s(self.received_bytes)
        if elapsed_s >= due_s:
            self._end()
            return
        if elapsed_s >= self._next_look_s:
            self._next_look_s = elapsed_s + PACE_CHECK_S
            self._due_bytes += PROMPT_BYTES
            if self.received_bytes < self._due_bytes:
                self._reservation.leave_room()
                self._next_look_s = math.inf
        self._timer = self._loop.call_later(min(self._next_look_s, due_s) - elapsed_s, self._check)


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
        count = await self.take_by(deadline, count)
        try:
            yield
        finally:
            self.give(count)

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
    """Memory that images may take, by what it is for.

    Attributes:
        views: squares on their way to the model.
        decode: frames being decoded.
    """

    views: MemoryBudget
    decode: MemoryBudget
