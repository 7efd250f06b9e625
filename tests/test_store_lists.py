"""Lists of hashes, on both databases: distinct, in order, counted, and many of them."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib

import pytest

from gateway.store.records import PictureList, Store
from tests.stores import save

pytest_plugins = ["tests.store_fixtures"]

BAD = PictureList("bad", "block", "sha256", 0)
NEAR = PictureList("near", "block", "pdq", 31)


def sha256(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


async def everything(store: Store, name: str, limit: int) -> list[str]:
    """Read a list page by page."""
    found: list[str] = []
    after: str | None = None
    while page := await store.entries(name, after=after, limit=limit):
        assert len(page) <= limit
        found += page
        after = page[-1]
    return found


async def test_lists_come_and_change_and_go(store: Store) -> None:
    assert await store.put_list(NEAR, actor="me")
    assert await store.put_list(BAD, actor="me")
    assert not await store.put_list(dataclasses.replace(NEAR, max_distance=20), actor="me")
    assert [(made.name, made.max_distance, made.revision) for made in await store.lists()] == [
        ("bad", 0, 2),
        ("near", 20, 3),
    ]
    with pytest.raises(ValueError, match="kind"):
        await store.put_list(dataclasses.replace(NEAR, kind="sha256"), actor="me")
    assert await store.delete_list("near", actor="me")
    assert not await store.delete_list("near", actor="me")
    assert [made.name for made in await store.lists()] == ["bad"]


async def test_what_changes_nothing_counts_as_nothing(store: Store) -> None:
    await store.put_list(BAD, actor="me")
    await store.add_entries("bad", [sha256(1)], actor="me")
    before = await store.revision(), await store.lists_revision(), await store.audit(99)
    assert not await store.put_list(BAD, actor="me")
    assert await store.add_entries("bad", [sha256(1)], actor="me") == 0
    assert await store.add_entries("bad", [], actor="me") == 0
    assert await store.remove_entries("bad", [sha256(2)], actor="me") == 0
    assert (await store.revision(), await store.lists_revision(), await store.audit(99)) == before


async def test_the_revision_of_lists_moves_with_lists_alone(store: Store) -> None:
    seen = [await store.lists_revision()]
    await store.put_list(BAD, actor="me")
    seen.append(await store.lists_revision())
    await store.put_list(NEAR, actor="me")
    seen.append(await store.lists_revision())
    await save(store, "cats", {})
    assert await store.lists_revision() == seen[-1]
    assert await store.revision() == seen[-1] + 1
    await store.add_entries("bad", [sha256(1)], actor="me")
    seen.append(await store.lists_revision())
    await store.delete_list("bad", actor="me")
    seen.append(await store.lists_revision())
    assert seen == sorted(set(seen))
    assert await store.revision() == seen[-1]


async def test_entries_are_distinct_and_in_order(store: Store) -> None:
    await store.put_list(BAD, actor="me")
    await store.put_list(NEAR, actor="me")
    hashes = [sha256(number) for number in range(25_001)]  # more than two chunks
    assert await store.add_entries("bad", [*hashes[:9], *hashes[:9], hashes[0].upper()], actor="me") == 9
    assert await store.add_entries("bad", hashes, actor="me") == len(hashes) - 9
    assert await store.add_entries("near", hashes[:3], actor="me") == 3
    assert await everything(store, "bad", 9_999) == sorted(hashes)
    assert await everything(store, "near", 2) == sorted(hashes[:3])
    assert {made.name: made.entries for made in await store.lists()} == {"bad": 25_001, "near": 3}

    assert await store.remove_entries("bad", [*hashes[:12_000], sha256(-1)], actor="me") == 12_000
    assert await everything(store, "bad", 50_000) == sorted(hashes[12_000:])
    assert await store.delete_list("bad", actor="me")
    assert await store.entries("bad", after=None, limit=9) == ()
    assert await store.put_list(BAD, actor="me")
    assert await store.entries("bad", after=None, limit=9) == ()
    assert await everything(store, "near", 9) == sorted(hashes[:3])


async def test_a_list_that_is_not_there(store: Store) -> None:
    assert await store.add_entries("none", [sha256(1)], actor="me") is None
    assert await store.remove_entries("none", [sha256(1)], actor="me") == 0
    assert await store.entries("none", after=None, limit=9) == ()


async def test_entries_are_all_or_none(store: Store) -> None:
    await store.put_list(BAD, actor="me")
    with pytest.raises(ValueError, match="hex"):
        await store.add_entries("bad", [sha256(1), "no hash"], actor="me")
    assert await store.entries("bad", after=None, limit=9) == ()


async def test_many_writers_of_one_list(store: Store) -> None:
    made = await asyncio.gather(*(store.put_list(BAD, actor="me") for _ in range(6)))
    assert made.count(True) == 1
    parts = [[sha256(number) for number in range(start, start + 200)] for start in range(0, 600, 100)]
    added = await asyncio.gather(*(store.add_entries("bad", part, actor="me") for part in parts))
    assert sum(one or 0 for one in added) == 700
    assert (await store.lists())[0].entries == 700
    assert len(await everything(store, "bad", 1000)) == 700


async def test_changes_of_lists_are_audited(store: Store) -> None:
    await store.put_list(BAD, actor="ann")
    await store.add_entries("bad", [sha256(1), sha256(2)], actor="bob")
    await store.remove_entries("bad", [sha256(1)], actor="cyd")
    await store.delete_list("bad", actor="dan")
    assert [(row.actor, row.action, row.kind, row.name, row.detail) for row in await store.audit(9)] == [
        ("dan", "delete", "list", "bad", {"entries": 1}),
        ("cyd", "remove_entries", "list", "bad", {"entries": 1}),
        ("bob", "add_entries", "list", "bad", {"entries": 2}),
        ("ann", "put", "list", "bad", {"action": "block", "kind": "sha256", "max_distance": 0}),
    ]
