"""Keeps the known images in memory up to date with the store's lists."""

from __future__ import annotations

import asyncio

import structlog

from gateway.errors import InvalidRequest
from gateway.hash_matching.matcher import HashMatcher
from gateway.store.lists import HashList, ListChanges, Lists
from gateway.store.outages import StoreUnavailable

POLL_S = 0.5
PAGE = 50_000


class ListRefresher:
    """Holds the hash lists in force. A new set is built in a thread and replaces the old one in one step.

    Args:
        lists: where they are kept.
    """

    def __init__(self, lists: Lists) -> None:
        self._lists = lists
        self._revision = -1
        self._read: dict[str, int] = {}  # of each list the revision that it was read at
        self._building = asyncio.Lock()
        self._log = structlog.get_logger("known")
        self.current = HashMatcher()

    @property
    def loaded(self) -> bool:
        """Whether the lists have ever been read: before that, ``current`` knows nothing."""
        return self._revision >= 0

    async def watch(self) -> None:
        """Follow the store, for ever; runs as a task of the application's lifespan."""
        while True:
            try:
                await self.refresh()
            except StoreUnavailable:
                self._log.debug("lists not read: the store is away")
            except Exception:  # noqa: BLE001 - one bad row must not end the watch
                self._log.exception("lists not read")
            await asyncio.sleep(POLL_S)

    async def refresh(self) -> None:
        """Read the lists that have changed, and put them in force.

        Raises:
            StoreUnavailable: the store is away.
        """
        async with self._building:
            revision = await self._lists.revision()
            if revision == self._revision:
                return
            lists = {made.name: made for made in await self._lists.every()}
            held = self.current
            for name in [made.name for made in held.lists if made.name not in lists]:
                held = held.without(name)
            read = {name: self._read[name] for name in lists if name in self._read}
            for name, made in lists.items():
                if read.get(name) != made.revision:
                    held, read[name] = await self._with(held, made, read.get(name))
            self.current = held
            self._read = read
            self._revision = revision

    async def _with(self, held: HashMatcher, made: HashList, read: int | None) -> tuple[HashMatcher, int]:
        """Return the lists with one as it now stands, and the revision of that.

        Args:
            held: to change.
            made: the list.
            read: at which revision it is held; None if it is not.
        """
        changes = None if read is None else await self._lists.changes_since(made.name, since=read)
        if changes is None:
            return await asyncio.to_thread(held.with_list, made, await self._entries(made)), made.revision
        return await asyncio.to_thread(changed, held, made, changes), changes.revision

    async def _entries(self, made: HashList) -> list[str]:
        found: list[str] = []
        after: str | None = None
        while page := await self._lists.read(made.name, after=after, limit=PAGE):
            found += page
            after = page[-1]
        return found


def changed(held: HashMatcher, made: HashList, changes: ListChanges) -> HashMatcher:
    """Return the lists with what changed of one; for a thread."""
    held = held.with_list(made)
    if changes.removed:
        held = held.removing(made.name, changes.removed)
    return held.adding(made.name, changes.added) if changes.added else held


def check_list(made: HashList) -> HashList:
    """Return the list if it may exist.

    Raises:
        InvalidRequest: an allow-list that withholds, or one of perceptual hashes: whoever finds an image near an
            allowed one would pass.
    """
    if made.withhold and made.action != "block":
        raise InvalidRequest("Only a list that blocks can withhold what it matches.")
    if made.action == "allow" and made.kind != "sha256":
        raise InvalidRequest("An allow-list is by sha256 only: a perceptual one invites evasion.")
    return made
