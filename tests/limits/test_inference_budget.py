"""A request's inferences, shared by what its images need."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import InvalidRequest
from gateway.limits.inference_budget import InferenceBudget, Need


async def shared(total: int, *needs: Need | None) -> list[int | None]:
    """Return the frames that each image may have; None fails before its need is known."""
    budget = InferenceBudget(total, len(needs))

    async def frames(index: int, need: Need | None) -> int | None:
        if need is None:
            budget.leave(index)
            return None
        return await budget.frames(index, need)

    return await asyncio.gather(*(frames(index, need) for index, need in enumerate(needs)))


async def test_stills_leave_the_rest_to_an_animation() -> None:
    still = Need(views=2, frames=1)
    assert await shared(38, still, still, Need(views=2, frames=16), still) == [1, 1, 16, 1]
    assert await shared(30, still, still, Need(views=2, frames=16), still) == [1, 1, 12, 1]


async def test_animations_share_evenly_and_have_three_frames_at_least() -> None:
    long = Need(views=4, frames=16)
    assert await shared(64, long, long) == [8, 8]
    assert await shared(24, long, long) == [3, 3]


async def test_never_more_than_the_request_has() -> None:
    needs = [Need(views=2, frames=16)] * 3 + [Need(views=7, frames=16)]
    assert await shared(128, *needs) == [16, 16, 16, 4]
    assert await shared(20, Need(views=1, frames=10), Need(views=3, frames=16)) == [10, 3]


async def test_others_are_not_waited_for_without_end() -> None:
    budget = InferenceBudget(16, 2, wait_s=0.01)
    assert await budget.frames(0, Need(views=1, frames=16)) == 8
    assert await budget.frames(1, Need(views=2, frames=16)) == 4


async def test_an_image_that_failed_is_not_waited_for() -> None:
    assert await shared(20, None, Need(views=1, frames=16)) == [None, 16]


@pytest.mark.parametrize("total", [1, 11])
async def test_what_does_not_fit_is_told(total: int) -> None:
    with pytest.raises(InvalidRequest, match=f"need 12 inferences at least and a request has {total}"):
        await shared(total, Need(views=12, frames=1))
