"""Work that is done once for all gateways on a database: who takes it, for how long, and what it keeps others from."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gateway.moderation.retention import watch_retention
from gateway.store.idempotency import IdempotencyKeys
from gateway.store.leases import Leases
from tests.support.stores import Store, decision, opened
from tests.support.waiting import eventually

pytest_plugins = ["tests.support.store_fixtures"]


async def test_one_has_the_work_until_it_gives_it_up(store: Store) -> None:
    one, other = Leases(store.database), Leases(store.database)
    assert await one.take("sweeping", 60)
    assert not await other.take("sweeping", 60)
    assert await one.take("sweeping", 60), "for longer"
    assert await other.take("mending", 60), "other work"
    assert await one.take("sweeping", 0)
    assert await other.take("sweeping", 60)
    assert not await one.take("sweeping", 0), "what another has is not given up"
    assert not await one.take("sweeping", 60)


async def test_a_lease_ends_with_its_time(store: Store) -> None:
    assert await Leases(store.database).take("sweeping", 0.2)
    end = datetime.now(UTC) + timedelta(seconds=0.2)
    await eventually(lambda: datetime.now(UTC) > end)
    assert await Leases(store.database).take("sweeping", 60)


async def test_of_many_who_ask_at_once_one_gets_it(database_url: str) -> None:
    async with opened(database_url) as one, opened(database_url) as other:
        asked = [Leases(store.database).take("sweeping", 60) for _ in range(8) for store in (one, other)]
        assert sum(await asyncio.gather(*asked)) == 1


@pytest.mark.parametrize("held", [True, False])
async def test_old_decisions_are_deleted_by_whoever_has_the_lease(store: Store, *, held: bool) -> None:
    old = decision(1, at=datetime.now(UTC) - timedelta(days=2))
    await store.decisions.append([old])
    if held:
        assert await Leases(store.database).take("retention", 60)
    watching = asyncio.create_task(
        watch_retention(store.decisions, 1, Leases(store.database), IdempotencyKeys(store.database))
    )
    try:
        async with asyncio.timeout(20):
            while not held and await store.decisions.read(old.id):  # noqa: ASYNC110 - the database does not tell
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        assert bool(await store.decisions.read(old.id)) == held
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
