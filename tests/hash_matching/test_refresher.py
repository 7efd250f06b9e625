"""The known pictures in memory follow the store, and read no more than has changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.hash_matching.refresher import ListRefresher
from gateway.store import list_import
from gateway.store.audit import Actor
from gateway.store.lists import HashList, Lists
from tests.store.test_lists import sha256
from tests.support.stores import Store, opened

BAD = HashList("bad", "block", "sha256", 0)


class Reads:
    """The lists, counting how often the entries of one are read from the beginning."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists
        self.whole = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lists, name)

    async def read(self, name: str, *, after: str | None, limit: int) -> tuple[str, ...]:
        self.whole += after is None
        return await self._lists.read(name, after=after, limit=limit)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(f"sqlite:///{tmp_path}/gateway.sqlite") as made:
        yield made


async def test_small_changes_are_followed_without_reading_the_list_again(store: Store) -> None:
    reads: Any = Reads(store.lists)
    refresher = ListRefresher(reads)

    async def known(*numbers: int) -> list[bool]:
        await refresher.refresh()
        return [bool(refresher.current.match(sha256(number))) for number in numbers]

    await store.lists.put(BAD, actor=Actor("me"))
    await store.lists.add("bad", [sha256(number) for number in range(100)], actor=Actor("me"))
    assert await known(0, 99, 100) == [True, True, False]
    before = reads.whole
    await store.lists.add("bad", [sha256(number) for number in range(95, 105)], actor=Actor("me"))
    assert await known(0, 100, 104, 105) == [True, True, True, False]
    await store.lists.remove("bad", [sha256(0), sha256(104)], actor=Actor("me"))
    await store.lists.add("bad", [sha256(0)], actor=Actor("me"))
    assert await known(0, 1, 104) == [True, True, False]
    await store.lists.put(HashList("bad", "allow", "sha256", 0), actor=Actor("me"))
    assert await known(1) == [True]
    assert refresher.current.lists[0].action == "allow"
    assert reads.whole == before
    await store.lists.drop("bad", actor=Actor("me"))
    await store.lists.put(BAD, actor=Actor("me"))
    await store.lists.add("bad", [sha256(7)], actor=Actor("me"))
    assert await known(1, 7) == [False, True], "another list of the same name is read anew"


async def test_a_long_import_is_matched_from_its_end_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_import, "MAX_ENTRIES_AT_ONCE", 10)
    refresher = ListRefresher(store.lists)
    await store.lists.put(BAD, actor=Actor("me"))
    await refresher.refresh()
    await store.lists.add("bad", [sha256(number) for number in range(50)], actor=Actor("me"))
    await refresher.refresh()
    assert refresher.current.lists[0].entries == 50
