"""The decision log: appended to, paged through by time, forgotten on demand."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, delete, insert, literal, select, tuple_, update

from gateway.store import audit
from gateway.store.audit import Actor
from gateway.store.database import Repository, Transaction, reads, writes
from gateway.store.schema import decisions, feedback, fired_categories, revisions

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FIRED = ("review", "block")
DELETED_AT_A_TIME = 1000  # so that decisions can be logged in between

Decision = Literal["allow", "review", "block"]
Note = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One entry of the decision log. Never holds an image.

    Attributes:
        id: unique, sorts by time (UUIDv7-like hex or ULID).
        at: UTC.
        request_id: of the request it was part of.
        external_id: the client's own, or None.
        image_sha256: hex of the uploaded bytes.
        image_pdq: hex of the perceptual hash, or None where none was computed.
        policy: name.
        policy_version: number.
        bundle_id: of the models.
        decision: what was decided.
        categories: name → score, 0..1.
        detail: the result as answered (categories with evidence, attributes, warnings), and ``key``, the name of the
            API key or None; JSON values. The log's
            category filter reads ``detail["categories"]``: those whose ``decision`` is review or block have fired.
        vectors: float32 little-endian bytes of [V, D] image vectors, or None unless storing is switched on.
    """

    id: str
    at: datetime
    request_id: str
    external_id: str | None
    image_sha256: str
    image_pdq: str | None
    policy: str
    policy_version: int
    bundle_id: str
    decision: Decision
    categories: dict[str, float]
    detail: dict[str, Any]
    vectors: bytes | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """A reviewer's verdict on a decision; several may be given, each is kept."""

    decision_id: str
    at: datetime
    decision: Literal["allow", "block"]
    categories: list[str]
    note: str


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions to read; None means any. ``since`` is inclusive, ``until`` exclusive.

    ``category`` means decisions in which it fired (reached review or block), not those in which it was only scored.
    ``with_vectors`` means decisions whose vectors were stored, and reads those; else vectors are left out.
    """

    since: datetime | None = None
    until: datetime | None = None
    policy: str | None = None
    policy_version: int | None = None
    decision: Decision | None = None
    category: str | None = None
    external_id: str | None = None
    with_vectors: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Decisions, newest first, and the cursor of the next page (None at the end)."""

    records: tuple[DecisionRecord, ...]
    next_cursor: str | None


COLUMNS = tuple(field.name for field in fields(DecisionRecord))


