"""Classifiers and policies in the store, on both databases: numbers, pins, what is in force, many writers at once."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from gateway.store.audit import Actor
from gateway.store.preconditions import ANY, Precondition, StaleWrite
from gateway.store.versions import InUse, PinMissing, Version
from tests.support.stores import Store, another_process, opened, save

pytest_plugins = ["tests.support.store_fixtures"]


async def test_the_first_version_is_in_force(store: Store) -> None:
    before = datetime.now(UTC)
    saved = await save(store, "cats", {"labels": ["cat"]})
    version = saved.version
    assert (saved.new, version.kind, version.name, version.number, version.active) == (
        True,
        "classifier",
        "cats",
        1,
        True,
    )
    assert before - timedelta(seconds=1) < version.created_at < before + timedelta(seconds=60)
    assert await store.versions.read("classifier", "cats", None) == version
    assert await store.versions.read("classifier", "cats", 1) == version
    assert await store.versions.shown("classifier") == (version,)
    assert await store.versions.shown("policy") == ()


async def test_the_same_body_makes_no_version(store: Store) -> None:
    first = await save(store, "cats", {"a": 1, "b": [1.5, None, "ü"]})
    revision = await store.versions.revision()
    again = await save(store, "cats", {"b": [1.5, None, "ü"], "a": 1})
    assert (again.new, again.version) == (False, first.version)
    assert await store.versions.revision() == revision
    assert len(await store.audit.latest(10)) == 1
    assert (await save(store, "cats", {"a": 1, "b": [1.5, None, "u"]})).version.number == 2


async def test_a_body_comes_back_as_it_was_written(store: Store) -> None:
    body = {"z": 1, "a": {"ß": [0.1, 1e-300, -0.0, 2**60, True, None, "\u0000"]}, "m": "😀"}
    await save(store, "cats", body)
    found = await store.versions.read("classifier", "cats", 1)
    assert found is not None
    assert json.dumps(found.body) == json.dumps(body)


async def test_other_pins_or_another_bundle_are_another_version(store: Store) -> None:
    await save(store, "cats", {"v": 1})
    await save(store, "cats", {"v": 2})
    versions = [
        (await save(store.seen_by(bundle), "p", {"r": 1}, kind="policy", pins={"cats": pin})).version
        for pin, bundle in ((1, "x"), (2, "x"), (2, "y"), (2, "y"))
    ]
    assert [version.number for version in versions] == [1, 2, 3, 3]
    assert versions[2].pins == {"cats": 2}
    assert versions[2].bundle_id == "y"


async def test_a_draft_waits_and_a_version_can_be_rolled_back(store: Store) -> None:
    first = (await save(store, "cats", {"v": 1})).version
    draft = (await save(store, "cats", {"v": 2}, activate=False)).version
    assert not draft.active
    assert await store.versions.read("classifier", "cats", None) == first
    promoted = await store.versions.activate("classifier", "cats", 2, actor=Actor("me"))
    assert promoted is not None
    assert (promoted.active, promoted.etag) == (True, draft.etag)
    assert [(one.number, one.active) for one in await store.versions.history("classifier", "cats")] == [
        (2, True),
        (1, False),
    ]
    revision = await store.versions.revision()
    assert await store.versions.activate("classifier", "cats", 2, actor=Actor("me")) == promoted
    assert await store.versions.revision() == revision
    back = await store.versions.activate("classifier", "cats", 1, actor=Actor("me"))
    assert back == first
    same = await save(store, "cats", {"v": 2})
    assert (same.new, same.version.number, same.version.active) == (False, 2, True)


async def test_the_first_version_may_be_a_draft(store: Store) -> None:
    draft = (await save(store, "cats", {"v": 1}, activate=False)).version
    assert (draft.number, draft.active) == (1, False)
    assert (await store.versions.snapshot()).versions == ()
    assert await store.versions.read("classifier", "cats", None) == draft, "the latest where none is in force"
    assert await store.versions.shown("classifier") == (draft,)
    second = (await save(store, "cats", {"v": 2}, activate=False, precondition=names(draft))).version
    assert (second.number, second.active) == (2, False)
    await save(store, "p", {}, kind="policy", pins={"cats": 1}, activate=False)
    promoted = await store.versions.activate("classifier", "cats", 1, actor=Actor("me"))
    assert promoted is not None
    assert [(one.number, one.active) for one in await store.versions.history("classifier", "cats")] == [
        (2, False),
        (1, True),
    ]
    assert await store.versions.remove("classifier", "cats", actor=Actor("me")), (
        "a draft of a policy keeps no classifier"
    )
    assert await store.versions.remove("policy", "p", actor=Actor("me"))


async def test_a_version_that_is_not_there(store: Store) -> None:
    await save(store, "cats", {"v": 1})
    for number in (0, -1, 2, 2**31, 10**30):
        assert await store.versions.read("classifier", "cats", number) is None
        assert await store.versions.activate("classifier", "cats", number, actor=Actor("me")) is None
    assert await store.versions.read("classifier", "dogs", None) is None
    assert await store.versions.history("policy", "cats") == ()


def names(*versions: Version) -> Precondition:
    return Precondition(frozenset(version.etag for version in versions))


async def test_a_save_names_the_latest_version(store: Store) -> None:
    absent = Precondition(none_match=ANY)
    for stale in (Precondition(ANY), Precondition(frozenset({'"1-abc"'}))):
        with pytest.raises(StaleWrite):
            await save(store, "cats", {"v": 1}, precondition=stale)
    first = (await save(store, "cats", {"v": 1}, precondition=absent)).version
    second = (await save(store, "cats", {"v": 2}, precondition=names(first))).version
    for stale in (names(first), names(), absent, Precondition(none_match=frozenset({second.etag}))):
        with pytest.raises(StaleWrite) as caught:
            await save(store, "cats", {"v": 3}, precondition=stale)
        assert caught.value.latest == 2
    third = (await save(store, "cats", {"v": 3}, precondition=Precondition(ANY))).version
    assert not (await save(store, "cats", {"v": 3}, precondition=names(first, third))).new
    assert (await save(store, "cats", {"v": 4})).version.number == 4
    etags = {version.etag for version in await store.versions.history("classifier", "cats")}
    assert {first.etag, second.etag, third.etag} < etags
    assert len(etags) == 4
    assert all(etag.startswith('"') and etag.endswith('"') for etag in etags)
    await store.versions.remove("classifier", "cats", actor=Actor("me"))
    assert (await save(store, "cats", {"v": 4}, precondition=absent)).version.number == 5


async def test_a_deletion_names_the_latest_version(store: Store) -> None:
    first = (await save(store, "cats", {"v": 1})).version
    draft = (await save(store, "cats", {"v": 2}, activate=False)).version
    before = await store.versions.revision()
    for stale in (names(first), Precondition(none_match=ANY), Precondition(none_match=frozenset({draft.etag}))):
        with pytest.raises(StaleWrite) as caught:
            await store.versions.remove("classifier", "cats", actor=Actor("me"), precondition=stale)
        assert caught.value.latest == 2
    assert (await store.versions.revision(), len(await store.versions.history("classifier", "cats"))) == (before, 2)
    assert await store.versions.remove("classifier", "cats", actor=Actor("me"), precondition=names(draft))
    assert not await store.versions.remove("classifier", "cats", actor=Actor("me"), precondition=names(draft))


async def test_an_activation_names_the_version_in_force_or_the_latest(store: Store) -> None:
    made = [(await save(store, "cats", {"v": number}, activate=number != 3)).version for number in (1, 2, 3)]
    first, second, draft = made
    before = await store.versions.revision()
    for stale in (names(first), Precondition(none_match=ANY), Precondition(none_match=frozenset({second.etag}))):
        for number in (1, 2, 3):
            with pytest.raises(StaleWrite) as caught:
                await store.versions.activate("classifier", "cats", number, actor=Actor("me"), precondition=stale)
            assert caught.value.latest == 3
    assert await store.versions.revision() == before
    for named, number in ((second, 3), (draft, 2), (draft, 1), (first, 2)):
        found = await store.versions.activate(
            "classifier", "cats", number, actor=Actor("me"), precondition=names(named)
        )
        assert found is not None
        assert (found.number, found.active) == (number, True)
    assert await store.versions.activate("classifier", "cats", 4, actor=Actor("me"), precondition=names(first)) is None


async def test_of_many_that_saw_the_same_one_alone_changes_it(store: Store) -> None:
    """Saves and deletions at once, each with the tag of what it has seen."""
    me = Actor("me")
    for turn in range(3):
        seen = names((await save(store, "cats", {"turn": turn})).version)
        done = await asyncio.gather(
            *(save(store, "cats", {"turn": turn, "writer": writer}, precondition=seen) for writer in range(4)),
            *(store.versions.remove("classifier", "cats", actor=me, precondition=seen) for _ in range(4)),
            return_exceptions=True,
        )
        # A deletion that comes behind another one finds nothing.
        assert len([one for one in done if one and not isinstance(one, StaleWrite)]) == 1, done
    fresh = Precondition(none_match=ANY)
    made = await asyncio.gather(
        *(save(store, "new", {"writer": writer}, precondition=fresh) for writer in range(6)), return_exceptions=True
    )
    assert sum(isinstance(outcome, StaleWrite) for outcome in made) == 5


async def test_one_body_under_two_names_has_two_etags(store: Store) -> None:
    assert (await save(store, "cats", {})).version.etag != (await save(store, "dogs", {})).version.etag


async def test_a_classifier_in_use_stays(store: Store) -> None:
    await save(store, "cats", {"v": 1})
    await save(store, "p", {"r": 1}, kind="policy", pins={"cats": 1})
    with pytest.raises(InUse) as caught:
        await store.versions.remove("classifier", "cats", actor=Actor("me"))
    assert caught.value.users == ["p"]
    await save(store, "p", {"r": 2}, kind="policy")
    assert await store.versions.remove("classifier", "cats", actor=Actor("me"))
    assert not await store.versions.remove("classifier", "cats", actor=Actor("me"))
    with pytest.raises(PinMissing) as gone:
        await store.versions.activate("policy", "p", 1, actor=Actor("me"))
    assert gone.value.missing == ["cats@1"]
    with pytest.raises(PinMissing):
        await save(store, "p", {"r": 3}, kind="policy", pins={"cats": 1})


async def test_a_number_never_means_something_else(store: Store) -> None:
    old = (await save(store, "cats", {"v": 1})).version
    assert await store.versions.remove("classifier", "cats", actor=Actor("me"))
    assert await store.versions.shown("classifier") == ()
    assert (await store.versions.snapshot()).versions == ()
    assert await store.versions.was_deleted("classifier", "cats")
    assert not await store.versions.was_deleted("classifier", "dogs")
    new = await save(store, "cats", {"v": 1})
    assert not await store.versions.was_deleted("classifier", "cats")
    assert (new.new, new.version.number, new.version.active) == (True, 2, True)
    assert new.version.etag != old.etag
    assert await store.versions.read("classifier", "cats", 1) is None


async def test_the_snapshot_holds_what_is_in_force_and_what_that_pins(store: Store) -> None:
    for body in ({"v": 1}, {"v": 2}, {"v": 3}):
        await save(store, "cats", body)
    await save(store, "dogs", {})
    await save(store, "p", {}, kind="policy", pins={"cats": 1, "dogs": 1})
    await save(store, "p", {"draft": 1}, kind="policy", pins={"cats": 2}, activate=False)
    snapshot = await store.versions.snapshot()
    assert snapshot.revision == await store.versions.revision() == 6
    assert [(one.kind, one.name, one.number, one.active) for one in snapshot.versions] == [
        ("classifier", "cats", 1, False),
        ("classifier", "cats", 3, True),
        ("classifier", "dogs", 1, True),
        ("policy", "p", 1, True),
    ]


async def test_names_sort_by_code_point(store: Store) -> None:
    for name in ("b", "é", "B", "a-b", "ab", "a_b"):
        await save(store, name, {})
    assert [version.name for version in await store.versions.shown("classifier")] == ["B", "a-b", "a_b", "ab", "b", "é"]


async def test_every_change_is_audited(store: Store) -> None:
    await save(store, "cats", {"v": 1}, actor=Actor("ann"))
    await save(store, "cats", {"v": 2}, actor=Actor("bob"), activate=False)
    await store.versions.activate("classifier", "cats", 2, actor=Actor("cyd"))
    await store.versions.remove("classifier", "cats", actor=Actor("dan"))
    rows = await store.audit.latest(3)
    assert [(row.actor, row.action, row.kind, row.name, row.version) for row in rows] == [
        ("dan", "delete", "classifier", "cats", None),
        ("cyd", "activate", "classifier", "cats", 2),
        ("bob", "save", "classifier", "cats", 2),
    ]
    assert rows[1].detail == {"bundle_id": "bundle"}
    assert rows[2].detail == {"active": False, "bundle_id": "bundle"}
    assert all(row.at.tzinfo == UTC for row in rows)
    assert await store.versions.revision() == 4


async def test_what_no_database_keeps_is_a_value_error(store: Store) -> None:
    with pytest.raises(ValueError, match="NUL"):
        await save(store, "a\0b", {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        await save(store, "cats", {"v": float("nan")})
    with pytest.raises(ValueError, match="surrogates"):
        await save(store, "\ud800", {})
    assert await store.versions.shown("classifier") == ()
    assert await store.versions.revision() == 0


WRITER = """
import asyncio, sys
from tests.support.stores import opened, save

