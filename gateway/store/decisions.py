"""The decision log: appended to, paged through by time, forgotten on demand. Each function works in one transaction."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, delete, insert, literal, select, tuple_

from gateway.store import changes
from gateway.store.audit_records import Actor
from gateway.store.database import Transaction
from gateway.store.records import DecisionFilter, DecisionRecord, Feedback, Page
from gateway.store.schema import decisions, feedback, fired_categories

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FIRED = ("review", "block")
COLUMNS = tuple(field.name for field in fields(DecisionRecord))


async def append(tx: Transaction, records: Sequence[DecisionRecord]) -> None:
    """As ``Store.log``. A decision that is there already is passed over, so a log that may have failed is repeated."""
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


def fired_in(record: DecisionRecord) -> frozenset[str]:
    """Return the categories that made the decision: those that ``detail`` says to review or block."""
    entries = record.detail.get("categories")
    return frozenset(
        str(entry["category"])
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and entry.get("decision") in FIRED and "category" in entry
    )


async def page(tx: Transaction, wanted: DecisionFilter, *, cursor: str | None, limit: int) -> Page:
    """As ``Store.decisions``."""
    selected = select(*(decisions.c[name] for name in COLUMNS if name != "vectors" or wanted.with_vectors))
    # Read in the order of one index: that of the categories where one is asked for, else one of the decisions'.
    at, key = (decisions.c.at, decisions.c.id)
    if wanted.category is not None:
        at, key = (fired_categories.c.at, fired_categories.c.decision_id)
        selected = selected.join(fired_categories, key == decisions.c.id)
    selected = selected.where(*_conditions(wanted, at))
    if cursor is not None:
        moment, last = _place(cursor)
        selected = selected.where(tuple_(at, key) < tuple_(literal(moment, at.type), literal(last, key.type)))
    rows = (await tx.execute(selected.order_by(at.desc(), key.desc()).limit(limit + 1))).all()
    records = tuple(_made(row) for row in rows[:limit])
    return Page(records, _cursor(records[-1]) if len(rows) > limit else None)


async def one(tx: Transaction, decision_id: str) -> tuple[DecisionRecord, tuple[Feedback, ...]] | None:
    """As ``Store.decision``."""
    row = (await tx.execute(select(decisions).where(decisions.c.id == decision_id))).one_or_none()
    if row is None:
        return None
    said = select(feedback).where(feedback.c.decision_id == decision_id).order_by(feedback.c.at, feedback.c.id)
    return _made(row), tuple(
        Feedback(
            decision_id=verdict.decision_id,
            at=verdict.at,
            decision=verdict.decision,
            categories=tuple(verdict.categories),
            note=verdict.note,
        )
        for verdict in await tx.execute(said)
    )


async def judge(tx: Transaction, verdict: Feedback, *, actor: Actor) -> bool:
    """As ``Store.add_feedback``."""
    asked = select(decisions.c.id).where(decisions.c.id == verdict.decision_id)
    if (await tx.execute(asked.with_for_update(read=True, key_share=True))).one_or_none() is None:
        return False
    row = {field.name: getattr(verdict, field.name) for field in fields(verdict)}
    await tx.execute(insert(feedback).values(**{**row, "categories": list(verdict.categories)}))
    said = {"decision": verdict.decision, "categories": list(verdict.categories)}
    await changes.note(tx, actor=actor, action="feedback", kind="decision", name=verdict.decision_id, detail=said)
    return True


def of_external_id(external_id: str) -> ColumnElement[bool]:
    """Return the condition of ``Store.forget``."""
    return decisions.c.external_id == external_id


def older_than(before: datetime) -> ColumnElement[bool]:
    """Return the condition of ``Store.expire``."""
    return decisions.c.at < before


async def forget_some(tx: Transaction, external_id: str, limit: int, *, actor: Actor) -> int:
    """As ``remove_some`` for an external id, with a row of the audit that names it by its SHA-256."""
    removed = await remove_some(tx, of_external_id(external_id), limit)
    if removed:
        name = hashlib.sha256(external_id.encode()).hexdigest()
        detail = {"decisions": removed}
        await changes.note(tx, actor=actor, action="forget", kind="external_id", name=name, detail=detail)
    return removed


async def remove_some(tx: Transaction, condition: ColumnElement[bool], limit: int) -> int:
    """Delete at most ``limit`` decisions with their feedback; return how many."""
    oldest = select(decisions.c.id).where(condition).order_by(decisions.c.at, decisions.c.id).limit(limit)
    ids = (await tx.execute(oldest.with_for_update())).scalars().all()
    if ids:
        await tx.execute(delete(decisions).where(decisions.c.id.in_(ids)))
    return len(ids)


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


def _place(cursor: str) -> tuple[datetime, str]:
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


def _made(row: Row[Any]) -> DecisionRecord:
    return DecisionRecord(**row._mapping)  # noqa: SLF001 - public, says SQLAlchemy; the name keeps off columns
