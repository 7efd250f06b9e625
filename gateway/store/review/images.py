"""Which stills are kept for review, and which of them are due to be deleted; the stills themselves lie elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, delete, exists, insert, or_, select, update

from gateway.store import audit
from gateway.store.audit import Actor, Detail
from gateway.store.database import Repository, Transaction, reads, writes
from gateway.store.review.tables import legal_holds, review_images
from gateway.store.schema import decisions

_ITS_DECISION = decisions.c.id == review_images.c.decision_id
_HELD = exists().where(legal_holds.c.external_id == review_images.c.external_id)

ImageState = Literal["none", "kept", "deleted"]


@dataclass(frozen=True, slots=True)
class ReviewImage:
    """The stills of one decision.

    Attributes:
        decision_id: whose they are.
        external_id: the client's own, or None.
        at: when the row was written, before the stills, UTC.
        width: pixels of the image that they were made of, upright: what boxes of evidence refer to.
        height: likewise.
        stills: of each ``frame_ms`` and ``background``, in order; JSON values.
        kept_at: when all were kept; None until then, and where they could not be.
        deleted_at: when they were deleted; None while they are kept.
    """

    decision_id: str
    external_id: str | None
    at: datetime
    width: int
    height: int
    stills: list[dict[str, Any]]
    kept_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def state(self) -> ImageState:
        """Whether there are stills to look at."""
        if self.deleted_at is not None:
            return "deleted"
        return "none" if self.kept_at is None else "kept"


class ImageHashes(NamedTuple):
    """Of a decision's image: the SHA-256 of its file, and its perceptual hash or None, both hexadecimal."""

    decision_id: str
    sha256: str
    pdq: str | None


class ImageRows(Repository):
    """The rows of kept stills."""

    @writes
    async def begin(self, tx: Transaction, images: Sequence[ReviewImage]) -> None:
        """Write rows; from then on whatever becomes of their stills is found again."""
        await tx.execute(insert(review_images), [asdict(image) for image in images])

    @writes
    async def finish(self, tx: Transaction, decision_ids: Sequence[str], at: datetime) -> None:
        """Say that all stills of these rows are kept."""
        of_them = review_images.c.decision_id.in_(decision_ids)
        await tx.execute(update(review_images).where(of_them).values(kept_at=at))

    @reads
    async def read(self, tx: Transaction, decision_id: str) -> ReviewImage | None:
        """Return the row of a decision."""
        return (await images_of(tx, [decision_id])).get(decision_id)

    @reads
    async def hashes(
        self, tx: Transaction, limit: int, *, after: str = "", only: str | None = None
    ) -> list[ImageHashes]:
        """Return whose stills are kept with the hashes of their images, in order of ids; none under a legal hold.

        Args:
            tx: the transaction.
            limit: how many at most.
            after: ids up to this one are left out.
            only: this decision alone, held or not.
        """
        columns = decisions.c.id, decisions.c.image_sha256, decisions.c.image_pdq
        asked = select(*columns).join(review_images, _ITS_DECISION).where(review_images.c.deleted_at.is_(None))
        asked = asked.where(~_HELD, decisions.c.id > after) if only is None else asked.where(decisions.c.id == only)
        rows = await tx.execute(asked.order_by(decisions.c.id).limit(limit))
        return [ImageHashes(row.id, row.image_sha256, row.image_pdq) for row in rows]

    @writes
    async def note_view(self, tx: Transaction, decision_id: str, *, actor: Actor, detail: Detail) -> None:
        """Add a row to the audit: somebody is about to see a still."""
        await audit.note(tx, actor=actor, action="view", kind="review_image", name=decision_id, detail=detail)

    @writes
    async def note_deleted(self, tx: Transaction, decision_id: str, at: datetime, *, actor: Actor) -> None:
        """Say that the stills of a row are gone, for the audit too; the row itself goes with its decision."""
        mine = review_images.c.decision_id == decision_id
        changed = update(review_images).where(mine, review_images.c.deleted_at.is_(None)).values(deleted_at=at)
        if (await tx.execute(changed)).rowcount:
            await audit.note(tx, actor=actor, action="delete", kind="review_image", name=decision_id, detail={})

    @reads
    async def kept_for(self, tx: Transaction, external_id: str, limit: int) -> tuple[ReviewImage, ...]:
        """Return the rows of an external id whose stills are not deleted; none under a legal hold."""
        return await _some(tx, review_images.c.external_id == external_id, limit)

    @reads
    async def due(
        self, tx: Transaction, limit: int, *, reviewed_before: datetime, begun_before: datetime
    ) -> tuple[ReviewImage, ...]:
        """Return rows whose stills are to be deleted; none under a legal hold.

        Args:
            tx: the transaction.
            limit: rows at most.
            reviewed_before: those with a verdict older than this.
            begun_before: those that were begun before this and never finished.
        """
        verdict = exists().where(_ITS_DECISION, decisions.c.reviewed_at < reviewed_before)
        cut_off = review_images.c.kept_at.is_(None) & (review_images.c.at < begun_before)
        return await _some(tx, or_(verdict, ~exists().where(_ITS_DECISION), cut_off), limit)

    @writes
    async def remove_orphans(self, tx: Transaction) -> None:
        """Delete rows of deleted stills whose decision is gone."""
        gone = review_images.c.deleted_at.is_not(None) & ~exists().where(_ITS_DECISION)
        await tx.execute(delete(review_images).where(gone))

    @reads
    async def without_stills(self, tx: Transaction, decision_ids: Sequence[str]) -> set[str]:
        """Return those of these decisions that no still should be there of: without a row, or with a deleted one."""
        there = select(review_images.c.decision_id).where(
            review_images.c.decision_id.in_(decision_ids), review_images.c.deleted_at.is_(None)
        )
        return set(decision_ids) - set((await tx.execute(there)).scalars())


async def images_of(tx: Transaction, decision_ids: Sequence[str]) -> dict[str, ReviewImage]:
    """Return the rows of these decisions that have one, within a transaction of the caller's."""
    asked = select(*_COLUMNS).where(review_images.c.decision_id.in_(decision_ids))
    return {row["decision_id"]: ReviewImage(**row) for row in (await tx.execute(asked)).mappings()}


_COLUMNS = tuple(review_images.c[field.name] for field in fields(ReviewImage))


async def _some(tx: Transaction, condition: ColumnElement[bool], limit: int) -> tuple[ReviewImage, ...]:
    asked = select(*_COLUMNS).where(review_images.c.deleted_at.is_(None), ~_HELD, condition)
    rows = await tx.execute(asked.order_by(review_images.c.at, review_images.c.decision_id).limit(limit))
    return tuple(ReviewImage(**row) for row in rows.mappings())
