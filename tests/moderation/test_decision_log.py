"""The decision log on a real SQLite store: when it is lost, who waits for it, and how it comes back by itself."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.limits.deadline import Deadline
from gateway.moderation import decision_log
from gateway.moderation.decision_log import DecisionLog
from gateway.store.decisions import DecisionFilter, Decisions
from gateway.store.idempotency import Claim, IdempotencyKeys, KeptAnswer, Taken
from gateway.store.spool import DecisionSpool
from tests.support.log_lines import collected
from tests.support.stores import Store, decision, opened
from tests.support.waiting import UNTIL_S, eventually

pytest_plugins = ["tests.support.store_fixtures"]

STORE_TIMEOUT_S = 0.5
LOST = {
    "logger": "decision_log",
    "level": "warning",
    "event": "decisions cannot be logged: the store takes no writes",
}
BACK = {"logger": "decision_log", "level": "info", "event": "decisions are logged again"}


@pytest.fixture
def path(tmp_path: Path, empty_sqlite: Path) -> Path:
    return Path(shutil.copy(empty_sqlite, tmp_path))


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    async with opened(f"sqlite:///{path}", STORE_TIMEOUT_S) as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log, "PAUSE_S", 0.02)


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with collected() as made:
        yield made


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within, the file can be read, and nobody else can write to it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


def of_the_log(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines without those in which the store tells its causes."""
    return [line for line in lines if line["logger"] != "store"]


def soon() -> Deadline:
    return Deadline.after(UNTIL_S)


def readable() -> bool:
    return False


async def logged(store: Store) -> set[str]:
    page = await store.decisions.page(DecisionFilter(), cursor=None, limit=100)
    return {record.request_id for record in page.records}


async def followed(log: DecisionLog, *, until_lost: bool = False) -> bool:
    """Let the log watch the store until it takes writes again; return whether it does."""
    watching = asyncio.create_task(log.watch())
    await eventually(lambda: watching.done() or log.lost == until_lost)
    watching.cancel()
    await asyncio.wait([watching])
    assert watching.cancelled(), "it watches for ever"
    return not log.lost


async def test_decisions_are_written_before_it_says_so(store: Store, lines: list[dict[str, Any]]) -> None:
    log = DecisionLog(store.decisions, readable)
    assert log.lost is False
    assert await log.append([decision(1), decision(2)], soon()) is True
    assert await logged(store) == {"request-1", "request-2"}
    assert (log.lost, lines) == (False, [])


async def test_the_first_write_that_fails_is_waited_for_and_then_none(
    store: Store, path: Path, lines: list[dict[str, Any]]
) -> None:
    log = DecisionLog(store.decisions, readable)
    with locked(path):
        assert await log.append([decision(1)], soon()) is False
        assert log.lost is True
    assert await log.append([decision(2)], soon()) is False, "though it could be written: nobody asked"
    assert await logged(store) == set()
    assert of_the_log(lines) == [LOST]
    assert await followed(log)
    assert of_the_log(lines) == [LOST, BACK]
    assert await log.append([decision(3)], soon()) is True
    assert await logged(store) == {"request-3"}