class Decisions(Repository):
    """Decisions, and what reviewers say of them."""

    @writes
    async def append(self, tx: Transaction, records: Sequence[DecisionRecord]) -> None:
        """Append decisions, all or none. One whose id is there already is passed over: a log may be repeated."""
        if not records:
            return
        rows = [{name: getattr(record, name) for name in COLUMNS} for record in records]
        await tx.execute(tx.insert_new(decisions), rows)
        fired = [
            {"category": category, "at": record.at, "decision_id": record.id}
            for record in records
            for category in fired_in(record)
        ]
        if fired:
            await tx.execute(tx.insert_new(fired_categories), fired)

    @reads
    async def page(self, tx: Transaction, wanted: DecisionFilter, *, limit: int, cursor: str | None = None) -> Page:
        """Return a page of decisions, newest first.

        Raises:
            ValueError: the cursor is not one that a page gave.
        """
        selected = select(*(decisions.c[name] for name in COLUMNS if name != "vectors" or wanted.with_vectors))
        # Read in the order of one index: that of the categories where one is asked for, else one of the decisions'.
        at, key = (decisions.c.at, decisions.c.id)
        if wanted.category is not None:
            at, key = (fired_categories.c.at, fired_categories.c.decision_id)
            selected = selected.join(fired_categories, key == decisions.c.id)
        selected = selected.where(*_conditions(wanted, at))
        if cursor is not None:
            moment, last = _position(cursor)
            selected = selected.where(tuple_(at, key) < tuple_(literal(moment, at.type), literal(last, key.type)))
        rows = (await tx.execute(selected.order_by(at.desc(), key.desc()).limit(limit + 1))).mappings().all()
        records = tuple(DecisionRecord(**row) for row in rows[:limit])
        return Page(records, _cursor(records[-1]) if len(rows) > limit else None)

    @reads
    async def read(self, tx: Transaction, decision_id: str) -> tuple[DecisionRecord, tuple[Feedback, ...]] | None:
        """Return one decision with its feedback, oldest first."""
        row = (await tx.execute(select(decisions).where(decisions.c.id == decision_id))).mappings().one_or_none()
        if row is None:
            return None
        given = select(*(feedback.c[field.name] for field in fields(Feedback)))
        given = given.where(feedback.c.decision_id == decision_id).order_by(feedback.c.at, feedback.c.id)
        verdicts = (await tx.execute(given)).mappings()
        return DecisionRecord(**row), tuple(Feedback(**verdict) for verdict in verdicts)

    @writes
    async def add_feedback(self, tx: Transaction, verdict: Feedback, *, actor: Actor) -> bool:
        """Keep a verdict; False if there is no such decision."""
        asked = select(decisions.c.id).where(decisions.c.id == verdict.decision_id)
        if (await tx.execute(asked.with_for_update(read=True, key_share=True))).one_or_none() is None:
            return False
        await tx.execute(insert(feedback).values(**asdict(verdict)))
        detail = {"decision": verdict.decision, "categories": verdict.categories}
        await audit.note(tx, actor=actor, action="feedback", kind="decision", name=verdict.decision_id, detail=detail)
        return True

    async def forget(self, external_id: str, *, actor: Actor) -> int:
        """Delete all decisions of an external id with their feedback, in steps; return how many.

        The audit names the external id by its SHA-256.
        """
        name = hashlib.sha256(external_id.encode()).hexdigest()
        note = partial(audit.note, actor=actor, action="forget", kind="external_id", name=name)
        return await self._remove(decisions.c.external_id == external_id, note)

    async def expire(self, before: datetime) -> int:
        """Delete decisions older than ``before``, in steps; return how many."""
        return await self._remove(decisions.c.at < before, None)

    @writes
    async def check_writable(self, tx: Transaction) -> None:
        """Write a page and leave everything as it was; a row updated to what it is would not be written."""
        for step in (1, -1):
            await tx.execute(update(revisions).values(value=revisions.c.value + step))

    async def _remove(self, condition: ColumnElement[bool], note: Note | None) -> int:
        removed = 0
        while some := await self._remove_some(condition, note):
            removed += some
        return removed

    @writes
    async def _remove_some(self, tx: Transaction, condition: ColumnElement[bool], note: Note | None) -> int:
        some = select(decisions.c.id).where(condition).order_by(decisions.c.at, decisions.c.id)
        ids = (await tx.execute(some.limit(DELETED_AT_A_TIME).with_for_update())).scalars().all()
        if ids:
            await tx.execute(delete(decisions).where(decisions.c.id.in_(ids)))
            if note:
                await note(tx, detail={"decisions": len(ids)})
        return len(ids)


def fired_in(record: DecisionRecord) -> frozenset[str]:
    """Return the categories that made the decision: those that ``detail`` says to review or block."""
    return frozenset(entry["category"] for entry in record.detail["categories"] if entry["decision"] in FIRED)


def _conditions(wanted: DecisionFilter, at: Column[datetime]) -> list[ColumnElement[bool]]:
    asked = []
    if wanted.since is not None:
        asked.append(at >= wanted.since)
    if wanted.until is not None:
        asked.append(at < wanted.until)
    if wanted.category is not None:
        asked.append(fired_categories.c.category == wanted.category)
    equal = {name: getattr(wanted, name) for name in ("policy", "policy_version", "decision", "external_id")}
    asked += [decisions.c[name] == value for name, value in equal.items() if value is not None]
    if wanted.with_vectors:
        asked.append(decisions.c.vectors.is_not(None))
    return asked


def _cursor(record: DecisionRecord) -> str:
    moment = (record.at - EPOCH) // MICROSECOND
    return base64.urlsafe_b64encode(f"{moment}:{record.id}".encode()).decode().rstrip("=")


def _position(cursor: str) -> tuple[datetime, str]:
    """Return the time and id that a cursor stands for.

    Raises:
        ValueError: nothing that ``_cursor`` made.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        moment, key = text.split(":", 1)
        return EPOCH + int(moment) * MICROSECOND, key
    except (binascii.Error, ValueError, OverflowError) as error:
        raise ValueError("the cursor is not one of this log") from error
