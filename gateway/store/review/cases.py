"""The queue of cases that wait for a person: claimed with a lease, so that no two people get the same one.

A claim is one UPDATE of the first case that nobody has. PostgreSQL skips rows that another transaction is claiming,
SQLite has one writer at a time; so no two claims can both win a case, on whichever replicas they are made.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, insert, literal, or_, select, tuple_, update

from gateway.store.database import Database, Repository, Transaction, reads, writes
from gateway.store.decisions import COLUMNS, DecisionRecord
from gateway.store.review.feedback import Feedback, feedback_on
from gateway.store.review.images import ReviewImage, images_of
from gateway.store.review.tables import legal_holds, review_cases, review_skips
from gateway.store.schema import decisions, feedback, fired_categories

Order = Literal["oldest", "riskiest", "uncertain"]
CaseState = Literal["waiting", "claimed", "closed"]
Reason = Literal["policy", "audit", "appeal", "second_opinion"]
ANONYMOUS: Final = "anonymous"  # who judged with neither a name nor an API key


_case_id = review_cases.c.decision_id


@dataclass
class CaseTaken(Exception):
    """A claim is not in force any more: somebody else has the case, or it is decided."""


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """How long a claim and a skip last, seconds, and how many cases one person may hold."""

    lease_s: float
    skip_s: float
    claims: int


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which cases to read; None means any, and ``state`` ``open`` those that wait or are claimed.

    Attributes:
        policy: its name.
        category: one that fired.
        key: name of the API key that asked for the decision.
        state: of the case.
        reason: why it waits, or waited.
    """

    policy: str | None = None
    category: str | None = None
    key: str | None = None
    state: CaseState | Literal["open"] = "open"
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """One case.

    Attributes:
        reason: why it waits, or waited last.
        opened_at: since when, UTC.
        closed_at: when it was decided; None while it waits.
        risk: highest score of the categories that fired, 0..1.
        margin: smallest distance of a score to a threshold, 0..1.
        claimed_by: who claimed it last and has not released it.
        claimed_until: when that claim ends.
        token: of that claim.
        legal_hold: whether its external id is under one.
        decision: what waits, without vectors.
        image: the stills kept of it, or None.
        feedback: what was said of it, oldest first; empty in pages.
    """

    reason: Reason
    opened_at: datetime
    closed_at: datetime | None
    risk: float
    margin: float
    claimed_by: str | None
    claimed_until: datetime | None
    token: str | None
    legal_hold: bool
    decision: DecisionRecord
    image: ReviewImage | None = None
    feedback: tuple[Feedback, ...] = ()

    @property
    def state(self) -> CaseState:
        """Closed, or whether somebody has it now."""
        if self.closed_at is not None:
            return "closed"
        held = self.claimed_until is not None and self.claimed_until > datetime.now(UTC)
        return "claimed" if held else "waiting"


