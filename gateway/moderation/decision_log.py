"""Writes verdicts to the decision log before they are answered, and knows whether the store takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from gateway.errors import DeadlineExceeded
from gateway.limits.deadline import Deadline
from gateway.store.decisions import DecisionRecord, Decisions, LogEntry
from gateway.store.idempotency import KeptAnswer
from gateway.store.outages import StoreUnavailable
from gateway.store.spool import DecisionSpool

PAUSE_S = 1.0
AT_A_TIME = 100  # entries of the spool, in one transaction


class DecisionLog:
    """The first write that fails is waited for; until one succeeds again, no request waits for the next.

    What the store does not take is spooled on disk, and written to the store when that takes writes again: nothing
    twice, since a decision that is there already is passed over. A database that is locked or whose disk is full can
    be read all the while, so that reading tells nothing of it.

    Args:
        decisions: where they are kept.
        store_lost: says that the store cannot even be read.
        spool: where they wait for the store; None: nowhere.
        observe_dropped: told how many spooled decisions no store takes.
    """

    def __init__(
        self,
        decisions: Decisions,
        store_lost: Callable[[], bool],
        spool: DecisionSpool | None = None,
        observe_dropped: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._decisions = decisions
        self._store_lost = store_lost
        self._spool = spool
        self._observe_dropped = observe_dropped
        self._spool_fails = False
        self._log = structlog.get_logger("decision_log")
        self.lost = False

    @property
    def unavailable(self) -> bool:
        """Whether the store is known to take no writes."""
        return self.lost or self._store_lost()

    @property
    def spools(self) -> bool:
        """Whether what the store does not take is kept on disk."""
        return self._spool is not None and not self._spool_fails

    async def append(
        self, records: Sequence[DecisionRecord], deadline: Deadline, kept: KeptAnswer | None = None
    ) -> bool:
        """Write records, and the answer that they are part of, all or none, to the store or else to the spool.

        Return False if neither took them, or in time.

        Raises:
            ClaimLost: another request has the answer's key; nothing was written.
        """
        if not self.unavailable:
            try:
                async with deadline.enforced():
                    await self._decisions.append(records, kept)
            except (StoreUnavailable, DeadlineExceeded):
                if not self.lost:
                    self._log.warning("decisions cannot be logged: the store takes no writes")
                self.lost = True
            else:
                return True
        return bool(records) and await self._spooled(LogEntry(tuple(records), kept))

    async def watch(self) -> None:
        """Check whether the store takes writes again, and write what is spooled, for ever.

        Runs as a task of the application's lifespan.
        """
        while True:
            try:
                if self.lost:
                    await self._decisions.check_writable()
                    self.lost = False
                    self._log.info("decisions are logged again")
                if self._spool is not None:
                    await self._look_at(self._spool)
            except StoreUnavailable:
                pass
            except Exception:  # noqa: BLE001 - nothing may end the watch
                self._log.exception("the store could not be checked")
            await asyncio.sleep(PAUSE_S)

    async def _spooled(self, entry: LogEntry) -> bool:
        """Write an entry to the spool; False if that failed."""
        if self._spool is None:
            return False
        try:
            await self._spool.append(entry)
        except StoreUnavailable as error:
            self._note_spool(error)
            return False
        self._note_spool(None)
        return True

    async def _look_at(self, spool: DecisionSpool) -> None:
        """Write what is spooled to the store, in order, unless it takes no writes.

        Raises:
            StoreUnavailable: it does not.
        """
        while True:
            try:
                found = await spool.first(AT_A_TIME)
            except StoreUnavailable as error:
                self._note_spool(error)
                return
            if not found or self.unavailable:
                return
            await self._write([entry for _, entry in found])
            await spool.remove([number for number, _ in found])
            self._log.info("spooled decisions written", count=sum(len(entry.records) for _, entry in found))

    async def _write(self, entries: Sequence[LogEntry]) -> None:
        try:
            await self._decisions.append_spooled(entries)
        except ValueError:
            if len(entries) > 1:
                for entry in entries:
                    await self._write([entry])
                return
            ids = [record.id for record in entries[0].records]
            self._log.error("spooled decisions dropped: no store keeps them", ids=ids)
            self._observe_dropped(len(ids))

    def _note_spool(self, failure: StoreUnavailable | None) -> None:
        if failure is not None and not self._spool_fails:
            self._log.warning("decisions cannot be kept on disk", cause=failure.cause, said=str(failure))
        self._spool_fails = failure is not None