async def write(store, writer):
    for turn in range(5):
        saved = await save(store, "shared", {"writer": writer, "turn": turn})
        print(writer, turn, saved.version.number, saved.new, flush=True)

async def main(url, process):
    async with opened(url, timeout_s=20) as store:
        print("open", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*(write(store, f"{process}.{number}") for number in range(5)))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_ten_writers_in_two_processes_lose_no_version(database_url: str) -> None:
    processes = [another_process(WRITER, database_url, name) for name in "ab"]
    for process in processes:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "open\n"
    answers = await asyncio.gather(*(asyncio.to_thread(process.communicate, "go\n", 60) for process in processes))
    assert [process.returncode for process in processes] == [0, 0]
    rows = [line.split() for output, _ in answers for line in output.splitlines()]
    told = {int(number): (writer, int(turn)) for writer, turn, number, _ in rows}
    assert {new for *_, new in rows} == {"True"}
    assert sorted(told) == list(range(1, 51))
    async with opened(database_url) as store:
        kept = await store.versions.history("classifier", "shared")
        assert {version.number: (version.body["writer"], version.body["turn"]) for version in kept} == told
        assert [version.number for version in kept if version.active] == [50]
        assert await store.versions.revision() == 50


async def test_the_same_body_from_many_at_once_is_one_version(store: Store) -> None:
    saved = await asyncio.gather(*(save(store, "cats", {"v": 1}) for _ in range(8)))
    assert [one.new for one in saved].count(True) == 1
    assert {one.version.number for one in saved} == {1}
