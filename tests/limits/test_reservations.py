"""What a request holds is counted once, to the byte, and given back in the end; what goes over is refused."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import Overloaded
from gateway.limits.admission import RETRY_AFTER_S, SMALL_BYTES, Admission, AdmissionLimits, Reservation
from tests.support.waiting import UNTIL_S

MOST_BYTES, ROOM = 1000, 4 * SMALL_BYTES
FULL = "^The service holds as many bytes of uploads as it takes.$"
BUSY = "^The service is working on as many requests as it takes.$"


class Gate:
    """Admission of two requests and 1000 bytes, and the numbers in flight that it told."""

    def __init__(self, most_bytes: int = MOST_BYTES, wait_s: float = UNTIL_S) -> None:
        self.in_flight: list[int] = []
        self.admission = Admission(AdmissionLimits(2, most_bytes, ROOM, wait_s), self.in_flight.append)


def is_refused(error: Overloaded) -> bool:
    return error.retry_after_s == RETRY_AFTER_S


async def has_room(admission: Admission, count: int) -> bool:
    """Whether a body of so many bytes could enter now."""
    waiting = asyncio.create_task(admission.room.take(count))
    for _ in range(10):
        await asyncio.sleep(0)
    if not waiting.done():
        waiting.cancel()
        await asyncio.wait([waiting])
        return False
    admission.room.give(waiting.result())
    return True


def test_a_request_is_in_flight_from_the_end_of_its_body_to_its_own() -> None:
    gate = Gate()
    with gate.admission.request() as first:
        assert gate.in_flight == []
        first.begin()
        with gate.admission.request(), gate.admission.request():
            pass  # neither's body ever came
        with gate.admission.request() as second:
            second.begin()
            assert gate.in_flight == [1, 2]
        assert gate.in_flight == [1, 2, 1]
    assert gate.in_flight == [1, 2, 1, 0]


def test_as_many_requests_as_allowed_are_in_flight_and_one_more_is_refused() -> None:
    gate = Gate()
    with gate.admission.request() as first, gate.admission.request() as second, gate.admission.request() as third:
        first.begin()
        second.begin()
        with pytest.raises(Overloaded, match=BUSY) as late:
            third.begin()  # let in while there was a place, and it is gone
        with pytest.raises(Overloaded, match=BUSY) as new, gate.admission.request():
            pytest.fail("there is no place for its body")
        assert is_refused(late.value)
        assert is_refused(new.value)
    assert gate.in_flight == [1, 2, 1, 0], "the refused one counts neither way"
    with gate.admission.request() as fourth:
        fourth.begin()


def test_a_request_that_fails_gives_all_back() -> None:
    gate = Gate()

    def work() -> None:
        with gate.admission.request() as failing:
            failing.hold(MOST_BYTES)
            failing.begin()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert gate.in_flight == [1, 0]
    with gate.admission.request() as after:
        after.hold(MOST_BYTES)


def test_bytes_count_to_the_last_one_over_all_requests() -> None:
    gate = Gate()
    with gate.admission.request() as first, gate.admission.request() as second:
        assert first.held_bytes == 0
        first.hold(600)
        second.hold(400)
        for over in (first, second):
            held = over.held_bytes
            with pytest.raises(Overloaded, match=FULL) as refused:
                over.hold(held + 1)
            assert is_refused(refused.value)
            assert over.held_bytes == held, "what is refused is not held"
        first.hold(599)
        second.hold(401)
        with pytest.raises(Overloaded):
            first.hold(600)
        second.hold(0)
        first.hold(MOST_BYTES)


def test_what_is_released_is_free_and_no_more_than_that() -> None:
    gate = Gate()
    with gate.admission.request() as first, gate.admission.request() as second:
        first.hold(600)
        first.release(250)
        assert first.held_bytes == 350
        with pytest.raises(Overloaded):
            second.hold(651)
        second.hold(650)
        first.release(5000)
        assert first.held_bytes == 0
        with pytest.raises(Overloaded):
            second.hold(1001)
        second.hold(1000)


def test_one_byte_may_be_held_and_less_is_always_allowed() -> None:
    gate = Gate(most_bytes=0)
    with gate.admission.request() as only:
        only.hold(0)
        with pytest.raises(Overloaded):
            only.hold(1)


async def entered(admission: Admission, count: int) -> Reservation:
    reservation = Reservation(admission)
    await reservation.enter_room(count)
    return reservation


@pytest.mark.parametrize(("size", "taken"), [(SMALL_BYTES, 0), (SMALL_BYTES + 1, SMALL_BYTES + 1), (9 * ROOM, ROOM)])
async def test_a_body_takes_its_size_of_the_room_unless_it_is_small(size: int, taken: int) -> None:
    gate = Gate()
    body = await entered(gate.admission, size)
    assert await has_room(gate.admission, ROOM - taken)
    assert await has_room(gate.admission, ROOM - taken + 1) == (taken == 0), "more than all there is counts as all"
    body.leave_room()
    assert await has_room(gate.admission, ROOM)


async def test_a_body_that_took_nothing_of_the_room_gives_nothing_back() -> None:
    gate = Gate()
    small = await entered(gate.admission, SMALL_BYTES)
    await entered(gate.admission, ROOM)
    small.end()
    assert not await has_room(gate.admission, 1)


async def test_a_body_leaves_part_of_the_room_or_all_of_it_once() -> None:
    gate = Gate()
    body = await entered(gate.admission, 3 * SMALL_BYTES)
    body.leave_room(but=3 * SMALL_BYTES)
    body.leave_room(but=4 * SMALL_BYTES)
    assert not await has_room(gate.admission, SMALL_BYTES + 1)
    body.leave_room(but=2 * SMALL_BYTES)
    assert await has_room(gate.admission, 2 * SMALL_BYTES)
    assert not await has_room(gate.admission, 2 * SMALL_BYTES + 1)
    body.leave_room()
    other = await entered(gate.admission, ROOM)
    body.leave_room()
    assert not await has_room(gate.admission, 1), "what the other holds is not given back by the first"
    other.end()
    assert await has_room(gate.admission, ROOM)


async def test_released_bytes_leave_the_room_too() -> None:
    gate = Gate(most_bytes=ROOM)
    body = await entered(gate.admission, 3 * SMALL_BYTES)
    body.hold(3 * SMALL_BYTES)
    body.release(SMALL_BYTES)
    assert await has_room(gate.admission, 2 * SMALL_BYTES)
    assert not await has_room(gate.admission, 2 * SMALL_BYTES + 1)
    body.end()
    assert await has_room(gate.admission, ROOM)


async def test_a_turn_that_does_not_come_in_time_is_refused() -> None:
    gate = Gate(wait_s=0.01)
    first = await entered(gate.admission, ROOM)
    with pytest.raises(Overloaded, match=FULL) as refused:
        await entered(gate.admission, SMALL_BYTES + 1)
    assert is_refused(refused.value)
    assert refused.value.__suppress_context__
    first.end()
    assert await has_room(gate.admission, ROOM)
