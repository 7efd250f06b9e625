"""Several things at once: results in order, the first failure as it is, and nothing left running."""

from __future__ import annotations

import asyncio

import pytest

from gateway.limits.gather import all_of
from tests.support.waiting import UNTIL_S


class Failed(Exception):
    """Of one of them."""


async def after(turns: int, result: str) -> str:
    for _ in range(turns):
        await asyncio.sleep(0)
    return result


async def failing() -> str:
    await asyncio.sleep(0)
    raise Failed


@pytest.mark.parametrize("count", [0, 1, 2, 3])
async def test_results_stand_in_the_order_asked_for_whichever_is_first(count: int) -> None:
    results = await all_of(after(3 - number, f"result {number}") for number in range(count))
    assert results == [f"result {number}" for number in range(count)]


async def test_they_run_side_by_side() -> None:
    meeting = asyncio.Barrier(3)
    async with asyncio.timeout(UNTIL_S):
        await all_of(meeting.wait() for _ in range(3))


@pytest.mark.parametrize("beside", [0, 2])
async def test_the_first_failure_is_raised_as_it_is_once_the_rest_has_ended(beside: int) -> None:
    ended = []

    async def long() -> str:
        try:
            await asyncio.sleep(UNTIL_S)
        finally:
            await after(5, "a connection is given back")
            ended.append("long")
        return ""

    with pytest.raises(Failed):
        await all_of([*(long() for _ in range(beside)), failing()])
    assert ended == ["long"] * beside


async def test_what_fails_while_it_is_cancelled_does_not_hide_the_failure() -> None:
    async def awkward() -> str:
        try:
            await asyncio.sleep(UNTIL_S)
        finally:
            raise ConnectionError

    with pytest.raises(Failed):
        await all_of([awkward(), failing(), awkward()])


@pytest.mark.parametrize("count", [1, 3])
async def test_who_leaves_takes_all_of_them_along(count: int) -> None:
    ended = []

    async def long() -> None:
        try:
            await asyncio.sleep(UNTIL_S)
        finally:
            ended.append("long")

    async def leave() -> None:
        asking = all_of([long() for _ in range(count)])
        leaving = asyncio.create_task(asking)
        await after(3, "all have begun")
        leaving.cancel()
        await leaving

    with pytest.raises(asyncio.CancelledError):
        await leave()
    assert ended == ["long"] * count