@dataclass(frozen=True, slots=True)
class CasePage:
    """Cases and the cursor of the next page (None at the end)."""

    cases: tuple[CaseRecord, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """The queue in numbers: cases that wait and that are claimed, appeals among both, and the oldest one's time."""

    waiting: int
    claimed: int
    appeals: int
    oldest_at: datetime | None


class Cases(Repository):
    """The cases of all gateways on a database."""

    def __init__(self, database: Database, rules: ClaimRules) -> None:
        super().__init__(database)
        self._rules = rules

    @writes
    async def claim(self, tx: Transaction, who: str, order: Order, wanted: CaseFilter) -> CaseRecord | None:
        """Claim the next case for a person; None if nothing waits for them.

        Who holds as many cases as one may is given the one claimed first again, with its lease begun anew.
        """
        now = datetime.now(UTC)
        held = select(_case_id).where(_open(), review_cases.c.claimed_by == who, review_cases.c.claimed_until > now)
        held = held.order_by(review_cases.c.claimed_at, _case_id).limit(self._rules.claims)
        mine = (await tx.execute(held.with_for_update())).scalars().all()
        until = now + timedelta(seconds=self._rules.lease_s)
        if len(mine) >= self._rules.claims:
            await tx.execute(update(review_cases).where(_case_id == mine[0]).values(claimed_until=until))
            return await read_case(tx, mine[0])
        first = _free(select(_case_id), who, now).where(*_conditions(wanted)).order_by(*_keys(order)).limit(1)
        won = update(review_cases).where(
            _case_id == first.with_for_update(skip_locked=True, of=review_cases).scalar_subquery()
        )
        claim = {"claimed_by": who, "claimed_at": now, "claimed_until": until, "token": secrets.token_urlsafe(24)}
        found = (await tx.execute(won.values(**claim).returning(_case_id))).scalar_one_or_none()
        return None if found is None else await read_case(tx, found)

    @writes
    async def extend(self, tx: Transaction, decision_id: str, token: str) -> datetime:
        """Begin a claim's lease anew; return until when.

        Raises:
            CaseTaken: somebody else has the case, or it is decided.
        """
        until = datetime.now(UTC) + timedelta(seconds=self._rules.lease_s)
        await _changed(tx, decision_id, token, {"claimed_until": until})
        return until

    @writes
    async def release(self, tx: Transaction, decision_id: str, token: str, *, skip: bool) -> None:
        """Give a case back; with ``skip`` it is not offered to the same person for a while.

        Raises:
            CaseTaken: somebody else has the case, or it is decided.
        """
        who = (await tx.execute(select(review_cases.c.claimed_by).where(_case_id == decision_id))).scalar_one_or_none()
        await _changed(tx, decision_id, token, UNCLAIMED)
        if not skip:
            return
        row = {"decision_id": decision_id, "reviewer": who}
        await tx.execute(delete(review_skips).where(*(review_skips.c[name] == value for name, value in row.items())))
        until = datetime.now(UTC) + timedelta(seconds=self._rules.skip_s)
        await tx.execute(insert(review_skips).values(**row, until=until))

    @reads
    async def read(self, tx: Transaction, decision_id: str) -> CaseRecord | None:
        """Return a case with what was said of it."""
        return await read_case(tx, decision_id)

    @reads
    async def page(
        self, tx: Transaction, wanted: CaseFilter, order: Order, *, limit: int, cursor: str | None = None
    ) -> CasePage:
        """Return a page of cases in an order; of closed ones the latest closed first, whatever the order.

        Raises:
            ValueError: the cursor is not one that a page of this order gave.
        """
        closed = wanted.state == "closed"
        selected = _selected().where(*_conditions(wanted))
        keys = (review_cases.c.closed_at.desc(), _case_id.desc()) if closed else _keys(order)
        if cursor is not None:
            selected = selected.where(_behind(cursor, "closed" if closed else order))
        rows = (await tx.execute(selected.order_by(*keys).limit(limit + 1))).mappings().all()
        cases = await _records(tx, rows[:limit])
        more = len(rows) > limit
        return CasePage(tuple(cases), _cursor(cases[-1], "closed" if closed else order) if more else None)

    @reads
    async def counts(self, tx: Transaction) -> Counts:
        """Return the queue in numbers."""
        by_reason = (
            select(review_cases.c.reason, func.count().label("n")).where(_open()).group_by(review_cases.c.reason)
        )
        reasons: dict[str, int] = {row["reason"]: row["n"] for row in (await tx.execute(by_reason)).mappings()}
        held = select(func.count()).where(_open(), review_cases.c.claimed_by.is_not(None))
        claimed = (await tx.execute(held.where(review_cases.c.claimed_until > datetime.now(UTC)))).scalar_one()
        oldest = select(review_cases.c.opened_at).where(_open()).order_by(*_keys("oldest")).limit(1)
        oldest_at = (await tx.execute(oldest)).scalar_one_or_none()
        return Counts(sum(reasons.values()) - claimed, claimed, reasons.get("appeal", 0), oldest_at)


UNCLAIMED: Final[dict[str, Any]] = {"claimed_by": None, "claimed_at": None, "claimed_until": None, "token": None}


async def read_case(tx: Transaction, decision_id: str) -> CaseRecord | None:
    """Return a case with what was said of it, within a transaction of the caller's."""
    rows = (await tx.execute(_selected().where(_case_id == decision_id))).mappings().all()
    said = await feedback_on(tx, [decision_id]) if rows else ()
    return next(iter(await _records(tx, rows, said)), None)


async def _changed(tx: Transaction, decision_id: str, token: str, values: dict[str, Any]) -> None:
    mine = update(review_cases).where(_case_id == decision_id, review_cases.c.token == token, _open())
    if (await tx.execute(mine.values(**values))).rowcount != 1:
        raise CaseTaken


def _open() -> ColumnElement[bool]:
    return review_cases.c.closed_at.is_(None)


def _free(asked: Select[Any], who: str, now: datetime) -> Select[Any]:
    """Return the choice of open cases that nobody has, and that may be offered to a person."""
    free = or_(review_cases.c.claimed_until.is_(None), review_cases.c.claimed_until <= now)
    skipped = exists().where(
        review_skips.c.decision_id == _case_id, review_skips.c.reviewer == who, review_skips.c.until > now
    )
    stands = (feedback.c.kind == "verdict", ~feedback.c.undone)
    judged = exists().where(feedback.c.decision_id == _case_id, *stands, said_by(who))
    return asked.where(_open(), free, ~skipped, or_(review_cases.c.reason != "second_opinion", ~judged))


def said_by(who: str) -> ColumnElement[bool]:
    """Return the condition that a row of feedback is a person's."""
    return func.coalesce(feedback.c.reviewer, feedback.c.key, ANONYMOUS) == who


def _keys(order: Order) -> tuple[ColumnElement[Any], ...]:
    first: ColumnElement[Any] = review_cases.c.opened_at
    if order != "oldest":
        first = review_cases.c.risk.desc() if order == "riskiest" else review_cases.c.margin
    return first, _case_id


def _conditions(wanted: CaseFilter) -> list[ColumnElement[bool]]:
    held = and_(review_cases.c.claimed_by.is_not(None), review_cases.c.claimed_until > datetime.now(UTC))
    asked: list[ColumnElement[bool]] = [~_open() if wanted.state == "closed" else _open()]
    if wanted.state == "claimed":
        asked.append(held)
    elif wanted.state == "waiting":
        asked.append(or_(review_cases.c.claimed_until.is_(None), review_cases.c.claimed_until <= datetime.now(UTC)))
    if wanted.category is not None:
        of_it = (fired_categories.c.decision_id == _case_id, fired_categories.c.category == wanted.category)
        asked.append(exists().where(*of_it))
    equal = {name: getattr(wanted, name) for name in ("policy", "key", "reason")}
    return asked + [review_cases.c[name] == value for name, value in equal.items() if value is not None]


_CASE: Final = ("reason", "opened_at", "closed_at", "risk", "margin", "claimed_by", "claimed_until", "token")
_SHOWN: Final = tuple(name for name in COLUMNS if name != "vectors")


def _selected() -> Select[Any]:
    held = exists().where(legal_holds.c.external_id == decisions.c.external_id)
    of_case = (review_cases.c[name].label(f"case_{name}") for name in _CASE)
    shown = (decisions.c[name] for name in _SHOWN)
    return select(*of_case, *shown, held.label("held")).join_from(review_cases, decisions, _case_id == decisions.c.id)


async def _records(tx: Transaction, rows: Sequence[Any], said: tuple[Feedback, ...] = ()) -> list[CaseRecord]:
    images = await images_of(tx, [row["id"] for row in rows]) if rows else {}
    return [
        CaseRecord(
            **{name: row[f"case_{name}"] for name in _CASE},
            legal_hold=bool(row["held"]),
            decision=DecisionRecord(**{name: row[name] for name in _SHOWN}),
            image=images.get(row["id"]),
            feedback=said,
        )
        for row in rows
    ]


def _cursor(case: CaseRecord, order: str) -> str:
    value: Any = {"riskiest": case.risk, "uncertain": case.margin, "closed": case.closed_at}.get(order, case.opened_at)
    text = value.isoformat() if isinstance(value, datetime) else repr(value)
    return base64.urlsafe_b64encode(f"{order} {text} {case.decision.id}".encode()).decode().rstrip("=")


def _behind(cursor: str, order: str) -> ColumnElement[bool]:
    """Return the condition that a case comes behind the one that a cursor stands for.

    Raises:
        ValueError: nothing that ``_cursor`` made for this order.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        made_for, value, last = text.split(" ")
        at: Any = float(value) if order in {"riskiest", "uncertain"} else datetime.fromisoformat(value)
    except (ValueError, binascii.Error):
        raise ValueError("not a cursor") from None
    if made_for != order or (isinstance(at, datetime) and at.tzinfo is None):
        raise ValueError("not a cursor of this order")
    if order == "riskiest":
        return or_(review_cases.c.risk < at, and_(review_cases.c.risk == at, _case_id > last))
    column = {"uncertain": review_cases.c.margin, "closed": review_cases.c.closed_at}.get(
        order, review_cases.c.opened_at
    )
    position, here = tuple_(literal(at, column.type), literal(last, _case_id.type)), tuple_(column, _case_id)
    return here < position if order == "closed" else here > position
