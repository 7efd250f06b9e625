"""Stills of decisions that wait for review: kept encrypted, shown, and deleted.

A row is written before the first still and finished behind the last: whatever fails in between leaves a row that
:meth:`ReviewImages.sweep` finds. The sweep looks the other way too, and deletes objects that no row speaks of.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

import structlog

from gateway.decoding.pdq import MIN_QUALITY
from gateway.decoding.stills import Still
from gateway.hash_matching.matcher import HashMatcher
from gateway.limits.deadline import Deadline
from gateway.limits.memory_budget import MemoryBudget
from gateway.review.still_errors import NotOpened, StillStoreAway
from gateway.store.audit import Actor, Detail
from gateway.store.outages import StoreUnavailable
from gateway.store.review.images import ImageHashes, ImageRows, ReviewImage

if TYPE_CHECKING:  # libraries of an extra stand behind these
    from gateway.review.sealing import Sealer
    from gateway.review.still_store import StillStore

RETENTION: Final = Actor("retention")
UNFINISHED_FOR: Final = timedelta(hours=1)
"""What is not finished by then never will be: far above any request's deadline."""

PAUSE_S: Final = 5.0
"""After stills could not be kept, for so long no moderation waits for their store."""

_AT_A_TIME: Final = 100
_READ_AT_A_TIME: Final = 4

Shown = tuple[int | None, str | None]
"""The frame that evidence points to: its milliseconds, and its background."""

Result = Literal["kept", "failed", "no_room", "deleted"]


@dataclass(frozen=True, slots=True)
class ImageRules:
    """What is kept.

    Attributes:
        side_px: the longest side of a still.
        most_stills: of a decision.
        kept_for: after the reviewer's verdict.
        timeout_s: how long a moderation waits for its stills to be kept.
    """

    side_px: int
    most_stills: int
    kept_for: timedelta
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ToKeep:
    """Stills of one decision.

    Attributes:
        decision_id: of the log.
        external_id: the client's own, or None.
        width: pixels of the image, upright.
        height: likewise.
        stills: all that were made.
        shown: the frames that matter most, the first most of all.
    """

    decision_id: str
    external_id: str | None
    width: int
    height: int
    stills: tuple[Still, ...]
    shown: tuple[Shown, ...]


