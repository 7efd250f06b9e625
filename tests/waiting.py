"""Waiting for something to become true, instead of for some time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

UNTIL_S = 90.0
POLL_S = 0.02


def until(condition: Callable[[], bool], explain: Callable[[], str] = str, seconds: float = UNTIL_S) -> None:
    """Wait for something to become true; fail with the explanation where it does not."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds:g} s in vain\n{explain()}")
        time.sleep(POLL_S)
