"""Counts of decisions over time, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.store.audit import Actor
from gateway.store.decisions import Decision, Feedback
from gateway.store.review.statistics import Counted, Statistics
from tests.support.stores import NOON, Store, decision, fired

pytest_plugins = ["tests.support.store_fixtures"]

DAY = timedelta(days=1)


async def test_decisions_are_counted_in_their_span_of_time(store: Store) -> None:
    statistics = Statistics(store.database)
    kinds: tuple[Decision, ...] = ("allow", "review", "block", "review", "allow")
    records = [
        replace(
            decision(number, decision=kind, detail=fired(gore=kind) if number != 3 else fired()),
            at=NOON + number * timedelta(hours=9),
        )
        for number, kind in enumerate(kinds)
    ]
    await store.decisions.append(records)
    verdicts = {0: "allow", 1: "block", 2: "allow", 3: "allow"}
    for number, said in verdicts.items():
        verdict = Feedback(records[number].id, NOON, "block" if said == "block" else "allow", [], "")
        await store.decisions.add_feedback(verdict, actor=Actor("me"))
    days = await statistics.counted(NOON, NOON + 2 * DAY, "day")  # 12, 21 of the first; 6, 15 of the second; 0
    midnight = NOON.replace(hour=0)
    assert [(span.begin, span.end) for span in days] == [
        (midnight + number * DAY, midnight + (number + 1) * DAY) for number in range(3)
    ]
    assert [dict(span.decisions) for span in days] == [
        {"allow": 1, "review": 1},
        {"block": 1, "review": 1},
        {"allow": 1},
    ]
    assert [(span.agreed, span.overturned) for span in days] == [(2, 0), (1, 1), (0, 0)]
    assert dict(days[1].outcomes) == {"allow": 2}
    hours = await statistics.counted(NOON, NOON + timedelta(hours=10), "hour", "default")
    assert [span.decisions.total() for span in hours] == [1, *[0] * 8, 1]
    assert await statistics.counted(NOON, NOON + DAY, "week", "other") == [
        Counted(datetime(2026, 4, 27, tzinfo=UTC), datetime(2026, 5, 4, tzinfo=UTC))
    ]
    cut = await statistics.counted(NOON + timedelta(hours=1), NOON + timedelta(hours=9), "day")
    assert cut[0].decisions.total() == 0, "since is inclusive and until exclusive, within a span too"
