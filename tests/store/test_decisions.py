"""The decision log, on both databases: append, page, filter, judge, forget."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import event

from gateway.store.audit import Actor
from gateway.store.decisions import DecisionFilter, DecisionRecord
from gateway.store.lists import HashList
from gateway.store.review.feedback import Feedback
from gateway.store.reviewed_lists import ListUnfit
from tests.support.stores import NOON, Store, decision, fired, opened

pytest_plugins = ["tests.support.store_fixtures"]

ME = Actor("me")

ANY = DecisionFilter()


async def pages(store: Store, wanted: DecisionFilter, limit: int) -> list[tuple[DecisionRecord, ...]]:
    """Read to the end."""
    found = []
    cursor: str | None = None
    while True:
        page = await store.decisions.page(wanted, cursor=cursor, limit=limit)
        found.append(page.records)
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


async def numbers(store: Store, **wanted: Any) -> list[int]:
    """Read which of ``decision``'s numbers are found, in order."""
    (found,) = await pages(store, DecisionFilter(**wanted), 1000)
    return [int(record.id, 16) for record in found]


async def test_a_decision_comes_back_as_it_was(store: Store) -> None:
    record = decision(
        1,
        at=datetime(2026, 5, 1, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2))),
        external_id="post/1 ü",
        image_pdq="f" * 64,
        decision="block",
        detail={"z": 1, **fired(gore="block"), "a": ["\u0000", None, 0.1]},
        vectors=bytes(range(256)) * 8,
    )
    await store.decisions.append([record])
    found = await store.decisions.read(record.id)
    assert found == (record, ())
    assert found[0].at.utcoffset() == timedelta(0)
    assert list(found[0].detail) == ["z", "categories", "a"]
    assert await store.decisions.read("0") is None


async def test_the_log_is_all_or_none_and_may_be_repeated(store: Store) -> None:
    good = [decision(number, detail=fired(gore="review")) for number in range(3)]
    with pytest.raises(ValueError, match="zone"):
        await store.decisions.append([*good, decision(3, at=NOON.replace(tzinfo=None))])
    assert await numbers(store) == []
    await store.decisions.append([])
    await store.decisions.append(good)
    await store.decisions.append([*good, decision(3)])
    assert await numbers(store) == [3, 2, 1, 0]
    assert await numbers(store, category="gore") == [2, 1, 0]


async def test_pages_stay_as_they_are_while_decisions_come_in(store: Store) -> None:
    same_time = [decision(number, at=NOON) for number in range(10)]
    await store.decisions.append([*same_time, decision(100), decision(101)])
    first = await store.decisions.page(ANY, cursor=None, limit=5)
    assert [int(record.id, 16) for record in first.records] == [101, 100, 9, 8, 7]
    await store.decisions.append([decision(200), decision(50)])
    second = await store.decisions.page(ANY, cursor=first.next_cursor, limit=5)
    assert [int(record.id, 16) for record in second.records] == [6, 5, 4, 3, 2]
    third = await store.decisions.page(ANY, cursor=second.next_cursor, limit=5)
    assert ([int(record.id, 16) for record in third.records], third.next_cursor) == ([1, 0], None)


async def test_the_last_page_says_so(store: Store) -> None:
    await store.decisions.append([decision(number) for number in range(4)])
    for limit, sizes in ((1, [1, 1, 1, 1]), (2, [2, 2]), (3, [3, 1]), (4, [4]), (9, [4])):
        assert [len(page) for page in await pages(store, ANY, limit)] == sizes


