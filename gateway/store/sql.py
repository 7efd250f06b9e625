"""The store on a database: SQLite for one machine, PostgreSQL for many gateways. Each method is a unit of work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from gateway.store import changes, decisions, list_import, lists, versions
from gateway.store.audit_records import ANY_CHANGE, Actor, AuditFilter, AuditRow
from gateway.store.database import Database, Transaction, make_engine, open_engine
from gateway.store.migrate import TIMEOUT_S as MIGRATION_TIMEOUT_S
from gateway.store.migrate import migrate
from gateway.store.outages import outages_named
from gateway.store.preconditions import UNCONDITIONAL, Precondition
from gateway.store.records import (
    DecisionFilter,
    DecisionRecord,
    Feedback,
    Kind,
    ListChanges,
    Page,
    PictureList,
    Saved,
    Snapshot,
    Store,
    Version,
)

DELETED_AT_A_TIME = 1000


async def open_store(database_url: str, *, timeout_s: float, pool_size: int = 5) -> SqlStore:
    """Bring the database's tables up to date and return the store, for the running event loop.

    Several processes may do so at once: one migrates, the others wait for it, at most a minute.

    Args:
        database_url: ``sqlite:///path``, ``sqlite:////absolute/path`` or a path, whose folder is made; or
            ``postgresql://…`` with whatever libpq's addresses may say.
        timeout_s: how long any method may take, or each step of one that has many.
        pool_size: connections, at most; each of SQLite's has a thread.

    Raises:
        StoreUnavailable: the database cannot be reached, opened or written to.
        ValueError: the address is wrong, or the tables are those of a newer gateway.
    """
    store = late_store(database_url, timeout_s=timeout_s, pool_size=pool_size)
    try:
        await store.prepare()
    except BaseException:
        await store.close()
        raise
    return store


def late_store(database_url: str, *, timeout_s: float, pool_size: int = 5) -> SqlStore:
    """Return the store at once, as ``open_store`` does later: with its first use, or a later one if that fails.

    Raises:
        ValueError: the address is wrong.
    """

    async def prepare() -> None:
        engine = await open_engine(database_url, timeout_s=MIGRATION_TIMEOUT_S, connect_s=timeout_s, pool_size=1)
        try:
            with outages_named():
                await migrate(engine)
        finally:
            await engine.dispose()

    engine = make_engine(database_url, timeout_s=timeout_s, connect_s=timeout_s, pool_size=pool_size)
    return SqlStore(Database(engine, timeout_s=timeout_s, prepare=prepare))


class SqlStore(Store):
    """``gateway.store.records.Store``, where it is said in full what each method does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self) -> None:
        """Bring the tables up to date now rather than with the first use.

        Raises:
            StoreUnavailable, ValueError: as ``open_store``.
        """
        await self._database.prepared()

    async def save(
        self,
        kind: Kind,
        name: str,
        body: dict[str, Any],
        *,
        pins: dict[str, int],
        bundle_id: str | None,
        activate: bool,
        actor: Actor,
        precondition: Precondition = UNCONDITIONAL,
    ) -> Saved:
        """Keep a new version, or find that the latest one is the same."""
        return await self._database.write(
            lambda tx: versions.save(
                tx,
                kind,
                name,
                body,
                pins=pins,
                bundle_id=bundle_id,
                activate=activate,
                actor=actor,
                precondition=precondition,
            )
        )

    async def activate(
        self, kind: Kind, name: str, number: int, *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> Version | None:
        """Put a version in force."""
        return await self._database.write(
            lambda tx: versions.activate(tx, kind, name, number, actor=actor, precondition=precondition)
        )

    async def read(self, kind: Kind, name: str, number: int | None) -> Version | None:
        """Return a version, or the one in force."""
        return await self._database.read(lambda tx: versions.read(tx, kind, name, number))

    async def versions(self, kind: Kind, name: str) -> tuple[Version, ...]:
        """Return all versions, newest first."""
        return await self._database.read(lambda tx: versions.history(tx, kind, name))

    async def names(self, kind: Kind) -> tuple[Version, ...]:
        """Return what is in force of each resource, or else its latest draft, by name."""
        return await self._database.read(lambda tx: versions.shown(tx, kind))

    async def was_deleted(self, kind: Kind, name: str) -> bool:
        """Return whether a resource was there and is no more."""
        return await self._database.read(lambda tx: versions.was_deleted(tx, kind, name))

    async def delete(self, kind: Kind, name: str, *, actor: Actor, precondition: Precondition = UNCONDITIONAL) -> bool:
        """Delete a resource with all versions."""
        return await self._database.write(
            lambda tx: versions.remove(tx, kind, name, actor=actor, precondition=precondition)
        )

    async def revision(self) -> int:
        """Return the revision."""
        return await self._database.read(changes.revision)

    async def lists_revision(self) -> int:
        """Return a number that grows with every change of a list."""
        return await self._database.read(changes.lists_revision)

    async def snapshot(self) -> Snapshot:
        """Return everything in force."""
        return await self._database.read(versions.snapshot)

    async def log(self, records: Sequence[DecisionRecord]) -> None:
        """Append decisions."""
        await self._database.write(lambda tx: decisions.append(tx, records))

    async def decisions(self, wanted: DecisionFilter, *, cursor: str | None, limit: int) -> Page:
        """Return a page of decisions."""
        return await self._database.read(lambda tx: decisions.page(tx, wanted, cursor=cursor, limit=limit))

    async def decision(self, decision_id: str) -> tuple[DecisionRecord, tuple[Feedback, ...]] | None:
        """Return one decision with its feedback."""
        return await self._database.read(lambda tx: decisions.one(tx, decision_id))

    async def add_feedback(self, feedback: Feedback, *, actor: Actor) -> bool:
        """Keep a verdict."""
        return await self._database.write(lambda tx: decisions.judge(tx, feedback, actor=actor))

    async def forget(self, external_id: str, *, actor: Actor) -> int:
        """Delete all decisions of an external id."""
        return await self._in_steps(lambda tx: decisions.forget_some(tx, external_id, DELETED_AT_A_TIME, actor=actor))

    async def expire(self, before: datetime) -> int:
        """Delete old decisions."""
        due = decisions.older_than(before)
        return await self._in_steps(lambda tx: decisions.remove_some(tx, due, DELETED_AT_A_TIME))

    async def put_list(self, made: PictureList, *, actor: Actor, precondition: Precondition = UNCONDITIONAL) -> bool:
        """Create or change a list."""
        return await self._database.write(lambda tx: lists.put(tx, made, actor=actor, precondition=precondition))

    async def lists(self) -> tuple[PictureList, ...]:
        """Return all lists, by name."""
        return await self._database.read(lists.every)

    async def add_entries(
        self, name: str, hashes: Sequence[str], *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> int | None:
        """Add hashes."""
        chunks = await asyncio.to_thread(lists.chunked, hashes)
        return await list_import.add(self._database, name, chunks, actor=actor, precondition=precondition)

    async def entries(self, name: str, *, after: str | None, limit: int) -> tuple[str, ...]:
        """Return hashes behind ``after``."""
        return await self._database.read(lambda tx: lists.read(tx, name, after=after, limit=limit))

    async def list_changes(self, name: str, *, since: int) -> ListChanges | None:
        """Return what changed since a revision."""
        return await self._database.read(lambda tx: lists.changes_since(tx, name, since))

    async def remove_entries(
        self, name: str, hashes: Sequence[str], *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> int:
        """Remove hashes."""
        chunks = await asyncio.to_thread(lists.chunked, hashes)
        return await self._database.write(
            lambda tx: lists.remove(tx, name, chunks, actor=actor, precondition=precondition)
        )

    async def delete_list(self, name: str, *, actor: Actor, precondition: Precondition = UNCONDITIONAL) -> bool:
        """Delete a list with its entries."""
        return await self._database.write(lambda tx: lists.drop(tx, name, actor=actor, precondition=precondition))

    async def check_writable(self) -> None:
        """Write something, and leave everything as it was."""
        await self._database.write(changes.check_writable)

    async def audit(
        self, limit: int, wanted: AuditFilter = ANY_CHANGE, *, before: int | None = None
    ) -> tuple[AuditRow, ...]:
        """Return the latest audit rows."""
        return await self._database.read(lambda tx: changes.latest(tx, limit, wanted, before))

    async def close(self) -> None:
        """Give up all connections."""
        await self._database.close()

    async def _in_steps(self, delete_some: Callable[[Transaction], Awaitable[int]]) -> int:
        """Delete in transactions of a few, so that decisions can be logged in between."""
        deleted = 0
        while some := await self._database.write(delete_some):
            deleted += some
        return deleted
