"""Which frames of an animation are looked at: by the time that they are shown, and by what changes between them.

With n frames to look at, these are looked at in any case: the first one, the last one (where an animation that does not
repeat stays), and each that is shown for more than 1 / (n - 1) of the time. Of the others, half are drawn at random
moments, one from each of as many equal stretches of the time that is left. The rest are those that differ most from all
that is looked at, found while the frames are decoded one after another, with a random part in it: so neither of the two
choices can be foreseen without the seed, and the same seed makes the same choice.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Thumbnail = npt.NDArray[np.float32]
"""[16, 16, 3], RGB, 0 to 255."""

LEAST_CHANGE: Final = 2.0
"""Levels, root mean square: below, two frames count as the same."""


class FrameSampler:
    """Chooses frames of one animation, which are offered in their order.

    Args:
        durations_ms: of each frame, 0 or more.
        most: frames to choose, 1 or more; all of them when there are no more.
        seed: of the choice; not to be guessed by whoever made the image.

    Attributes:
        last: no frame behind this one is chosen.
        chosen: frames chosen so far.
        shift: (right, down), 0 to 1 each, drawn from the seed: where thumbnails take their pixels from.
    """

    def __init__(self, durations_ms: Sequence[int], most: int, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - unpredictable to senders through its seed
        self.shift = (self._dice.random(), self._dice.random())
        self._planned = _planned(durations_ms, most, self._dice)
        self._spare = min(most, len(durations_ms)) - len(self._planned)
        self.last = len(durations_ms) - 1 if self._spare else max(self._planned)
        self._seen: dict[int, Thumbnail] = {}
        self._changes: list[tuple[float, int]] = []
        self.chosen = 0

    def choose(self, index: int, thumbnail: Callable[[], Thumbnail]) -> tuple[bool, int | None]:
        """Return whether to look at a frame, and which one it takes the place of.

        Args:
            index: of the frame.
            thumbnail: called where the frame has to be compared.
        """
        wanted = index in self._planned
        if wanted:
            self.chosen += 1
        if not self._spare:
            return wanted, None
        seen = thumbnail()
        if wanted:
            self._seen[index] = seen
            return True, None
        change = min(float(np.sqrt(np.mean((seen - other) ** 2))) for other in self._seen.values())
        entry = (change * self._dice.uniform(0.5, 1.0), index)
        if change < LEAST_CHANGE or (len(self._changes) == self._spare and entry < self._changes[0]):
            return False, None
        self._seen[index] = seen
        if len(self._changes) < self._spare:
            self.chosen += 1
            heapq.heappush(self._changes, entry)
            return True, None
        _, dropped = heapq.heapreplace(self._changes, entry)
        del self._seen[dropped]
        return True, dropped


def _planned(durations_ms: Sequence[int], most: int, dice: random.Random) -> frozenset[int]:
    """Return the frames that are chosen by their times alone."""
    count, total_ms = len(durations_ms), sum(durations_ms)
    if count <= most:
        return frozenset(range(count))
    if most == 1:
        return frozenset(dice.choices(range(count), [duration + 1 for duration in durations_ms]))
    fixed = {0, count - 1}
    fixed |= {index for index, duration in enumerate(durations_ms) if duration * (most - 1) > total_ms}
    others = [index for index in range(count) if index not in fixed]
    ends = list(itertools.accumulate(durations_ms[index] for index in others))
    draws = (most - len(fixed) + 1) // 2
    moments = (ends[-1] * (number + dice.random()) / draws for number in range(draws))
    return frozenset(fixed) | {others[min(bisect.bisect_right(ends, moment), len(others) - 1)] for moment in moments}
