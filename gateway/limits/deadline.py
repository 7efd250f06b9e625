"""A request's deadline, which bounds every wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time by which a request has to be answered.

    Attributes:
        at_s: the point on the monotonic clock, seconds.
        total_s: the span it was made from, for the error text.
    """

    at_s: float
    total_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline ``seconds`` from now."""
        return cls(time.monotonic() + seconds, seconds)

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return time.monotonic() >= self.at_s

    def remaining_s(self) -> float:
        """Return the seconds left, always above 0.

        Raises:
            DeadlineExceeded: none are left.
        """
        left = self.at_s - time.monotonic()
        if left <= 0:
            raise self.error()
        return left

    def error(self) -> DeadlineExceeded:
        """Return the error that says this deadline has passed."""
        return DeadlineExceeded(f"No answer was ready within {self.total_s:g} s; nothing was decided. Try again later.")

    @asynccontextmanager
    async def enforced(self) -> AsyncIterator[None]:
        """Cancel what runs inside ``async with`` when the deadline passes.

        Raises:
            DeadlineExceeded: it passed.
        """
        scope = asyncio.timeout(self.remaining_s())
        try:
            async with scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise self.error() from None
