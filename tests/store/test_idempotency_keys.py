"""Idempotency keys in the store: claimed once, answered once, free after their time; on both databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gateway.store.audit import Actor
from gateway.store.idempotency import Claim, ClaimLost, IdempotencyKeys, KeptAnswer, Taken
from tests.support.stores import Store, opened

pytest_plugins = ["tests.support.store_fixtures"]

HOUR = timedelta(hours=1)


def kept(claim: Claim, answer: bytes = b"{}", after: timedelta = HOUR) -> KeptAnswer:
    return KeptAnswer(claim, answer, datetime.now(UTC) + after)


async def claimed(keys: IdempotencyKeys, key: str = "one", owner: str = "me", seconds: float = 60) -> Claim:
    claim = await keys.claim(owner, key, "asked", ("mine", "ours"), seconds)
    assert isinstance(claim, Claim)
    return claim


async def test_a_key_that_comes_and_goes_is_claimed_or_taken(store: Store) -> None:
    keys = IdempotencyKeys(store.database)

    async def claim_and_release() -> None:
        for _ in range(20):
            if isinstance(claim := await keys.claim("me", "one", "asked", (), 60), Claim):
                await keys.release(claim)

    await asyncio.gather(*(claim_and_release() for _ in range(4)))


async def test_one_of_many_gets_the_key(store: Store, database_url: str) -> None:
    async with opened(database_url) as other:
        replicas = [IdempotencyKeys(part.database) for part in (store, other)] * 4
        taken = await asyncio.gather(*(keys.claim("me", "one", "asked", (), 60) for keys in replicas))
    assert sum(isinstance(one, Claim) for one in taken) == 1
    assert all(one.answer is None for one in taken if isinstance(one, Taken))
    await claimed(replicas[0], owner="another key's")


async def test_an_answer_is_kept_with_its_decisions_or_neither(store: Store) -> None:
    keys = IdempotencyKeys(store.database)
    lost = await claimed(keys, seconds=0)  # runs out at once
    claim = await claimed(keys)
    with pytest.raises(ClaimLost):
        await store.decisions.append([], kept(lost))
    await store.decisions.append([], kept(claim, b"first"))
    await keys.release(claim)  # too late to free it
    with pytest.raises(ClaimLost):
        await store.decisions.append([], kept(claim, b"second"))
    taken = await keys.claim("me", "one", "other", (), 60)
    assert isinstance(taken, Taken)
    assert (taken.answer, taken.fingerprint) == (b"first", "asked")


async def test_a_key_is_free_after_its_time_and_then_deleted(store: Store) -> None:
    keys = IdempotencyKeys(store.database)
    await store.decisions.append([], kept(await claimed(keys), after=-HOUR))
    again = await claimed(keys)
    assert await keys.expire() == 0
    await keys.release(again)
    await store.decisions.append([], kept(await claimed(keys), after=-HOUR))
    assert await keys.expire() == 1


async def test_forgetting_an_external_id_forgets_answers(store: Store) -> None:
    keys = IdempotencyKeys(store.database)
    await store.decisions.append([], kept(await claimed(keys)))
    for another in ("another", "min", "%", "theirs\nmine"):
        assert await store.decisions.forget(another, actor=Actor("me")) == 0
    assert isinstance(await keys.claim("me", "one", "asked", (), 60), Taken)
    await store.decisions.forget("mine", actor=Actor("me"))
    await claimed(keys)
