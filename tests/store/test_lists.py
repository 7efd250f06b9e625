"""Lists of hashes, on both databases: distinct, in order, counted, and many of them."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from gateway.store import list_entries, list_import
from gateway.store.audit import Actor
from gateway.store.database import Transaction
from gateway.store.lists import HashList
from gateway.store.outages import StoreUnavailable
from gateway.store.preconditions import ANY, Precondition, StaleWrite, list_etag
from tests.support.stores import Store, decision, save

pytest_plugins = ["tests.support.store_fixtures"]

BAD = HashList("bad", "block", "sha256", 0)
NEAR = HashList("near", "block", "pdq", 31)


def sha256(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


async def everything(store: Store, name: str, limit: int) -> list[str]:
    """Read a list page by page."""
    found: list[str] = []
    after: str | None = None
    while page := await store.lists.read(name, after=after, limit=limit):
        assert len(page) <= limit
        found += page
        after = page[-1]
    return found


async def test_lists_come_and_change_and_go(store: Store) -> None:
    assert (await store.lists.put(NEAR, actor=Actor("me"))).created
    assert (await store.lists.put(BAD, actor=Actor("me"))).created
    assert not (await store.lists.put(dataclasses.replace(NEAR, max_distance=20), actor=Actor("me"))).created
    assert [(made.name, made.max_distance, made.revision) for made in await store.lists.every()] == [
        ("bad", 0, 2),
        ("near", 20, 3),
    ]
    with pytest.raises(ValueError, match="kind"):
        await store.lists.put(dataclasses.replace(NEAR, kind="sha256"), actor=Actor("me"))
    assert await store.lists.drop("near", actor=Actor("me"))
    assert not await store.lists.drop("near", actor=Actor("me"))
    assert [made.name for made in await store.lists.every()] == ["bad"]


async def test_what_changes_nothing_counts_as_nothing(store: Store) -> None:
    await store.lists.put(BAD, actor=Actor("me"))
    await store.lists.add("bad", [sha256(1)], actor=Actor("me"))
    before = await store.versions.revision(), await store.lists.revision(), await store.audit.latest(99)
    assert not (await store.lists.put(BAD, actor=Actor("me"))).created
    assert await store.lists.add("bad", [sha256(1)], actor=Actor("me")) == 0
    assert await store.lists.add("bad", [], actor=Actor("me")) == 0
    assert await store.lists.remove("bad", [sha256(2)], actor=Actor("me")) == 0
    assert (await store.versions.revision(), await store.lists.revision(), await store.audit.latest(99)) == before


async def test_the_revision_of_lists_moves_with_lists_alone(store: Store) -> None:
    seen = [await store.lists.revision()]
    await store.lists.put(BAD, actor=Actor("me"))
    seen.append(await store.lists.revision())
    await store.lists.put(NEAR, actor=Actor("me"))
    seen.append(await store.lists.revision())
    await save(store, "cats", {})
    assert await store.lists.revision() == seen[-1]
    assert await store.versions.revision() == seen[-1] + 1
    await store.lists.add("bad", [sha256(1)], actor=Actor("me"))
    seen.append(await store.lists.revision())
    await store.lists.drop("bad", actor=Actor("me"))
    seen.append(await store.lists.revision())
    assert seen == sorted(set(seen))
    assert await store.versions.revision() == seen[-1]


async def test_entries_are_distinct_and_in_order(store: Store) -> None:
    await store.lists.put(BAD, actor=Actor("me"))
    await store.lists.put(NEAR, actor=Actor("me"))
    hashes = [sha256(number) for number in range(25_001)]  # more than two chunks
    assert await store.lists.add("bad", [*hashes[:9], *hashes[:9], hashes[0].upper()], actor=Actor("me")) == 9
    assert await store.lists.add("bad", hashes, actor=Actor("me")) == len(hashes) - 9
    assert await store.lists.add("near", hashes[:3], actor=Actor("me")) == 3
    assert await everything(store, "bad", 9_999) == sorted(hashes)
    assert await everything(store, "near", 2) == sorted(hashes[:3])
    assert {made.name: made.entries for made in await store.lists.every()} == {"bad": 25_001, "near": 3}

    assert await store.lists.remove("bad", [*hashes[:12_000], sha256(-1)], actor=Actor("me")) == 12_000
    assert await everything(store, "bad", 50_000) == sorted(hashes[12_000:])
    assert await store.lists.drop("bad", actor=Actor("me"))
    assert await store.lists.read("bad", after=None, limit=9) == ()
    assert (await store.lists.put(BAD, actor=Actor("me"))).created
    assert await store.lists.read("bad", after=None, limit=9) == ()
    assert await everything(store, "near", 9) == sorted(hashes[:3])


async def test_a_list_that_is_not_there(store: Store) -> None:
    assert await store.lists.add("none", [sha256(1)], actor=Actor("me")) is None
    assert await store.lists.remove("none", [sha256(1)], actor=Actor("me")) == 0
    assert await store.lists.read("none", after=None, limit=9) == ()


async def test_entries_are_all_or_none(store: Store) -> None:
    await store.lists.put(BAD, actor=Actor("me"))
    with pytest.raises(ValueError, match="hex"):
        await store.lists.add("bad", [sha256(1), "no hash"], actor=Actor("me"))
    assert await store.lists.read("bad", after=None, limit=9) == ()


async def test_many_writers_of_one_list(store: Store) -> None:
    made = await asyncio.gather(*(store.lists.put(BAD, actor=Actor("me")) for _ in range(6)))
    assert sum(one.created for one in made) == 1
    parts = [[sha256(number) for number in range(start, start + 200)] for start in range(0, 600, 100)]
    added = await asyncio.gather(*(store.lists.add("bad", part, actor=Actor("me")) for part in parts))
    assert sum(one or 0 for one in added) == 700
    assert (await store.lists.every())[0].entries == 700
    assert len(await everything(store, "bad", 1000)) == 700


async def test_changes_of_lists_are_audited(store: Store) -> None:
    await store.lists.put(BAD, actor=Actor("ann"))
    await store.lists.add("bad", [sha256(1), sha256(2)], actor=Actor("bob"))
    await store.lists.remove("bad", [sha256(1)], actor=Actor("cyd"))
    await store.lists.drop("bad", actor=Actor("dan"))
    assert [(row.actor, row.action, row.kind, row.name, row.detail) for row in await store.audit.latest(9)] == [
        ("dan", "delete", "list", "bad", {"entries": 1}),
        ("cyd", "remove_entries", "list", "bad", {"entries": 1}),
        ("bob", "add_entries", "list", "bad", {"entries": 2}),
        ("ann", "put", "list", "bad", {"action": "block", "kind": "sha256", "max_distance": 0, "withhold": False}),
    ]


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports of more than 10 hashes go into parts, 4 in each transaction."""
    monkeypatch.setattr(list_import, "MAX_ENTRIES_AT_ONCE", 10)
    monkeypatch.setattr(list_import, "STEP_ENTRIES", 4)


