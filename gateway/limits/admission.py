"""Admission: one request or byte too many is refused at once, a body waits unread for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.errors import Overloaded
from gateway.limits.memory_budget import MemoryBudget

RETRY_AFTER_S = 1
SMALL_BYTES = 1 << 16  # a body that may have come whole with its head


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What is let in.

    Attributes:
        max_requests: requests at a time.
        max_bytes: of all bodies; what would go over is refused at once.
        room_bytes: of those whose clients send promptly; others wait for their turn, unread.
        wait_s: how long they wait at most.
    """

    max_requests: int
    max_bytes: int
    room_bytes: int
    wait_s: float


class Admission:
    """Counts requests in flight, and the bytes of their bodies twice: of all, and of those in the room.

    A request is in flight from the end of its body on; until then only its bytes count, so that slow clients take no
    places. A body enters the room whole before it is read, first come, first served: no body that has begun waits for
    another one. A slow client's leaves it, and counts among all bodies alone.

    Args:
        limits: of both.
        observe: called with the number in flight after each change.

    Attributes:
        room: bytes of the room.
    """

    def __init__(self, limits: AdmissionLimits, observe: Callable[[int], None]) -> None:
        self.limits = limits
        self.room = MemoryBudget(limits.room_bytes)
        self._observe = observe
        self._requests = 0
        self._bytes = 0

    @contextmanager
    def request(self) -> Iterator[Reservation]:
        """Take one request up; yields what counts its body's bytes and begins its work.

        Raises:
            Overloaded: as many requests as allowed are in flight.
        """
        self.check_requests()
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            reservation.end()

    def check_requests(self) -> None:
        """Check that one more request may be in flight.

        Raises:
            Overloaded: as many as allowed are.
        """
        if self._requests >= self.limits.max_requests:
            raise Overloaded("The service is working on as many requests as it takes.", retry_after_s=RETRY_AFTER_S)

    def count_requests(self, change: int) -> None:
        """Count requests in flight, or count them no more where they are negative."""
        self._requests += change
        self._observe(self._requests)

    def count_bytes(self, change: int) -> None:
        """Count bytes of bodies, or count them no more where they are negative.

        Raises:
            Overloaded: they would go over the limit.
        """
        if self._bytes + change > self.limits.max_bytes:
            raise _full()
        self._bytes += change


def _full() -> Overloaded:
    return Overloaded("The service holds as many bytes of uploads as it takes.", retry_after_s=RETRY_AFTER_S)


class Reservation:
    """What one request holds: bytes, some of them in the room, and a place among those in flight.

    Attributes:
        held_bytes: of its body, copies included.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._room_bytes = 0
        self._in_flight = False
        self.held_bytes = 0

    async def enter_room(self, count: int) -> None:
        """Wait for the turn of a body that will take about ``count`` bytes; what is small need not wait.

        Raises:
            Overloaded: the turn did not come in time.
        """
        if count <= SMALL_BYTES:
            return
        try:
            async with asyncio.timeout(self._admission.limits.wait_s):
                self._room_bytes = await self._admission.room.take(count)
        except TimeoutError:
            raise _full() from None

    def leave_room(self, but: int = 0) -> None:
        """Give the room's bytes back, all ``but`` so many."""
        if self._room_bytes > but:
            self._admission.room.give(self._room_bytes - but)
            self._room_bytes = but

    def hold(self, count: int) -> None:
        """Hold ``count`` bytes from now on.

        Raises:
            Overloaded: they would go over the limit.
        """
        self._admission.count_bytes(count - self.held_bytes)
        self.held_bytes = count

    def release(self, count: int) -> None:
        """Hold ``count`` bytes less, and no more of the room than is left."""
        self.hold(max(0, self.held_bytes - count))
        self.leave_room(but=self.held_bytes)

    def begin(self) -> None:
        """Count the request as in flight: its body is there.

        Raises:
            Overloaded: as many as allowed are.
        """
        self._admission.check_requests()
        self._admission.count_requests(1)
        self._in_flight = True

    def end(self) -> None:
        """Give everything back."""
        self.hold(0)
        self.leave_room()
        if self._in_flight:
            self._admission.count_requests(-1)
