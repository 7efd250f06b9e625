"""One request's deadline, handed from stage to stage so that every wait ends with it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType

from gateway.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time after which nobody waits for the answer any more.

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

    def enforced(self) -> Enforced:
        """Cancel what runs inside ``async with`` when the deadline passes.

        Raises:
            DeadlineExceeded: it passed.
        """
        return Enforced(self)


class Enforced:
    """A deadline around what runs inside; a class, since an image enters several and generators cost more."""

    __slots__ = ("_deadline", "_scope")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    async def __aenter__(self) -> None:
        self._scope = asyncio.timeout(self._deadline.remaining_s())
        await self._scope.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._scope.__aexit__(kind, fault, trace)
        except TimeoutError:
            raise self._deadline.error() from None
