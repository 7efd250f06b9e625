"""Earlier decisions whose images look alike: by the vectors that are stored with them."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass

import numpy as np

from gateway.store.decisions import DecisionRecord
from gateway.store.review.first_vectors import FirstVectors

BYTES_PER_NUMBER = 4


@dataclass(frozen=True, slots=True)
class Similar:
    """Decisions with the cosine of their first view to the one asked about, best first, of so many searched."""

    found: tuple[tuple[float, DecisionRecord], ...]
    searched: int


class SimilarDecisions:
    """Searches the newest decisions with vectors, one search at a time: each reads the vectors anew.

    Args:
        vectors: that are stored.
        dim: of one.
        most: decisions that are searched.
    """

    def __init__(self, vectors: FirstVectors, dim: int, most: int) -> None:
        self._vectors = vectors
        self._dim = dim
        self._most = most
        self._one = asyncio.Semaphore(1)

    async def search(self, record: DecisionRecord, limit: int) -> Similar | None:
        """Return the decisions that are most similar to one; None where that one has no vectors."""
        size = self._dim * BYTES_PER_NUMBER
        if record.vectors is None or len(record.vectors) < size:
            return None
        wanted = np.frombuffer(record.vectors[:size], "<f4")
        best: list[tuple[float, str]] = []
        searched = 0
        async with self._one:
            async for ids, data in self._vectors.newest(record.bundle_id, size, self._most):
                near = await asyncio.to_thread(_cosines, wanted, data)
                searched += len(ids)
                best = heapq.nlargest(limit + 1, [*best, *zip(near, ids, strict=True)])
        best = [(cosine, name) for cosine, name in best if name != record.id][:limit]
        records = {found.id: found for found in await self._vectors.named([name for _, name in best])}
        found = [(cosine, records[name]) for cosine, name in best if name in records]
        return Similar(tuple(found), searched)


def _cosines(wanted: np.ndarray[tuple[int], np.dtype[np.float32]], data: bytes) -> list[float]:
    """Return the cosines, -1..1, of a vector [D] and those in bytes [N, D]; all have unit length."""
    rows = np.frombuffer(data, "<f4").reshape(-1, len(wanted))
    return [float(cosine) for cosine in np.clip(rows @ wanted, -1.0, 1.0)]
