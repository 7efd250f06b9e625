"""Memory is given in order, never more than there is, and comes back whichever way its holder leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.errors import DeadlineExceeded
from gateway.limits.deadline import Deadline
from gateway.limits.memory_budget import MemoryBudget
from tests.support.waiting import UNTIL_S

CAPACITY = 10


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def soon() -> Deadline:
    return Deadline.after(UNTIL_S)


async def is_all_free(budget: MemoryBudget) -> bool:
    """Whether all of it, and no more than that, is to be had at once."""
    asked = []
    for count in (CAPACITY, 1):
        asked.append(asyncio.create_task(budget.take(count)))
        await settled()
    free = let_in(asked) == [True, False]
    for task in asked:
        task.cancel()
    await asyncio.wait(asked)
    if free:
        budget.give(CAPACITY)
    return free


@asynccontextmanager
async def queued(budget: MemoryBudget, *counts: int) -> AsyncIterator[list[asyncio.Task[int]]]:
    """Let work ask for bytes, one after the other."""
    tasks = []
    for count in counts:
        tasks.append(asyncio.create_task(budget.take(count)))
        await settled()
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def let_in(tasks: list[asyncio.Task[int]]) -> list[bool]:
    return [task.done() and not task.cancelled() for task in tasks]


async def test_what_fits_enters_at_once_to_the_last_byte() -> None:
    budget = MemoryBudget(CAPACITY)
    async with queued(budget, 4, 6, 1) as tasks:
        assert let_in(tasks) == [True, True, False]
        budget.give(4)
        await settled()
        assert let_in(tasks) == [True, True, True]
        budget.give(6)
        budget.give(1)
        assert await is_all_free(budget)


async def test_what_is_small_does_not_overtake_what_is_large() -> None:
    budget = MemoryBudget(CAPACITY)
    async with queued(budget, 4, 8, 2, 1) as tasks:
        assert let_in(tasks) == [True, False, False, False]
        budget.give(4)
        await settled()
        assert let_in(tasks) == [True, True, True, False]
        budget.give(2)
        await settled()
        assert let_in(tasks) == [True] * 4


@pytest.mark.parametrize("first", [0, 1])
async def test_what_needs_more_than_there_is_has_all_of_it_alone(first: int) -> None:
    budget = MemoryBudget(CAPACITY)
    async with queued(budget, first, 3 * CAPACITY, 1) as tasks:
        assert let_in(tasks) == [True, first == 0, False]
        budget.give(first)
        await settled()
        assert let_in(tasks) == [True, True, False]
        budget.give(tasks[1].result())
        await settled()
        assert let_in(tasks) == [True, True, True]
        budget.give(1)
        assert await is_all_free(budget)


async def test_who_gives_up_lets_those_behind_pass() -> None:
    budget = MemoryBudget(CAPACITY)
    async with queued(budget, 4, 8, 5, 1) as tasks:
        tasks[1].cancel()
        await settled()
        assert let_in(tasks) == [True, False, True, True]
        for count in (4, 5, 1):
            budget.give(count)
        assert await is_all_free(budget)


async def test_who_gives_up_in_the_midst_of_the_queue_leaves_the_first_its_turn() -> None:
    budget = MemoryBudget(CAPACITY)
    async with queued(budget, 4, 8, 8, 1) as tasks:
        tasks[2].cancel()
        await settled()
        budget.give(4)
        await settled()
        assert let_in(tasks) == [True, True, False, True]


@pytest.mark.parametrize("same", [8, 7])
async def test_who_gives_up_just_as_the_turn_comes_hands_it_on(same: int) -> None:
    budget = MemoryBudget(CAPACITY)
    async with queued(budget, 4, 8, same) as tasks:
        budget.give(4)  # the second one's turn has come, and it has not run since
        tasks[1].cancel()
        await settled()
        assert tasks[1].cancelled()
        assert let_in(tasks) == [True, False, True]
        budget.give(same)
        assert await is_all_free(budget)


async def test_who_gives_up_before_the_turn_comes_takes_none_of_it() -> None:
    budget = MemoryBudget(CAPACITY)
    async with queued(budget, 4, 8, 8) as tasks:
        tasks[1].cancel()
        budget.give(4)  # before the one that gave up could run
        await settled()
        assert let_in(tasks) == [True, False, True]
        budget.give(8)
        assert await is_all_free(budget)


@pytest.mark.parametrize("count", [3, 3 * CAPACITY])
async def test_memory_is_held_as_long_as_the_work_and_given_back_where_it_fails(count: int) -> None:
    budget = MemoryBudget(CAPACITY)

    async def work() -> None:
        async with budget.hold(count, soon()):
            assert not await is_all_free(budget)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    assert await is_all_free(budget)


@pytest.mark.parametrize(("held", "wanted"), [(CAPACITY, 1), (6, 5), (1, 3 * CAPACITY)])
async def test_the_wait_for_memory_ends_at_the_deadline(held: int, wanted: int) -> None:
    budget = MemoryBudget(CAPACITY)
    async with budget.hold(held, soon()), asyncio.timeout(UNTIL_S):
        with pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
            async with budget.hold(wanted, Deadline.after(0.01)):
                pytest.fail("there was no room")
    assert await is_all_free(budget)


async def test_the_wait_behind_others_ends_at_the_deadline_too() -> None:
    budget = MemoryBudget(CAPACITY)
    async with queued(budget, 4, 8), asyncio.timeout(UNTIL_S):
        with pytest.raises(DeadlineExceeded):
            async with budget.hold(1, Deadline.after(0.01)):
                pytest.fail("others were first")


async def test_a_turn_that_comes_in_time_is_taken() -> None:
    budget = MemoryBudget(CAPACITY)
    async with queued(budget, 4):
        waiting = asyncio.create_task(budget.take(3 * CAPACITY))
        await settled()
        assert not waiting.done()
        budget.give(4)
        assert await waiting == CAPACITY
