"""The vectors of the first views of stored decisions, read in portions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from sqlalchemy import func, literal, select, tuple_

from gateway.store.database import Repository, Transaction, reads
from gateway.store.decisions import COLUMNS, DecisionRecord
from gateway.store.schema import decisions

PORTION = 2000  # 4 MB of vectors of 512 numbers


class FirstVectors(Repository):
    """What can be compared of stored decisions."""

    async def newest(self, bundle_id: str, size: int, most: int) -> AsyncIterator[tuple[list[str], bytes]]:
        """Yield ids and first vectors of the newest decisions that have vectors, newest first.

        Args:
            bundle_id: of the models whose vectors are comparable.
            size: bytes of a vector.
            most: decisions at most.
        """
        last: tuple[datetime, str] | None = None
        left = most
        while left:
            rows = await self._portion(bundle_id, size, min(left, PORTION), last)
            if not rows:
                return
            left -= len(rows)
            last = rows[-1][1], rows[-1][0]
            fit = [(name, vector) for name, _, vector in rows if len(vector) == size]
            yield [name for name, _ in fit], b"".join(vector for _, vector in fit)

    @reads
    async def named(self, tx: Transaction, ids: Sequence[str]) -> tuple[DecisionRecord, ...]:
        """Return the decisions of these ids that there are, without vectors, in any order."""
        asked = select(*(decisions.c[name] for name in COLUMNS if name != "vectors")).where(decisions.c.id.in_(ids))
        return tuple(DecisionRecord(**row) for row in (await tx.execute(asked)).mappings())

    @reads
    async def _portion(
        self, tx: Transaction, bundle_id: str, size: int, limit: int, last: tuple[datetime, str] | None
    ) -> list[tuple[str, datetime, bytes]]:
        first = func.substr(decisions.c.vectors, 1, size, type_=decisions.c.vectors.type)
        asked = select(decisions.c.id, decisions.c.at, first.label("first"))
        asked = asked.where(decisions.c.vectors.is_not(None), decisions.c.bundle_id == bundle_id)
        if last is not None:
            at, name = decisions.c.at, decisions.c.id
            asked = asked.where(tuple_(at, name) < tuple_(literal(last[0], at.type), literal(last[1], name.type)))
        rows = await tx.execute(asked.order_by(decisions.c.at.desc(), decisions.c.id.desc()).limit(limit))
        return [(row["id"], row["at"], row["first"]) for row in rows.mappings()]
