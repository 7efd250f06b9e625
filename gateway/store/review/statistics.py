"""How many decisions there were over time, and how often reviewers agreed with the policy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import and_, case, func, or_, select

from gateway.store.database import Repository, Transaction, reads
from gateway.store.schema import decisions, fired_categories

Bucket = Literal["hour", "day", "week"]
SPANS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}


@dataclass(slots=True)
class Counted:
    """Decisions of a span of time.

    Attributes:
        begin: inclusive, UTC.
        end: exclusive.
        decisions: decision → how many.
        outcomes: what holds → how many.
        agreed: those whose verdict is what the rules said: flagged and blocked, or not flagged and allowed.
        overturned: the other ones that were reviewed.
    """

    begin: datetime
    end: datetime
    decisions: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    agreed: int = 0
    overturned: int = 0


def begin_of(moment: datetime, bucket: Bucket) -> datetime:
    """Return when the hour, day or week of a moment begins, UTC; a week begins on Monday."""
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    return hour if bucket == "hour" else day if bucket == "day" else day - timedelta(days=day.weekday())


class Statistics(Repository):
    """Counts decisions."""

    @reads
    async def counted(
        self, tx: Transaction, since: datetime, until: datetime, bucket: Bucket, policy: str | None = None
    ) -> list[Counted]:
        """Return the decisions from ``since`` to ``until``, exclusive, by whole spans of time, oldest first.

        Spans without any are there too. The database counts by hour.
        """
        at = decisions.c.at
        hour = (
            func.to_char(func.timezone("UTC", at), "YYYY-MM-DD HH24") if tx.postgresql else func.substr(at, 1, 13)
        ).label("hour")
        # A decision to review in which no category fired was the audit's, or a warning's: the rules allowed the image.
        fired = select(1).where(fired_categories.c.decision_id == decisions.c.id).exists()
        reviewed = decisions.c.reviewed_at.is_not(None)
        flagged = case(
            (and_(reviewed, or_(decisions.c.decision == "block", and_(decisions.c.decision == "review", fired))), 1),
            else_=0,
        ).label("flagged")
        kinds = (hour, decisions.c.decision, decisions.c.outcome, reviewed.label("reviewed"), flagged)
        asked = select(*kinds, func.count().label("images")).where(at >= since, at < until)
        if policy is not None:
            asked = asked.where(decisions.c.policy == policy)
        rows = (await tx.execute(asked.group_by(*(kind.name for kind in kinds)))).all()
        spans: dict[datetime, Counted] = {}
        begin = begin_of(since, bucket)
        while begin < until:
            spans[begin] = Counted(begin, begin + SPANS[bucket])
            begin += SPANS[bucket]
        for row in rows:
            moment = datetime.strptime(row.hour, "%Y-%m-%d %H").replace(tzinfo=UTC)
            span = spans[begin_of(moment, bucket)]
            span.decisions[row.decision] += row.images
            span.outcomes[row.outcome] += row.images
            if row.reviewed:
                agrees = bool(row.flagged) == (row.outcome == "block")
                span.agreed += row.images if agrees else 0
                span.overturned += 0 if agrees else row.images
        return list(spans.values())
