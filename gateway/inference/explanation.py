"""Which part of a view drove a score: the view is encoded again and again, each time with one patch covered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from gateway.decoding.occlusion import HeatMap, covered, heat_map
from gateway.decoding.preprocess import PreprocessedImage
from gateway.decoding.views import Place
from gateway.errors import GatewayError
from gateway.inference.triton import Encoder, Vectors
from gateway.limits.deadline import Deadline

MAP_ROWS: Final = 16  # of a map's inferences, encoded at a time
_SHARE_OF_TIME: Final = 0.5  # of what is left: the verdict is still to be logged


@dataclass(frozen=True, slots=True)
class Explained:
    """What a heat map is to explain: a label or category, in which row of the views, and its probability [N] there."""

    of: str
    row: int
    probability: Callable[[Vectors], npt.NDArray[np.float32]]


Explain = Callable[[PreprocessedImage, Vectors], Explained | None]
"""Says what to explain about an image, given its vectors [V, D]; None: nothing."""


@dataclass(frozen=True, slots=True)
class Explainer:
    """Makes heat maps.

    Attributes:
        encoder: pixels → vectors.
        threads: for scoring and drawing.
        grid: G, patches along each side of a map; each of the G * G is an inference.
    """

    encoder: Encoder
    threads: Executor
    grid: int

    @property
    def inferences(self) -> int:
        """What a map takes."""
        return self.grid**2

    async def heat_map(
        self, explain: Explain, prepared: PreprocessedImage, vectors: Vectors, deadline: Deadline
    ) -> HeatMap | None:
        """Return which part of an image drove its score; None where that cannot be told, for whatever reason.

        At most ``MAP_ROWS`` rows of pixels are made at a time.

        Args:
            explain: says which score.
            prepared: the image with its pixels [V, S, S, 3].
            vectors: [V, D], of its views.
            deadline: of the request; the map takes half of what is left of it at most.
        """
        log = structlog.get_logger("explanation")
        try:
            ends = Deadline.after(deadline.remaining_s() * _SHARE_OF_TIME)
            asked = explain(prepared, vectors)
            return None if asked is None else await self._occluded(asked, prepared, vectors, ends)
        except GatewayError as error:
            log.debug("no heat map", code=error.code)
        except Exception:  # an explanation must not take the verdict with it
            log.exception("unexpected failure of a heat map")
        return None

    async def _occluded(
        self, asked: Explained, prepared: PreprocessedImage, vectors: Vectors, deadline: Deadline
    ) -> HeatMap | None:
        view, parts = prepared.pixels[asked.row], [vectors[asked.row : asked.row + 1]]
        for first in range(0, self.inferences, MAP_ROWS):
            rows = covered(view, self.grid, first, MAP_ROWS)
            parts.append(await self.encoder.encode_images(rows, deadline))
        place, run = prepared.places[asked.row], asyncio.get_running_loop().run_in_executor
        async with deadline.enforced():
            return await run(self.threads, _drawn, asked, place, np.concatenate(parts))


def _drawn(asked: Explained, place: Place, vectors: Vectors) -> HeatMap | None:
    whole, *rest = asked.probability(vectors).tolist()
    return heat_map(asked.of, place, whole, np.array(rest, np.float32))
