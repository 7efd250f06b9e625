"""A deadline ends every wait with its own error, and is not mistaken for anything else that ends one."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.errors import DeadlineExceeded
from gateway.limits.deadline import Deadline
from tests.support.waiting import UNTIL_S

SAYS = r"^No answer was ready within 2\.5 s; nothing was decided\. Try again later\.$"


def test_a_deadline_is_over_at_its_very_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    def clock(now: float) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: now)

    clock(1000.0)
    deadline = Deadline.after(2.5)
    assert (deadline.passed, deadline.remaining_s()) == (False, 2.5)
    clock(1002.0)
    assert (deadline.passed, deadline.remaining_s()) == (False, 0.5)
    for now in (1002.5, 1003.5):
        clock(now)
        assert deadline.passed
        with pytest.raises(DeadlineExceeded, match=SAYS):
            deadline.remaining_s()


async def test_what_runs_too_long_is_cancelled() -> None:
    deadline = Deadline(time.monotonic() + 0.01, 2.5)
    ended = []

    async def long() -> None:
        try:
            await asyncio.sleep(UNTIL_S)
        finally:
            ended.append("long")

    with pytest.raises(DeadlineExceeded, match=SAYS) as raised:
        async with deadline.enforced():
            await long()
    assert ended
    assert raised.value.__suppress_context__, "where it was waited is of no use in a log"


async def test_nothing_is_begun_once_it_has_passed() -> None:
    begun = False
    with pytest.raises(DeadlineExceeded):
        async with Deadline.after(0).enforced():
            begun = True
    assert not begun


async def test_what_is_done_in_time_is_left_alone() -> None:
    """With its outcome, its own time-outs and the cancellation of whoever waits."""
    async with Deadline.after(UNTIL_S).enforced():
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError, match="a database's"):
        async with Deadline.after(UNTIL_S).enforced():
            raise TimeoutError("a database's")

    async def wait() -> None:
        async with Deadline.after(UNTIL_S).enforced():
            await asyncio.sleep(UNTIL_S)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_of_two_deadlines_the_one_that_passed_is_named() -> None:
    with pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
        async with Deadline.after(UNTIL_S).enforced(), Deadline.after(0.01).enforced():
            await asyncio.sleep(UNTIL_S)
