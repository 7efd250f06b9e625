"""Jobs and labelled sets, on both databases: leases, caps, what a second worker sees."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.store.audit import Actor
from gateway.store.jobs.jobs import Job, JobFile, Jobs, Taken, TooManyJobs
from gateway.store.jobs.labelled_sets import LabelledSets, LabelledVectors, SetOfAnotherBundle, TooManySets
from tests.support.stores import BUNDLE_ID, NOON, Store

pytest_plugins = ["tests.support.store_fixtures"]

ME = Actor("me")
GIVEN_UP: dict[str, Any] = {"code": "job_given_up"}


def job(number: int, **changed: Any) -> Job:
    made = Job(f"{number:032x}", "evaluate", BUNDLE_ID, {"policy": "a@1"}, NOON + timedelta(seconds=number), "key")
    return replace(made, **changed)


async def take(jobs: Jobs, bundle_id: str = BUNDLE_ID, lease_s: float = 60) -> Taken | None:
    return await jobs.take(bundle_id, lease_s=lease_s, most_attempts=3, given_up=GIVEN_UP)


async def taken_of(jobs: Jobs, lease_s: float = 60) -> Taken:
    found = await take(jobs, lease_s=lease_s)
    assert found is not None
    return found


async def test_jobs_are_taken_once_oldest_first_and_by_their_bundle_alone(store: Store) -> None:
    jobs, other = Jobs(store.database), Jobs(store.database)
    for number in (2, 1, 3):
        await jobs.add(job(number), 10, actor=ME)
    await jobs.add(job(0, bundle_id="other"), 10, actor=ME)
    found = await asyncio.gather(*(take(some) for some in (jobs, other) * 3))
    assert sorted(one.job.id for one in found if one) == [job(number).id for number in (1, 2, 3)]
    assert sum(one is None for one in found) == 3
    assert not await jobs.is_due(BUNDLE_ID)
    assert await jobs.is_due("other")
    assert await jobs.counts() == {"queued": 1, "running": 3, "done": 0, "failed": 0, "cancelled": 0}
    assert [one.id for one in await jobs.latest(2, before=job(3).id)] == [job(2).id, job(1).id]
    assert await jobs.latest(9, state="done") == await jobs.latest(9, kind="else") == []


async def test_whose_lease_ended_can_do_nothing_more(store: Store) -> None:
    jobs = Jobs(store.database)
    await jobs.add(job(1), 10, actor=ME)
    first = await taken_of(jobs, lease_s=0)
    second = await taken_of(jobs)
    assert (second.job.id, second.job.attempts, first.job.attempts) == (first.job.id, 2, 1)
    rest = JobFile("rows", "text/plain", b"first")
    assert not await jobs.beat(first, {}, lease_s=60)
    assert not await jobs.keep(first, rest)
    assert not await jobs.end(first, "done", result={})
    await jobs.release(first)
    assert await jobs.beat(second, {"done": 1}, lease_s=60)
    assert await jobs.keep(second, rest)
    assert await jobs.keep(second, replace(rest, data=b"second"))
    assert await jobs.file(second.job.id, "rows") == replace(rest, data=b"second")
    assert await jobs.end(second, "done", result={"pictures": 1}, files=[JobFile("report", "text/html", b"page")])
    read = await jobs.read(second.job.id)
    assert read is not None
    assert (read.state, read.progress, read.result, read.attempts) == ("done", {"done": 1}, {"pictures": 1}, 2)
    assert await jobs.file(second.job.id, "rows") is None
    (entry,) = (await jobs.files([second.job.id]))[second.job.id]
    assert (entry.name, entry.bytes) == ("report", 4)
    assert not await jobs.beat(second, {}, lease_s=60)


async def test_attempts_end_and_a_gateway_that_ends_costs_none(store: Store) -> None:
    jobs = Jobs(store.database)
    await jobs.add(job(1), 10, actor=ME)
    for _ in range(5):
        await jobs.release(await taken_of(jobs))
    for attempt in (1, 2, 3):
        assert (await taken_of(jobs, lease_s=0)).job.attempts == attempt
    assert await take(jobs) is None
    read = await jobs.read(job(1).id)
    assert read is not None
    assert (read.state, read.error) == ("failed", GIVEN_UP)


async def test_a_job_is_cancelled_once_and_for_all(store: Store) -> None:
    jobs = Jobs(store.database)
    await jobs.add(job(1), 1, actor=ME)
    with pytest.raises(TooManyJobs):
        await jobs.add(job(2), 1, actor=ME)
    taken = await taken_of(jobs)
    await jobs.keep(taken, JobFile("rows", "text/plain", b"rows"))
    cancelled = await jobs.cancel(taken.job.id, actor=ME)
    assert cancelled is not None
    assert cancelled.state == "cancelled"
    assert not await jobs.beat(taken, {}, lease_s=60)
    assert await jobs.files([taken.job.id]) == {}
    assert await jobs.cancel("nobody's", actor=ME) is None
    assert [row.action for row in await store.audit.latest(9)] == ["cancel", "create"]
    await jobs.add(job(2), 1, actor=ME)
    assert await jobs.expire(datetime.now(UTC) + timedelta(days=1)) == 1, "what has not ended stays"
    assert [one.id for one in await jobs.latest(9)] == [job(2).id]


def image(number: int, *labels: str, **changed: Any) -> LabelledVectors:
    place = {"view": "full", "box": [0, 0, 9, 9], "frame_ms": None, "background": None}
    made = LabelledVectors(f"{number:064x}", list(labels), None, {"from": "web"}, [place], [], bytes(16))
    return replace(made, **changed)


async def test_a_set_keeps_each_file_once_within_its_caps(store: Store) -> None:
    sets = LabelledSets(store.database)
    assert await sets.put("mine", "first", 1, actor=ME)
    assert not await sets.put("mine", "again", 1, actor=ME)
    with pytest.raises(TooManySets):
        await sets.put("yours", "", 1, actor=ME)

    async def add(*images: LabelledVectors, bundle_id: str = BUNDLE_ID) -> Any:
        return await sets.add("mine", images, bundle_id=bundle_id, most=3, actor=ME)

    assert await add(image(2, "gore"), image(1), image(2, "gore", "nudity")) == ["added", "added", "updated"]
    assert await add(image(3, "gore"), image(4), image(1, "gore")) == ["added", "full", "updated"]
    read = await sets.read("mine")
    assert read is not None
    assert (read.description, read.images, read.bundle_id) == ("again", 3, BUNDLE_ID)
    assert read.labels == Counter(gore=3, nudity=1)
    assert await sets.all() == [read]
    pages = [await sets.page("mine", after=after, limit=2) for after in ("", f"{2:064x}", f"{3:064x}")]
    assert pages == [[image(1, "gore"), image(2, "gore", "nudity")], [image(3, "gore")], []]
    with pytest.raises(SetOfAnotherBundle, match=BUNDLE_ID):
        await add(image(1), bundle_id="another")
    assert await sets.add("nobody's", [image(1)], bundle_id=BUNDLE_ID, most=3, actor=ME) is None
    assert await sets.delete("mine", actor=ME)
    assert await sets.read("mine") is None
    assert await sets.page("mine", after="", limit=9) == []
    assert not await sets.delete("mine", actor=ME)


async def test_harmless_images_are_counted_too(store: Store) -> None:
    sets = LabelledSets(store.database)
    await sets.put("mine", "", 9, actor=ME)
    await sets.add("mine", [image(1), image(2), image(3, "ünïcode")], bundle_id=BUNDLE_ID, most=9, actor=ME)
    read = await sets.read("mine")
    assert read is not None
    assert read.labels == Counter({"harmless": 2, "ünïcode": 1})