async def test_a_cursor_that_no_page_gave(store: Store) -> None:
    for cursor in ("", "!", "AAAA", "MTIz", "Og", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OmE", "MQ:a", "ü"):
        with pytest.raises(ValueError, match="cursor"):
            await store.decisions.page(ANY, cursor=cursor, limit=5)


async def test_filters(store: Store) -> None:
    await store.decisions.append(
        [
            decision(0),
            decision(1, policy="strict", external_id="a"),
            decision(2, decision="review", detail=fired(gore="review", nudity="allow")),
            decision(3, decision="block", detail=fired(gore="block", nudity="review"), external_id="a"),
            decision(4, policy="strict", decision="block", detail=fired(nudity="block"), vectors=b"abcd"),
        ]
    )
    at = [NOON + timedelta(seconds=number) for number in range(6)]
    assert await numbers(store) == [4, 3, 2, 1, 0]
    assert await numbers(store, since=at[1], until=at[3]) == [2, 1]
    assert await numbers(store, policy="strict") == [4, 1]
    assert await numbers(store, decision="block") == [4, 3]
    assert await numbers(store, external_id="a") == [3, 1]
    assert await numbers(store, external_id="b") == []
    # Every decision has scores of both categories; the filter asks which of them fired.
    assert await numbers(store, category="gore") == [3, 2]
    assert await numbers(store, category="nudity") == [4, 3]
    assert await numbers(store, category="nudity", decision="block", external_id="a", since=at[0], until=at[5]) == [3]
    assert [len(page) for page in await pages(store, DecisionFilter(category="gore"), 1)] == [1, 1]
    assert await numbers(store, with_vectors=True) == [4]


async def test_vectors_are_read_only_when_wanted(store: Store) -> None:
    await store.decisions.append([decision(1, vectors=b"abcd"), decision(2)])
    without = await store.decisions.page(ANY, cursor=None, limit=9)
    assert [record.vectors for record in without.records] == [None, None]
    having = await store.decisions.page(DecisionFilter(with_vectors=True), cursor=None, limit=9)
    assert [record.vectors for record in having.records] == [b"abcd"]


async def test_every_filter_reads_one_index_in_order(tmp_path: Path) -> None:
    async with opened(str(tmp_path / "db")) as store:
        await store.decisions.append([decision(1), decision(2)])
        cursor = (await store.decisions.page(ANY, cursor=None, limit=1)).next_cursor
        for wanted, index in (
            (DecisionFilter(outcome="block"), "decisions_by_outcome"),
            (DecisionFilter(image_sha256="a"), "decisions_by_image"),
            (DecisionFilter(reviewed=True), "decisions_reviewed"),
            (DecisionFilter(shadow_differs=True), "decisions_with_a_shadow"),
            (ANY, "decisions_by_time"),
            (DecisionFilter(since=NOON), "decisions_by_time"),
            (DecisionFilter(policy="default"), "decisions_by_policy"),
            (DecisionFilter(decision="block", until=NOON), "decisions_by_decision"),
            (DecisionFilter(external_id="a"), "decisions_by_external_id"),
            (DecisionFilter(with_vectors=True), "decisions_with_vectors"),
            (DecisionFilter(category="gore"), "USING PRIMARY KEY (category=?"),
        ):
            plan = await plan_of(store, wanted, cursor)
            assert index in plan[0]
            assert not any("TEMP B-TREE" in step for step in plan), plan


async def plan_of(store: Store, wanted: DecisionFilter, cursor: str | None) -> list[str]:
    """Return how SQLite goes about a page."""
    plan: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            asked = connection.connection.cursor()
            asked.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plan.extend(row[3] for row in asked.fetchall())

    engine = store.database._engine.sync_engine
    event.listen(engine, "after_cursor_execute", explain)
    await store.decisions.page(wanted, cursor=cursor, limit=10)
    event.remove(engine, "after_cursor_execute", explain)
    return plan


async def test_feedback_is_kept_in_order(store: Store) -> None:
    await store.decisions.append([decision(1), decision(2)])
    key = decision(1).id
    late = Feedback(key, NOON + timedelta(hours=2), "allow", [], "")
    early = Feedback(key, NOON + timedelta(hours=1), "block", ["gore", "nudity"], "blood, ü")
    for verdict in (late, early, late):
        assert await store.verdicts.give(verdict, actor=ME)
    assert not await store.verdicts.give(dataclasses.replace(late, decision_id="nothing"), actor=ME)
    judged = decision(1, outcome="allow", reviewed_at=late.at)
    assert await store.decisions.read(key) == (judged, (early, late, late))
    assert await store.decisions.read(decision(2).id) == (decision(2), ())


async def test_the_latest_verdict_is_the_outcome(store: Store) -> None:
    await store.decisions.append([decision(number, decision="block") for number in range(3)])
    first = Feedback(decision(1).id, NOON, "allow", [], "", "console", "ann")
    second = Feedback(decision(2).id, NOON, "allow", [], "")
    for verdict in (first, second, dataclasses.replace(second, decision="block", key="other")):
        await store.verdicts.give(verdict, actor=ME)
    assert await numbers(store, outcome="allow") == [1]
    assert await numbers(store, outcome="block") == [2, 0]
    assert await numbers(store, decision="block") == [2, 1, 0]
    assert await numbers(store, reviewed=True) == [2, 1]
    assert await numbers(store, reviewed=False) == [0]
    found = await store.decisions.read(decision(1).id)
    assert found
    assert (found[0].outcome, found[0].reviewed_by, found[0].reviewer) == ("allow", "console", "ann")


async def put_on_list(store: Store, number: int, said: Literal["allow", "block"], name: str | None = None) -> Any:
    verdict = Feedback(decision(number).id, NOON, said, [], "", list=name)
    kept = await store.verdicts.give(verdict, actor=ME, add_to_list=True)
    assert kept is not None
    return kept.lists


async def entries(store: Store) -> dict[str, tuple[str, ...]]:
    """Return the entries of every list."""
    return {made.name: await store.lists.read(made.name, after=None, limit=9) for made in await store.lists.every()}


async def test_a_verdict_puts_the_image_on_a_list_and_a_later_one_takes_it_off_again(store: Store) -> None:
    sha256, pdq = decision(1).image_sha256, "a" * 64
    good = {"near_matching": True, "categories": []}
    await store.decisions.append([decision(1, image_pdq=pdq, detail=good), decision(2, image_pdq=pdq)])
    assert await put_on_list(store, 1, "block") == ("reviewed-block", "reviewed-block-pdq")
    assert await entries(store) == {"reviewed-block": (sha256,), "reviewed-block-pdq": (pdq,)}
    assert await put_on_list(store, 1, "block") == ("reviewed-block", "reviewed-block-pdq")
    assert await put_on_list(store, 2, "block") == ("reviewed-block",), "its PDQ hash may not be matched"
    assert await put_on_list(store, 1, "block", "mine") == ("mine",)
    assert await put_on_list(store, 1, "allow") == ("reviewed-allow",)
    left = {"mine": (), "reviewed-allow": (sha256,), "reviewed-block-pdq": ()}
    assert await entries(store) == {**left, "reviewed-block": (decision(2).image_sha256,)}
    made = {kept.name: (kept.action, kept.kind, kept.entries) for kept in await store.lists.every()}
    assert made["reviewed-allow"] == ("allow", "sha256", 1)
    assert made["reviewed-block-pdq"] == ("block", "pdq", 0)
    assert made["mine"] == ("block", "sha256", 0)
    rows = await store.audit.latest(50)
    assert {(row.action, row.name) for row in rows if row.kind == "list"} >= {
        ("put", "reviewed-allow"),
        ("add_entries", "reviewed-allow"),
        ("remove_entries", "reviewed-block"),
        ("remove_entries", "mine"),
    }
    assert rows[0].detail["lists"] == ["reviewed-allow"]


async def test_a_verdict_whose_list_says_something_else_is_not_kept(store: Store) -> None:
    await store.decisions.append([decision(1)])
    for made in (HashList("reviewed-allow", "block", "sha256", 31), HashList("near", "block", "pdq", 31)):
        await store.lists.put(made, actor=ME)
    wrong: list[tuple[Literal["allow", "block"], str | None]] = [("allow", None), ("block", "near")]
    for said, name in [*wrong, ("allow", "reviewed-allow")]:
        with pytest.raises(ListUnfit):
            await put_on_list(store, 1, said, name)
    assert await store.decisions.read(decision(1).id) == (decision(1), ())
    assert [made.entries for made in await store.lists.every()] == [0, 0]


async def test_contrary_verdicts_at_once_leave_the_image_on_one_list(store: Store) -> None:
    await store.decisions.append([decision(1)])
    verdicts: list[Literal["allow", "block"]] = ["allow", "block"] * 5
    await asyncio.gather(*(put_on_list(store, 1, said) for said in verdicts))
    found = await store.decisions.read(decision(1).id)
    assert found
    holding = [name for name, held in (await entries(store)).items() if held]
    assert holding == [f"reviewed-{found[0].outcome}"]


async def test_an_external_id_is_forgotten_with_all_about_it(store: Store) -> None:
    mine = [decision(number, external_id="me", detail=fired(gore="block")) for number in range(1205)]
    await store.decisions.append([*mine, decision(2000, external_id="you", detail=fired(gore="block"))])
    await store.verdicts.give(Feedback(mine[0].id, NOON, "allow", [], "mistaken"), actor=ME)
    assert await store.decisions.forget("me", actor=ME) == 1205
    assert await store.decisions.forget("me", actor=ME) == 0
    assert await numbers(store, category="gore") == [2000]
    await store.decisions.append([mine[0]])
    assert await store.decisions.read(mine[0].id) == (mine[0], ())


async def test_old_decisions_expire(store: Store) -> None:
    await store.decisions.append([decision(number, detail=fired(gore="block")) for number in range(10)])
    assert await store.decisions.expire(NOON + timedelta(seconds=7)) == 7
    assert await numbers(store) == await numbers(store, category="gore") == [9, 8, 7]
