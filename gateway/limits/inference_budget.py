"""A request's inferences, shared among its images by what the headers of their files say.

A still needs one inference a view, an animation as many for each frame that is looked at.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from gateway.errors import InvalidRequest

FEWEST_FRAMES: Final = 3  # first, last and one between: less of an animation is not called looked at


@dataclass(frozen=True, slots=True)
class Need:
    """What an image needs: views of a frame, frames that are to be looked at."""

    views: int
    frames: int

    @property
    def least(self) -> int:
        """Inferences without which the image is not looked at."""
        return self.views * min(self.frames, FEWEST_FRAMES)


class InferenceBudget:
    """Of one request.

    An image whose need is within an equal share has it at once. Any other waits until the need of every image is known,
    so that what it gets depends on the images alone and not on which of them came first.

    Args:
        total: inferences of the request.
        images: in it.
    """

    def __init__(self, total: int, images: int) -> None:
        self._total = total
        self._equal_share = total // images
        self._missing = set(range(images))
        self._needs: dict[int, Need] = {}
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
        self.leave(index)
        if need.views * need.frames <= self._equal_share:
            return need.frames
        await self._all_known.wait()
        return self._shares()[index]

    def _shares(self) -> dict[int, int]:
        """Give every image its least, then one frame more to each in turn."""
        left = self._total - sum(need.least for need in self._needs.values())
        if left < 0:
            raise InvalidRequest(
                f"The images of this request need {self._total - left} inferences at least and a request has "
                f"{self._total}: send fewer at a time, or look at fewer views."
            )
        shares = {index: min(need.frames, FEWEST_FRAMES) for index, need in self._needs.items()}
        growing = sorted(self._needs)
        while growing:
            growing = [at for at in growing if shares[at] < self._needs[at].frames and self._needs[at].views <= left]
            for at in growing:
                if self._needs[at].views <= left:
                    shares[at] += 1
                    left -= self._needs[at].views
        return shares
