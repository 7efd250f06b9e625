"""Waiting for something to become true, instead of for some time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

UNTIL_S = 90.0
POLL_S = 0.02
CANCELLED_S = 20.0  # far below UNTIL_S, for which what was forgotten may go on


def until(condition: Callable[..., bool], explain: Callable[[], str] | str = "", seconds: float = UNTIL_S) -> None:
    """Wait for something to become true; fail with the explanation where it does not."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds:g} s in vain\n{explain if isinstance(explain, str) else explain()}")
        time.sleep(POLL_S)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait likewise, and let the loop go on."""
    async with asyncio.timeout(UNTIL_S):
        while not condition():  # noqa: ASYNC110 - about threads and other processes too
            await asyncio.sleep(POLL_S)


async def only(tasks: set[asyncio.Task[object]]) -> None:
    """See that no tasks but these are left in the loop, once those that were cancelled have had their turn to end."""
    if left := asyncio.all_tasks() - tasks:
        await asyncio.wait(left, timeout=CANCELLED_S)
    assert asyncio.all_tasks() <= tasks