def numbers(first: int, last: int) -> list[str]:
    return [sha256(number) for number in range(first, last)]


@pytest.mark.usefixtures("in_parts")
async def test_a_long_import_is_a_part_of_the_list_like_any_other_entries(store: Store) -> None:
    await store.lists.put(BAD, actor=Actor("me"))
    await store.lists.put(NEAR, actor=Actor("me"))
    await store.lists.add("near", numbers(0, 40), actor=Actor("me"))
    assert await store.lists.add("bad", numbers(0, 5), actor=Actor("me")) == 5
    assert await store.lists.add("bad", numbers(3, 30), actor=Actor("me")) == 25
    assert await store.lists.add("bad", numbers(20, 50), actor=Actor("me")) == 20
    assert await store.lists.add("bad", numbers(0, 52), actor=Actor("me")) == 2, "few of them are new"
    assert await store.lists.add("bad", numbers(0, 52), actor=Actor("me")) == 0
    assert await everything(store, "bad", 7) == sorted(numbers(0, 52))
    assert await everything(store, "near", 50) == sorted(numbers(0, 40))
    assert (await store.lists.every())[0].entries == 52
    assert await store.lists.remove("bad", [*numbers(2, 45), sha256(99)], actor=Actor("me")) == 43
    assert await everything(store, "bad", 50) == sorted([*numbers(0, 2), *numbers(45, 52)])
    assert (await store.lists.every())[0].entries == 9
    assert await store.lists.add("bad", numbers(0, 60), actor=Actor("me")) == 51
    assert await store.lists.drop("bad", actor=Actor("me"))
    await store.lists.put(BAD, actor=Actor("me"))
    assert await store.lists.read("bad", after=None, limit=9) == ()


