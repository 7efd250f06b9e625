"""The spool on a real disk: whole entries in order, bounded, and there after kill -9."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.store.audit import Actor
from gateway.store.decisions import DecisionFilter, LogEntry
from gateway.store.idempotency import Claim, KeptAnswer
from gateway.store.outages import StoreUnavailable
from gateway.store.spool import NAME, DecisionSpool
from tests.support.stores import NOON, Store, another_process, decision, fired

pytest_plugins = ["tests.support.store_fixtures"]

MIB = 1 << 20
ME = Actor("me")
WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.store.decisions import LogEntry
from gateway.store.spool import DecisionSpool
from tests.support.stores import decision

async def write():
    spool = DecisionSpool(Path(sys.argv[1]), 64 << 20)
    for number in range(100_000):
        await spool.append(LogEntry((decision(number),)))
        print(number, flush=True)

asyncio.run(write())
"""


async def every(spool: DecisionSpool) -> list[LogEntry]:
    return [entry for _, entry in await spool.first(100_000)]


async def test_an_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = KeptAnswer(Claim("owner", "key", "token"), b"\x00\xff{}", NOON + timedelta(microseconds=1))
    entries = [
        LogEntry((decision(1, vectors=bytes(range(256)), external_id="é", detail=fired(gore="review")), decision(2))),
        LogEntry((decision(3, categories={"gore": 0.1 + 0.2}, shadow_differs=True),), kept),
    ]
    spool = DecisionSpool(tmp_path / "spool", MIB)
    for entry in entries:
        await spool.append(entry)
    assert spool.decisions == 3
    await spool.close()
    again = DecisionSpool(tmp_path / "spool", MIB)
    assert await every(again) == entries
    assert again.decisions == 3
    ((number, _),) = await again.first(1)
    await again.remove([number])
    assert (await every(again), again.decisions) == (entries[1:], 1)
    await again.close()


async def test_it_has_no_more_than_its_room_and_gives_it_back(tmp_path: Path) -> None:
    spool = DecisionSpool(tmp_path, MIB)
    for number in range(20):
        await spool.append(LogEntry((decision(number, vectors=bytes(20_000)),)))
    with pytest.raises(StoreUnavailable) as caught:
        await asyncio.gather(*(spool.append(LogEntry((decision(9, vectors=bytes(20_000)),))) for _ in range(40)))
    taken = spool.decisions
    assert caught.value.cause == "disk_full"
    assert 20 < taken < 40
    assert len(await every(spool)) == taken
    await spool.remove([number for number, _ in await spool.first(taken)])
    await spool.append(LogEntry((decision(1),)))
    assert (tmp_path / NAME).stat().st_size < 100_000, "what is written elsewhere leaves the disk"
    await spool.close()


async def test_no_place_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "spool", tmp_path / "file"):
        with pytest.raises(StoreUnavailable) as caught:
            await DecisionSpool(folder, MIB).append(LogEntry((decision(1),)))
        assert caught.value.cause == "permission"


async def test_what_was_said_to_be_written_is_there_after_kill_9(tmp_path: Path) -> None:
    writers = [await asyncio.to_thread(another_process, WRITER, str(tmp_path)) for _ in range(2)]
    said = []
    for writer in writers:
        assert writer.stdout is not None
        lines = [await asyncio.to_thread(writer.stdout.readline) for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        lines += (await asyncio.to_thread(writer.communicate))[0].splitlines()
        said.append([line for line in lines if line.strip()])
    spool = DecisionSpool(tmp_path, MIB)
    there = [entry.records[0].id for entry in await every(spool)]
    for acknowledged in said:
        assert {decision(int(number)).id for number in acknowledged} <= set(there)
    assert set(Counter(there).values()) <= {1, 2}, "each writer's once"
    await spool.close()


async def test_entries_written_twice_are_there_once(store: Store) -> None:
    entries = [LogEntry((decision(number, decision="review", detail=fired(gore="review")),)) for number in range(3)]
    await store.decisions.append(entries[1].records)
    for _ in range(2):
        await store.decisions.append_spooled(entries)
    page = await store.decisions.page(DecisionFilter(category="gore"), limit=9)
    assert [record.id for record in page.records] == [decision(number).id for number in (2, 1, 0)]
    assert (await store.cases.counts()).waiting == 3


async def test_what_was_forgotten_meanwhile_is_not_written(store: Store) -> None:
    assert await store.decisions.forget("mine", actor=ME) == 0
    later = NOON.replace(year=NOON.year + 50)
    records = (
        decision(1, external_id="mine"),
        decision(2, external_id="yours"),
        decision(3),
        decision(4, external_id="mine", at=later),
    )
    await store.decisions.append_spooled([LogEntry(records)])
    page = await store.decisions.page(DecisionFilter(), limit=9)
    assert [record.id for record in page.records] == [decision(number).id for number in (4, 3, 2)]
