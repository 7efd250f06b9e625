"""A request's inferences, shared among its images by what the headers of their files say.

A still needs one inference a view, an animation as many for each frame that is looked at.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.errors import InvalidRequest

FEWEST_FRAMES: Final = 3  # first, last and one between: less of an animation is not called looked at

WAIT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Need:
    """What an image needs: views of a frame, frames that are to be looked at."""

    views: int
    frames: int


class InferenceBudget:
    """Of one request.

    An image whose need is within an equal share has it at once. Any other waits until the need of every image is known,
    so that what it gets depends on the images alone and not on which of them came first; but not for long, as it holds
    its file meanwhile.

    Args:
        total: inferences of the request.
        images: in it.
        wait_s: seconds that an image waits for the needs of others; then it has an equal share.
    """

    def __init__(self, total: int, images: int, wait_s: float = WAIT_S) -> None:
        self._total = total
        self._equal_share = total // images
        self._wait_s = wait_s
        self._missing = set(range(images))
        self._needs: dict[int, Need] = {}
        self._granted: dict[int, int] = {}
        self._all_known = asyncio.Event()

    def leave(self, index: int) -> None:
        """Wait for this image no longer: its need is known, or it failed."""
        self._missing.discard(index)
        if not self._missing:
            self._all_known.set()

    async def frames(self, index: int, need: Need) -> int:
        """Return how many frames of an image may be looked at, ``need.frames`` at most.

        Raises:
            InvalidRequest: the images need more than the request has.
        """
        self._needs[index] = need
        if need.views * need.frames <= self._equal_share:
            self._granted[index] = need.frames
        self.leave(index)
        if index in self._granted:
            return need.frames
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                await self._all_known.wait()
        if not self._all_known.is_set():
            self._granted[index] = self._equal_share // need.views
        return self._shares()[index]

    def _shares(self) -> dict[int, int]:
        """Give every image its least, or what it has been granted, then one frame more to each in turn."""
        shares = {at: min(need.frames, FEWEST_FRAMES) for at, need in self._needs.items()} | self._granted
        used = sum(self._needs[at].views * frames for at, frames in shares.items())
        if used > self._total or not all(shares.values()):
            least = sum(need.views * min(need.frames, FEWEST_FRAMES) for need in self._needs.values())
            raise InvalidRequest(
                f"The images of this request need {least} inferences at least and a request has {self._total}: send "
                "fewer at a time, or look at fewer views."
            )
        left = self._total - used
        growing = sorted(self._needs.keys() - self._granted.keys())
        while growing:
            growing = [at for at in growing if shares[at] < self._needs[at].frames and self._needs[at].views <= left]
            for at in growing:
                if self._needs[at].views <= left:
                    shares[at] += 1
                    left -= self._needs[at].views
        return shares
