"""The decision log: appended to, paged through by time, forgotten on demand."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, delete, func, literal, select, tuple_, update

from gateway.store import audit, idempotency
from gateway.store.audit import Actor
from gateway.store.database import Repository, Transaction, reads, writes
from gateway.store.idempotency import ClaimLost, KeptAnswer
from gateway.store.review.feedback import Feedback, feedback_on
from gateway.store.review.legal_holds import check_not_held, not_held
from gateway.store.review.new_cases import FIRED, new_case
from gateway.store.review.outbox import forget_events
from gateway.store.review.tables import review_cases
from gateway.store.schema import audit as audit_table
from gateway.store.schema import decisions, fired_categories, revisions

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EQUAL = ("policy", "policy_version", "decision", "external_id", "outcome", "image_sha256", "shadow_differs")
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
        decision: what the policy or a hash list decided.
        outcome: what holds: the latest reviewer's verdict, else the decision.
        categories: name → score, 0..1.
        detail: the result as answered (categories with evidence, attributes, warnings), and ``key``, the name of the
            API key or None; JSON values. The log's
            category filter reads ``detail["categories"]``: those whose ``decision`` is review or block have fired.
            ``near_matching`` says that ``image_pdq`` may be put on a hash list.
        vectors: float32 little-endian bytes of [V, D] image vectors, or None unless storing is switched on.
        reviewed_at: when the outcome was given, UTC; None without a reviewer's verdict.
        reviewed_by: name of the API key that gave it, or None.
        reviewer: who gave it, as that key's holder says, or None.
        shadow_differs: whether a shadow policy decided otherwise; None without one.
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
    outcome: Decision
    categories: dict[str, float]
    detail: dict[str, Any]
    vectors: bytes | None = None
    reviewed_at: datetime | None = None
    reviewed_by: str | None = None
    reviewer: str | None = None
    shadow_differs: bool | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What one request appends: decisions, and the answer that they are part of where it may be repeated."""

    records: tuple[DecisionRecord, ...]
    kept: KeptAnswer | None = None


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions to read; None means any. ``since`` is inclusive, ``until`` exclusive.

    ``category`` means decisions in which it fired (reached review or block), not those in which it was only scored.
    ``shadow_differs`` means decisions that a shadow policy was compared with.
    ``with_vectors`` means decisions whose vectors were stored, and reads those; else vectors are left out.
    """

    since: datetime | None = None
    until: datetime | None = None
    policy: str | None = None
    policy_version: int | None = None
    decision: Decision | None = None
    category: str | None = None
    external_id: str | None = None
    outcome: Decision | None = None
    image_sha256: str | None = None
    reviewed: bool | None = None
    shadow_differs: bool | None = None
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
    async def append(self, tx: Transaction, records: Sequence[DecisionRecord], kept: KeptAnswer | None = None) -> None:
        """Append decisions, all or none, those to review with the case that waits for a person.

        A decision whose id is there already is passed over: a log may be repeated.

        Args:
            tx: the transaction.
            records: appended.
            kept: the answer that they are part of, for a request that may be repeated.

        Raises:
            ClaimLost: another request has the answer's key; nothing is appended.
        """
        if kept is not None:
            await idempotency.keep(tx, kept)
        await _append(tx, records)

    @writes
    async def append_spooled(self, tx: Transaction, entries: Sequence[LogEntry]) -> None:
        """Append decisions that were spooled, all or none; those whose external id was forgotten since are left out.

        An answer is kept unless its key was lost meanwhile.
        """
        await audit.lock_revision(tx)  # so that an external id is forgotten before this, or after it
        records = [record for entry in entries for record in entry.records]
        forgotten = await _forgotten(tx, {record.external_id for record in records if record.external_id})
        await _append(tx, [record for record in records if record.at > forgotten.get(record.external_id or "", EPOCH)])
        for entry in entries:
            if entry.kept is not None:
                with suppress(ClaimLost):
                    await idempotency.keep(tx, entry.kept)

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
        return DecisionRecord(**row), await feedback_on(tx, [decision_id])

    @reads
    async def feedback_on(self, tx: Transaction, decision_ids: Sequence[str]) -> tuple[Feedback, ...]:
        """Return the feedback of a page of decisions, oldest first."""
        return await feedback_on(tx, decision_ids)

    @reads
    async def named(self, tx: Transaction, ids: Sequence[str]) -> tuple[DecisionRecord, ...]:
        """Return the decisions of these ids that there are, with their vectors, in any order."""
        rows = (
            await tx.execute(select(*(decisions.c[name] for name in COLUMNS)).where(decisions.c.id.in_(ids)))
        ).mappings()
        return tuple(DecisionRecord(**row) for row in rows)

    async def forget(self, external_id: str, *, actor: Actor) -> int:
        """Delete all decisions of an external id with their cases and feedback, in steps; return how many.

        Answers that are kept for repeated requests, and events for webhooks, go first. The audit names the external id
        by its SHA-256.

        Raises:
            LegallyHeld: it is under a legal hold; nothing is deleted, or nothing more where it came in between.
        """
        name = hashlib.sha256(external_id.encode()).hexdigest()

        async def note(tx: Transaction, detail: audit.Detail) -> None:
            await audit.note(tx, actor=actor, action="forget", kind="external_id", name=name, detail=detail)

        async def forgotten(tx: Transaction, detail: audit.Detail) -> None:
            await forget_events(tx, external_id)  # again: a verdict may have been given in between
            await note(tx, detail=detail)

        await self._forget_answers(external_id, note)

        removed = await self._remove(decisions.c.external_id == external_id, forgotten)
        await self._check_not_held(external_id)
        return removed

    async def expire(self, before: datetime) -> int:
        """Delete decisions older than ``before`` that no legal hold keeps, in steps; return how many."""
        return await self._remove(decisions.c.at < before, None)

    @writes
    async def check_writable(self, tx: Transaction) -> None:
        """Write a page and leave everything as it was; a row updated to what it is would not be written."""
        for step in (1, -1):
            await tx.execute(update(revisions).values(value=revisions.c.value + step))

    @writes
    async def _forget_answers(self, tx: Transaction, external_id: str, note: Note) -> None:
        await audit.lock_revision(tx)
        await check_not_held(tx, external_id)
        await note(tx, detail={})  # a decision that waits in a spool is not written any more
        await idempotency.forget(tx, external_id)
        await forget_events(tx, external_id)

    @reads
    async def _check_not_held(self, tx: Transaction, external_id: str) -> None:
        await check_not_held(tx, external_id)

    async def _remove(self, condition: ColumnElement[bool], note: Note | None) -> int:
        removed = 0
        while some := await self._remove_some(condition, note):
            removed += some
        return removed

    @writes
    async def _remove_some(self, tx: Transaction, condition: ColumnElement[bool], note: Note | None) -> int:
        some = select(decisions.c.id).where(condition, not_held()).order_by(decisions.c.at, decisions.c.id)
        ids = (await tx.execute(some.limit(DELETED_AT_A_TIME).with_for_update())).scalars().all()
        if ids:
            await tx.execute(delete(decisions).where(decisions.c.id.in_(ids)))
            if note:
                await note(tx, detail={"decisions": len(ids)})
        return len(ids)


async def _append(tx: Transaction, records: Sequence[DecisionRecord]) -> None:
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
    waiting = [new_case(record) for record in records if record.decision == "review"]
    if waiting:
        await tx.execute(tx.insert_new(review_cases), waiting)


async def _forgotten(tx: Transaction, external_ids: Collection[str]) -> dict[str, datetime]:
    """Return when each of these external ids was forgotten last, where it was."""
    names = {hashlib.sha256(external_id.encode()).hexdigest(): external_id for external_id in external_ids}
    if not names:
        return {}
    log = audit_table.c
    latest = select(log.name, func.max(log.at).label("at")).where(log.action == "forget", log.kind == "external_id")
    rows = await tx.execute(latest.where(log.name.in_(names)).group_by(log.name))
    return {names[row.name]: row.at for row in rows}


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
    equal = {name: getattr(wanted, name) for name in EQUAL}
    asked += [decisions.c[name] == value for name, value in equal.items() if value is not None]
    if wanted.reviewed is not None:
        there = decisions.c.reviewed_at.is_not(None)
        asked.append(there if wanted.reviewed else ~there)
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