class ReviewImages:
    """The stills of one gateway.

    Args:
        rows: what is kept, in the database.
        store: where it lies.
        sealer: encrypts it.
        rules: how much is kept, and how long.
        lists: returns the hash lists in force; what one that withholds knows is not shown, and is deleted.
        room: memory of stills, and of what is encrypted of them, until they are kept.
        observe: called with what became of the stills of a decision.
    """

    def __init__(
        self,
        rows: ImageRows,
        store: StillStore,
        sealer: Sealer,
        rules: ImageRules,
        lists: Callable[[], HashMatcher],
        room: MemoryBudget,
        observe: Callable[[Result], None],
    ) -> None:
        self.rules = rules
        self.room = room
        self.observe = observe
        self._rows = rows
        self._lists = lists
        self._store = store
        self._sealer = sealer
        self._paused_until_s = 0.0
        self._reading = asyncio.Semaphore(_READ_AT_A_TIME)
        self._log = structlog.get_logger("review_images")

    async def keep(self, items: Sequence[ToKeep], deadline: Deadline) -> None:
        """Keep stills; where that fails or takes too long, there is none, which is logged and counted."""
        result: Result = "failed"
        if items and time.monotonic() >= self._paused_until_s:
            try:
                async with asyncio.timeout(min(self.rules.timeout_s, deadline.at_s - time.monotonic())):
                    await self._keep(items)
                result = "kept"
            except (StillStoreAway, StoreUnavailable, TimeoutError) as why:
                self._paused_until_s = time.monotonic() + PAUSE_S
                self._log.warning("stills for review could not be kept", count=len(items), reason=str(why))
        for _ in items:
            self.observe(result)

    async def read(self, decision_id: str, still: int) -> bytes | None:
        """Return a still, a JPEG; None where none is kept, or it cannot be opened.

        Raises:
            StillStoreAway: it could not be read in time.
            StoreUnavailable: likewise the database.
        """
        row = await self._rows.read(decision_id)
        if row is None or row.state != "kept" or not 0 <= still < len(row.stills):
            return None
        hashes = await self._rows.hashes(1, only=decision_id)
        withheld = await asyncio.to_thread(_withheld, self._lists(), hashes)
        if withheld or not hashes:
            return None
        name = _name(decision_id, still)
        async with self._reading:
            sealed = await self._store.get(name)
            if sealed is None:
                self._log.error("a still that should be kept is gone", decision_id=decision_id, still=still)
                return None
            try:
                return self._sealer.open(sealed, name)
            except NotOpened:
                why = "a still cannot be opened: it was changed, or its key is not in REVIEW_IMAGE_KEY"
                self._log.error(why, decision_id=decision_id, still=still)
                return None

    async def note_view(self, decision_id: str, *, actor: Actor, detail: Detail) -> None:
        """Add a row to the audit; to be called before a still is sent.

        Raises:
            StoreUnavailable: it could not be written.
        """
        await self._rows.note_view(decision_id, actor=actor, detail=detail)

    async def forget(self, external_id: str, *, actor: Actor) -> None:
        """Delete all stills of an external id, unless it is under a legal hold.

        Raises:
            StillStoreAway: not all could be deleted.
            StoreUnavailable: likewise, or some may not have been found.
        """
        while rows := await self._rows.kept_for(external_id, _AT_A_TIME):
            await self._delete(rows, actor)

    async def discard(self, decision_id: str, *, actor: Actor) -> None:
        """Delete the stills of a decision.

        Raises:
            StillStoreAway, StoreUnavailable: they are still there.
        """
        row = await self._rows.read(decision_id)
        if row is not None and row.deleted_at is None:
            await self._delete([row], actor)

    async def sweep(self) -> None:
        """Delete what is due: after the verdict, of decisions that are gone, what was cut off, what no row speaks of.

        Raises:
            StoreUnavailable: it is not all done.
        """
        now = datetime.now(UTC)
        old = now - UNFINISHED_FOR
        try:
            async for names in self._store.listed(old):
                strays = await self._rows.without_stills(sorted({_decision_of(name) for name in names}))
                stray = [name for name in names if _decision_of(name) in strays]
                if stray:
                    self._log.warning("stills that no row speaks of were deleted", count=len(stray))
                    await self._store.delete(stray)
            while rows := await self._rows.due(_AT_A_TIME, reviewed_before=now - self.rules.kept_for, begun_before=old):
                await self._delete(rows, RETENTION)
            await self._rows.remove_orphans()
            await self._delete_withheld()
        except StillStoreAway as why:
            self._log.warning("stills that are due could not be deleted", reason=str(why))

    async def _keep(self, items: Sequence[ToKeep]) -> None:
        now = datetime.now(UTC)
        chosen = [(item, chosen_of(item, self.rules.most_stills)) for item in items]
        await self._rows.begin([_row(item, stills, now) for item, stills in chosen])
        sealed = [
            (name, self._sealer.seal(still.jpeg, name))
            for item, stills in chosen
            for name, still in zip(_names(item.decision_id, len(stills)), stills, strict=True)
        ]
        await self._store.put(sealed)
        await self._rows.finish([item.decision_id for item in items], datetime.now(UTC))

    async def _delete_withheld(self) -> None:
        """Delete the stills of images that a list which withholds has come to know since they were kept."""
        last = ""
        while hashes := await self._rows.hashes(_AT_A_TIME, after=last):
            for decision_id in await asyncio.to_thread(_withheld, self._lists(), hashes):
                await self.discard(decision_id, actor=RETENTION)
            last = hashes[-1].decision_id

    async def _delete(self, rows: Sequence[ReviewImage], actor: Actor) -> None:
        """Delete stills, then say so: what fails in between is deleted once more."""
        for row in rows:
            await self._store.delete(_names(row.decision_id, len(row.stills)))
            await self._rows.note_deleted(row.decision_id, datetime.now(UTC), actor=actor)
            self.observe("deleted")
            await asyncio.sleep(0)


def chosen_of(item: ToKeep, most: int) -> tuple[Still, ...]:
    """Return the stills of a decision to keep, in order: those that matter most, then others evenly in between."""
    order = {frame: rank for rank, frame in reversed(list(enumerate(item.shown)))}
    numbered = list(enumerate(item.stills))
    wanted = [each for each in numbered if _shown(each[1]) in order]
    wanted = sorted(wanted, key=lambda each: order[_shown(each[1])])[:most]
    rest = [each for each in numbered if each not in wanted]
    need = min(most - len(wanted), len(rest))
    wanted += [rest[(2 * number + 1) * len(rest) // (2 * need)] for number in range(need)]
    return tuple(still for _, still in sorted(wanted, key=lambda each: each[0]))


def _withheld(matcher: HashMatcher, hashes: Sequence[ImageHashes]) -> list[str]:
    """Return the decisions whose images lists know that withhold what they match; for a thread."""
    return [
        each.decision_id
        for each in hashes
        if any(getattr(found, "withhold", False) for found in matcher.match(each.sha256, each.pdq, MIN_QUALITY))
    ]


def _shown(still: Still) -> Shown:
    return still.place.frame_ms, still.place.background


def _row(item: ToKeep, stills: Sequence[Still], at: datetime) -> ReviewImage:
    frames = [{"frame_ms": still.place.frame_ms, "background": still.place.background} for still in stills]
    return ReviewImage(item.decision_id, item.external_id, at, item.width, item.height, frames)


def _name(decision_id: str, still: int) -> str:
    """Return the name of a still in its store, and what is bound to its bytes."""
    return f"{decision_id}.{still}"


def _names(decision_id: str, count: int) -> list[str]:
    return [_name(decision_id, still) for still in range(count)]


def _decision_of(name: str) -> str:
    return name.rpartition(".")[0]