@pytest.mark.usefixtures("in_parts")
async def test_others_write_during_a_long_import_and_nobody_reads_half_of_it(store: Store) -> None:
    await store.lists.put(BAD, actor=Actor("me"))
    revision = await store.lists.revision()
    importing = asyncio.create_task(store.lists.add("bad", numbers(0, 400), actor=Actor("me")))
    written, seen = 0, set()
    while not importing.done():
        await store.decisions.append([decision(written)])
        written += 1
        seen.add(len(await store.lists.read("bad", after=None, limit=1000)))
        if await store.lists.revision() == revision:
            assert (await store.lists.every())[0].entries in {0, 400}
    assert await importing == 400
    assert written > 10, "decisions were logged in between"
    assert seen <= {0, 400}
    assert len(await everything(store, "bad", 1000)) == 400


@pytest.mark.usefixtures("in_parts")
async def test_imports_at_once_count_each_hash_once(store: Store) -> None:
    await store.lists.put(BAD, actor=Actor("me"))
    parts = [numbers(start, start + 60) for start in range(0, 150, 30)]
    few = [numbers(start, start + 8) for start in range(0, 200, 25)]
    removed = store.lists.remove("bad", numbers(1000, 1005), actor=Actor("me"))
    *added, _ = await asyncio.gather(
        *(store.lists.add("bad", some, actor=Actor("me")) for some in parts + few), removed
    )
    wanted = sorted({one for some in parts + few for one in some})
    assert await everything(store, "bad", 1000) == wanted
    assert (await store.lists.every())[0].entries == len(wanted) == sum(one or 0 for one in added)


@pytest.mark.usefixtures("in_parts")
async def test_a_list_deleted_during_an_import(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    step, begun, deleted = list_import._step, asyncio.Event(), asyncio.Event()

    async def step_by_step(*arguments: Any) -> None:
        await step(*arguments)
        begun.set()
        await deleted.wait()

    monkeypatch.setattr(list_import, "_step", step_by_step)
    await store.lists.put(BAD, actor=Actor("me"))
    importing = asyncio.create_task(store.lists.add("bad", numbers(0, 200), actor=Actor("me")))
    await begun.wait()
    assert await store.lists.drop("bad", actor=Actor("me"))
    deleted.set()
    assert await importing is None
    assert await rows(store, "list_entries") == await rows(store, "list_parts") == 0


@pytest.mark.usefixtures("in_parts")
async def test_what_an_import_left_that_was_cut_off_is_cleared(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.lists.put(BAD, actor=Actor("me"))
    importing = asyncio.create_task(store.lists.add("bad", numbers(0, 400), actor=Actor("me")))
    begun = 0
    while not begun:
        begun = await rows(store, "list_entries")
    importing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await importing
    assert await store.lists.read("bad", after=None, limit=9) == ()
    await store.lists.add("bad", numbers(500, 520), actor=Actor("me"))
    assert await rows(store, "list_parts") == 2, "it may still be under way"
    monkeypatch.setattr(list_import, "ABANDONED_AFTER", timedelta(0))
    await store.lists.add("bad", numbers(600, 620), actor=Actor("me"))
    assert await rows(store, "list_parts") == 2
    assert await rows(store, "list_entries") == 40
    assert await everything(store, "bad", 100) == sorted([*numbers(500, 520), *numbers(600, 620)])


@pytest.mark.usefixtures("in_parts")
async def test_an_import_that_is_taken_for_abandoned_adds_all_or_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.lists.put(BAD, actor=Actor("me"))
    importing = asyncio.create_task(store.lists.add("bad", numbers(0, 400), actor=Actor("me")))
    begun = 0
    while not begun:
        begun = await rows(store, "list_entries")
    monkeypatch.setattr(list_import, "ABANDONED_AFTER", -timedelta(minutes=1))
    await store.lists.add("bad", numbers(500, 520), actor=Actor("me"))
    (ended,) = await asyncio.gather(importing, return_exceptions=True)
    kept = await everything(store, "bad", 1000)
    assert (ended, kept) == (400, sorted([*numbers(0, 400), *numbers(500, 520)])) or (
        isinstance(ended, StoreUnavailable) and kept == sorted(numbers(500, 520))
    )
    assert await rows(store, "list_entries") == len(kept)


@pytest.mark.usefixtures("in_parts")
async def test_a_list_of_very_many_parts_gets_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_import, "MAX_PARTS", 2)
    await store.lists.put(BAD, actor=Actor("me"))
    for start in range(0, 100, 20):
        assert await store.lists.add("bad", numbers(start, start + 20), actor=Actor("me")) == 20
    assert await rows(store, "list_parts") == 2
    assert await everything(store, "bad", 9) == sorted(numbers(0, 100))


async def test_changes_tell_what_to_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_entries, "LOGGED_CHANGES", 10)
    await store.lists.put(BAD, actor=Actor("me"))
    begun = (await store.lists.every())[0].revision
    await store.lists.add("bad", numbers(0, 4), actor=Actor("me"))
    middle = (await store.lists.every())[0].revision
    await store.lists.remove("bad", numbers(2, 3), actor=Actor("me"))
    await store.lists.add("bad", numbers(3, 6), actor=Actor("me"))
    await store.lists.put(dataclasses.replace(BAD, action="allow"), actor=Actor("me"))
    latest = (await store.lists.every())[0].revision

    async def told(since: int) -> tuple[int, set[str], set[str]] | None:
        found = await store.lists.changes_since("bad", since=since)
        return None if found is None else (found.revision, set(found.added), set(found.removed))

    assert await told(begun) == (latest, {*numbers(0, 2), *numbers(3, 6)}, set(numbers(2, 3)))
    assert await told(middle) == (latest, set(numbers(4, 6)), set(numbers(2, 3)))
    assert await told(latest) == (latest, set(), set())
    assert await told(begun - 1) is None, "there may have been another list of that name"
    assert await store.lists.changes_since("none", since=0) is None
    await store.lists.add("bad", numbers(10, 20), actor=Actor("me"))
    assert await told(latest) is None, "more than is logged"
    after = (await store.lists.every())[0].revision
    await store.lists.add("bad", numbers(30, 31), actor=Actor("me"))
    found = await store.lists.changes_since("bad", since=after)
    assert found is not None
    assert found.added == (sha256(30),)


