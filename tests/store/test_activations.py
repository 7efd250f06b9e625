"""Which version is in force for which bundle, where several serve from one database."""

from __future__ import annotations

import pytest

from gateway.store.audit import Actor
from gateway.store.versions import InUse, Kind, Versions
from tests.support.stores import Store, save

pytest_plugins = ["tests.support.store_fixtures"]

ME = Actor("me")


async def seen(versions: Versions, kind: Kind, name: str) -> tuple[int, bool, bool]:
    """Number, active and foreign of what a bundle is shown under a name."""
    found = await versions.read(kind, name, None)
    assert found is not None
    assert found in await versions.shown(kind)
    return found.number, found.active, found.foreign


async def test_a_policy_is_in_force_for_the_bundle_it_was_saved_for(store: Store) -> None:
    old, new = store.seen_by("old"), store.seen_by("new")
    await save(old, "p", {"r": 1}, kind="policy")
    assert await seen(old, "policy", "p") == (1, True, False)
    assert await seen(new, "policy", "p") == (1, False, True), "shown, not in force"
    await save(new, "p", {"r": 1}, kind="policy", activate=False)
    assert await seen(new, "policy", "p") == (1, False, True), "a draft changes nothing"
    await new.activate("policy", "p", 2, actor=ME)
    assert await seen(new, "policy", "p") == (2, True, False)
    assert await seen(old, "policy", "p") == (1, True, False)
    for versions, number in ((old, 1), (new, 2)):
        snapshot = await versions.snapshot()
        assert [(one.name, one.number, one.active) for one in snapshot.versions] == [("p", number, True)]


async def test_a_classifier_is_words_alone_and_follows_until_it_is_activated_for_the_bundle(store: Store) -> None:
    old, new, third = store.seen_by("old"), store.seen_by("new"), store.seen_by("third")
    await save(old, "cats", {"v": 1})
    assert await seen(new, "classifier", "cats") == (1, True, True)
    await save(old, "cats", {"v": 2})
    assert await seen(new, "classifier", "cats") == (2, True, True)
    assert (await new.snapshot()).versions == (await new.shown("classifier"))
    promoted = await new.activate("classifier", "cats", 2, actor=ME)
    assert promoted is not None
    assert not promoted.foreign, "the version that it follows: from now on it is its own"
    await old.activate("classifier", "cats", 1, actor=ME)
    assert await seen(old, "classifier", "cats") == (1, True, False)
    assert await seen(new, "classifier", "cats") == (2, True, False)
    assert await seen(third, "classifier", "cats") == (1, True, True), "what was activated last, wherever"
    saved = await save(third, "cats", {"v": 2})
    assert (saved.new, saved.version.number, saved.version.foreign) == (False, 2, False)


async def test_a_foreign_policy_pins_nothing_here(store: Store) -> None:
    old, new = store.seen_by("old"), store.seen_by("new")
    await save(old, "cats", {"v": 1})
    await save(old, "p", {}, kind="policy", pins={"cats": 1})
    await save(old, "cats", {"v": 2})
    assert [(one.kind, one.number, one.active) for one in (await new.snapshot()).versions] == [
        ("classifier", 2, True),
        ("policy", 1, False),
    ]


async def test_what_another_bundle_serves_cannot_be_taken_from_it(store: Store) -> None:
    old, new = store.seen_by("old"), store.seen_by("new")
    await save(old, "cats", {"v": 1})
    await save(old, "p", {"r": 1}, kind="policy", pins={"cats": 1})
    await save(new, "p", {"r": 2}, kind="policy")
    with pytest.raises(InUse) as caught:
        await new.remove("classifier", "cats", actor=ME)
    assert caught.value.users == ["p (bundle old)"]
    assert await new.remove("policy", "p", actor=ME)
    assert (await old.snapshot()).versions == await old.shown("classifier"), "a policy is deleted for all"
    assert await new.remove("classifier", "cats", actor=ME)


async def test_label_vectors_stay_with_their_version_and_text_tower(store: Store) -> None:
    here, there = store.seen_by("old", "fp32").label_vectors, store.seen_by("old", "fp16").label_vectors
    await save(store.seen_by("old", "fp32"), "cats", {"v": 1}, vectors=b"one")
    assert (await here.read("cats", 1), await there.read("cats", 1)) == (b"one", None)
    assert await there.keep("cats", 1, b"half", seen=None) == b"half"
    assert await here.keep("cats", 1, b"late", seen=None) == b"one", "another gateway was faster"
    assert await here.keep("cats", 1, b"mended", seen=b"one") == b"mended"
    assert (await here.read("cats", 1), await there.read("cats", 1)) == (b"mended", b"half")
    assert await store.versions.remove("classifier", "cats", actor=ME)
    assert (await here.read("cats", 1), await there.read("cats", 1)) == (None, None)
    assert await here.keep("cats", 1, b"ghost", seen=None) == b"ghost"
    assert await here.read("cats", 1) is None, "of a version that is gone nothing is kept"