async def test_a_log_that_is_lost_stays_so_while_the_store_takes_no_writes(
    store: Store, path: Path, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    check = Decisions.check_writable

    async def counted(self: Decisions) -> None:
        nonlocal asked
        asked += 1
        await check(self)

    log = DecisionLog(store.decisions, readable)
    with locked(path):
        await log.append([decision(1)], soon())
        monkeypatch.setattr(Decisions, "check_writable", counted)
        watching = asyncio.create_task(log.watch())
        await eventually(lambda: watching.done() or asked == 3)
        assert (log.lost, of_the_log(lines)) == (True, [LOST]), "it is said once"
    await eventually(lambda: watching.done() or not log.lost)
    assert not watching.done()
    asked = 0
    await asyncio.sleep(5 * decision_log.PAUSE_S)
    assert asked == 0, "a log that is well is not checked"
    watching.cancel()


async def test_a_fault_of_the_check_does_not_end_the_watch(
    store: Store, path: Path, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter([ZeroDivisionError(), ZeroDivisionError()])
    check = Decisions.check_writable

    async def faulty(self: Decisions) -> None:
        for fault in faults:
            raise fault
        await check(self)

    log = DecisionLog(store.decisions, readable)
    with locked(path):
        await log.append([decision(1)], soon())
    monkeypatch.setattr(Decisions, "check_writable", faulty)
    assert await followed(log)
    said = {"logger": "decision_log", "level": "error", "event": "the store could not be checked", "exc_info": True}
    assert of_the_log(lines) == [LOST, said, said, BACK]


async def test_several_that_wait_together_say_so_once(store: Store, path: Path, lines: list[dict[str, Any]]) -> None:
    log = DecisionLog(store.decisions, readable)
    with locked(path):
        appended = await asyncio.gather(*(log.append([decision(number)], soon()) for number in range(3)))
    assert appended == [False, False, False]
    assert of_the_log(lines) == [LOST]


async def test_a_write_that_is_not_done_by_the_deadline_is_none(path: Path, lines: list[dict[str, Any]]) -> None:
    async with opened(f"sqlite:///{path}", UNTIL_S) as store:
        log = DecisionLog(store.decisions, readable)
        with locked(path):
            assert await log.append([decision(1)], Deadline.after(0.05)) is False
        assert (log.lost, of_the_log(lines)) == (True, [LOST])


async def test_a_store_that_cannot_even_be_read_is_not_asked(store: Store, lines: list[dict[str, Any]]) -> None:
    away = True
    log = DecisionLog(store.decisions, lambda: away)
    assert await log.append([decision(1)], soon()) is False
    assert (await logged(store), log.lost, lines) == (set(), False, [])
    away = False
    assert await log.append([decision(1)], soon()) is True


async def test_a_decision_that_no_store_keeps_is_not_taken_for_an_outage(store: Store) -> None:
    log = DecisionLog(store.decisions, readable)
    with pytest.raises(ValueError, match="surrogate"):
        await log.append([decision(1, request_id="\ud800")], soon())
    assert log.lost is False
    assert await log.append([decision(2)], soon()) is True


async def test_what_the_store_does_not_take_is_spooled_and_written_later(
    store: Store, path: Path, tmp_path: Path
) -> None:
    spool = DecisionSpool(tmp_path / "spool", 1 << 20)
    log = DecisionLog(store.decisions, readable, spool)
    claim = await IdempotencyKeys(store.database).claim("me", "key", "print", [], 60)
    assert isinstance(claim, Claim)
    kept = KeptAnswer(claim, b"answer", datetime.now(UTC) + timedelta(hours=1))
    with locked(path):
        assert await log.append([decision(1, decision="review")], soon(), kept) is True
        assert await log.append([decision(2), decision(3)], soon()) is True
        assert await log.append([], soon(), kept) is False, "an answer alone is not spooled"
        assert (log.lost, log.spools, spool.decisions) == (True, True, 3)
    # The next start, or another replica, takes over what one that died has left.
    other = DecisionLog(store.decisions, readable, DecisionSpool(tmp_path / "spool", 1 << 20))
    watching = [asyncio.create_task(each.watch()) for each in (log, other)]
    await eventually(lambda: not log.lost and spool.decisions == 0)
    for watch in watching:
        watch.cancel()
    await asyncio.wait(watching)
    assert await logged(store) == {"request-1", "request-2", "request-3"}
    assert (await store.cases.counts()).waiting == 1
    again = await IdempotencyKeys(store.database).claim("me", "key", "print", [], 60)
    assert isinstance(again, Taken)
    assert again.answer == b"answer"


async def test_a_spool_without_room_leaves_the_decision_unlogged(
    store: Store, path: Path, lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    log = DecisionLog(store.decisions, readable, DecisionSpool(tmp_path / "spool", 1 << 16))
    large = decision(1, vectors=bytes(1 << 17))
    with locked(path):
        assert [await log.append([each], soon()) for each in (large, large, decision(2))] == [False, False, True]
        assert log.spools, "the next one had room"
    full = [line for line in of_the_log(lines) if line["event"] == "decisions cannot be kept on disk"]
    assert [line["cause"] for line in full] == ["disk_full"], "it is said once"


async def test_a_spooled_decision_that_no_store_keeps_is_dropped_alone(store: Store, tmp_path: Path) -> None:
    dropped: list[int] = []
    spool = DecisionSpool(tmp_path / "spool", 1 << 20)
    away = True
    log = DecisionLog(store.decisions, lambda: away, spool, dropped.append)
    for each in (decision(1), decision(2, request_id="a NUL: \0"), decision(3)):
        assert await log.append([each], soon()) is True
    away = False
    watching = asyncio.create_task(log.watch())
    await eventually(lambda: spool.decisions == 0 or watching.done())
    watching.cancel()
    assert await logged(store) == {"request-1", "request-3"}
    assert dropped == [1]