async def rows(store: Store, table: str) -> int:
    async def count(tx: Transaction) -> int:
        return int((await tx.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())  # noqa: S608

    return await store.database.read(count)


@pytest.mark.usefixtures("in_parts")
async def test_each_change_of_a_list_may_have_a_precondition(store: Store) -> None:
    me, few, many = Actor("me"), numbers(0, 3), numbers(0, 50)
    allowing = dataclasses.replace(BAD, action="allow")
    absent, there = Precondition(none_match=ANY), Precondition(ANY)

    async def now() -> frozenset[str]:
        return frozenset({list_etag((await store.lists.every())[0].revision)})

    with pytest.raises(StaleWrite):
        await store.lists.put(BAD, actor=me, precondition=there)
    assert await store.lists.every() == ()
    assert (await store.lists.put(BAD, actor=me, precondition=absent)).created
    old = Precondition(await now())
    assert await store.lists.add("bad", few[:1], actor=me, precondition=old) == 1
    for stale in (old, absent, Precondition(none_match=await now())):
        for attempt in (
            store.lists.put(allowing, actor=me, precondition=stale),
            store.lists.put(BAD, actor=me, precondition=stale),
            store.lists.add("bad", few, actor=me, precondition=stale),
            store.lists.add("bad", many, actor=me, precondition=stale),
            store.lists.remove("bad", few, actor=me, precondition=stale),
            store.lists.drop("bad", actor=me, precondition=stale),
        ):
            with pytest.raises(StaleWrite):
                await attempt
    assert (await store.lists.every())[0].action == "block"
    assert await everything(store, "bad", 100) == few[:1]
    assert await store.lists.add("bad", many, actor=me, precondition=Precondition(await now())) == 49
    assert await store.lists.remove("bad", few, actor=me, precondition=Precondition(await now())) == 3
    assert not (await store.lists.put(allowing, actor=me, precondition=Precondition(await now()))).created
    assert await store.lists.drop("bad", actor=me, precondition=Precondition(await now()))
    assert not await store.lists.drop("bad", actor=me, precondition=there)


@pytest.mark.usefixtures("in_parts")
async def test_a_list_that_changed_during_an_import(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    step, begun, changed = list_import._step, asyncio.Event(), asyncio.Event()

    async def step_by_step(*arguments: Any) -> None:
        await step(*arguments)
        begun.set()
        await changed.wait()

    monkeypatch.setattr(list_import, "_step", step_by_step)
    await store.lists.put(BAD, actor=Actor("me"))
    seen = Precondition(frozenset({list_etag((await store.lists.every())[0].revision)}))
    importing = asyncio.create_task(store.lists.add("bad", numbers(0, 200), actor=Actor("me"), precondition=seen))
    await begun.wait()
    await store.lists.add("bad", numbers(500, 501), actor=Actor("me"))
    changed.set()
    with pytest.raises(StaleWrite):
        await importing
    assert await everything(store, "bad", 1000) == numbers(500, 501)
    assert await rows(store, "list_entries") == 1
    assert await rows(store, "list_parts") == 0
