"""Seeding on a real store: what is absent is saved, what is ours follows the bundle, what a team wrote stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ModelUnavailable, PolicyModelMismatch
from gateway.inference.bundle import Manifest
from gateway.inference.prompts import LabelRules
from gateway.inference.text_embeddings import TextEmbeddings, TextLimits
from gateway.inference.tokenizer import Tokenizer
from gateway.limits.deadline import Deadline
from gateway.moderation import seeding
from gateway.moderation.builtin_scenarios import SetName, fingerprint, set_for, shipped
from gateway.moderation.catalog import Catalog
from gateway.moderation.policy import Policy
from gateway.moderation.saving import Saver
from gateway.moderation.seeding import ACTOR, seed, seed_alone
from gateway.store.audit import Actor
from gateway.store.leases import Leases
from gateway.store.outages import StoreUnavailable
from gateway.store.preconditions import Precondition
from gateway.store.versions import Kind, Version, Versions
from tests.support.fake_encoder import FakeEncoder, write_bundle
from tests.support.stores import Store, opened

NAMES = ("facial_attributes", "gore", "nudity", "offensive")
RULES = LabelRules()


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(f"sqlite:///{tmp_path}/gateway.sqlite") as made:
        yield made


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundle", context_length=200)
    return tmp_path / "bundle"


def saver_for(
    store: Store | Versions, folder: Path, which: SetName, bundle_id: str, encoder: FakeEncoder | None = None
) -> Saver:
    """A gateway's saver, as at its start."""
    versions = store.seen_by(bundle_id) if isinstance(store, Store) else store
    manifest = write_bundle(folder, context_length=200)
    manifest = replace(manifest, bundle_id=bundle_id, model=replace(manifest.model, demo=which == "demo"))
    text = TextEmbeddings(
        Tokenizer(folder / "tokenizer.json", manifest.text),
        encoder or FakeEncoder(),
        TextLimits(cache_bytes=1 << 24, max_new_prompts=2000, max_saved_prompts=2000, max_batch=64),
        RULES,
        lambda *_: None,
    )
    return Saver(versions, Catalog(versions, text, manifest, RULES), text, manifest, RULES, 30)


async def active(store: Store, kind: Kind, name: str, bundle_id: str = "one") -> Version:
    """What is in force for a bundle."""
    version = await shown(store, kind, name, bundle_id)
    assert version.active
    return version


async def shown(store: Store, kind: Kind, name: str, bundle_id: str = "one") -> Version:
    """What is in force for a bundle, or else what is shown in its place."""
    version = await store.seen_by(bundle_id).read(kind, name, None)
    assert version is not None
    return version


async def edit(store: Store, kind: Kind, name: str, bundle_id: str = "one", **changed: Any) -> Version:
    """Save over what stands as a person does."""
    before = await active(store, kind, name, bundle_id)
    saved = await store.seen_by(bundle_id).save(
        kind,
        name,
        {**before.body, **changed},
        pins=before.pins,
        activate=True,
        actor=Actor("a person"),
        precondition=Precondition(frozenset({before.etag})),
    )
    return saved.version


def is_set(version: Version, which: SetName) -> bool:
    found = shipped(which)
    bodies: dict[str, Any] = dict(found.classifiers if version.kind == "classifier" else found.policies)
    return bool(version.body == bodies[version.name].model_dump(mode="json"))


@pytest.mark.parametrize("which", ["demo", "clip"])
async def test_an_empty_store_gets_the_set_of_the_bundle(kept: Store, bundle_folder: Path, which: SetName) -> None:
    saver = saver_for(kept, bundle_folder, which, "one")
    assert await seed(saver)
    for name in NAMES:
        assert is_set(await active(kept, "classifier", name), which)
    policy = await active(kept, "policy", "default")
    assert is_set(policy, which)
    assert (policy.bundle_id, policy.pins) == ("one", {"gore": 1, "nudity": 1, "offensive": 1})
    bound = await saver.catalog.policy("default", Deadline.after(10))
    assert bound.uncalibrated is (which == "clip")
    assert {row.actor for row in await kept.audit.latest(100)} == {ACTOR.name}


async def test_a_second_start_writes_nothing(kept: Store, bundle_folder: Path) -> None:
    await seed(saver_for(kept, bundle_folder, "demo", "one"))
    before = await kept.versions.revision()
    assert not await seed(saver_for(kept, bundle_folder, "demo", "one"))
    assert await kept.versions.revision() == before


@pytest.mark.parametrize("first", ["demo", "clip"])
async def test_an_unedited_set_follows_the_bundle(kept: Store, bundle_folder: Path, first: SetName) -> None:
    second: SetName = "clip" if first == "demo" else "demo"
    await seed(saver_for(kept, bundle_folder, first, "one"))
    assert await seed(saver_for(kept, bundle_folder, second, "two"))
    policy = await active(kept, "policy", "default", "two")
    assert is_set(policy, second)
    assert (policy.number, policy.bundle_id, policy.pins) == (2, "two", {"gore": 2, "nudity": 2, "offensive": 2})
    assert is_set(await active(kept, "policy", "default", "one"), first), "for the other nothing has changed"
    assert is_set(await active(kept, "classifier", "gore", "one"), first)
    revision = await kept.versions.revision()
    for which, bundle_id in ((first, "one"), (second, "two")):
        assert not await seed(saver_for(kept, bundle_folder, which, bundle_id)), "whichever starts again"
    assert await kept.versions.revision() == revision


async def test_another_bundle_of_the_same_kind_is_pinned_anew(kept: Store, bundle_folder: Path) -> None:
    await seed(saver_for(kept, bundle_folder, "clip", "one"))
    assert await seed(saver_for(kept, bundle_folder, "clip", "two"))
    policy = await active(kept, "policy", "default", "two")
    assert (policy.number, policy.bundle_id, policy.pins["gore"]) == (2, "two", 1)
    gore = await active(kept, "classifier", "gore", "two")
    assert (gore.number, gore.foreign) == (1, False)
    await edit(kept, "classifier", "gore", description="ours")
    assert (await active(kept, "classifier", "gore", "two")).number == 1, "what was seeded stays as it is"


async def test_an_edited_policy_is_left_alone_and_answers_a_mismatch(kept: Store, bundle_folder: Path) -> None:
    await seed(saver_for(kept, bundle_folder, "clip", "one"))
    mine = await edit(kept, "policy", "default", description="ours")
    saver = saver_for(kept, bundle_folder, "clip", "two")
    await seed(saver)
    assert await active(kept, "policy", "default") == mine
    left = await shown(kept, "policy", "default", "two")
    assert (left.number, left.active, left.foreign) == (mine.number, False, True)
    await saver.catalog.refresh()
    with pytest.raises(PolicyModelMismatch):
        await saver.catalog.policy("default", Deadline.after(10))


async def test_an_edited_classifier_and_what_rests_on_it_are_left_alone(kept: Store, bundle_folder: Path) -> None:
    await seed(saver_for(kept, bundle_folder, "demo", "one"))
    mine = await edit(kept, "classifier", "gore", description="ours")
    assert not await seed(saver_for(kept, bundle_folder, "demo", "one"))
    policy = await active(kept, "policy", "default")
    assert policy.pins["gore"] == 1, "an edit does not move a policy"
    await seed(saver_for(kept, bundle_folder, "clip", "two"))
    assert (await active(kept, "classifier", "gore", "two")).number == mine.number
    assert is_set(await active(kept, "classifier", "nudity", "two"), "clip"), "what nobody touched follows"
    assert await active(kept, "policy", "default") == policy
    assert not (await shown(kept, "policy", "default", "two")).active


async def test_what_a_team_deleted_stays_deleted(kept: Store, bundle_folder: Path) -> None:
    await seed(saver_for(kept, bundle_folder, "demo", "one"))
    await kept.versions.remove("policy", "default", actor=Actor("a person"))
    await kept.versions.remove("classifier", "offensive", actor=Actor("a person"))
    assert not await seed(saver_for(kept, bundle_folder, "demo", "one"))
    await seed(saver_for(kept, bundle_folder, "clip", "two"))
    assert [version.name for version in await kept.versions.shown("classifier")] == [
        "facial_attributes",
        "gore",
        "nudity",
    ]
    assert await kept.versions.shown("policy") == ()
    ours = shipped("demo").classifiers["offensive"]
    saver = saver_for(kept, bundle_folder, "demo", "one")
    await saver.save("offensive", ours, activate=True, actor=Actor("a person"))
    await seed(saver_for(kept, bundle_folder, "clip", "two"))
    assert is_set(await active(kept, "classifier", "offensive", "two"), "clip"), (
        "saved again as it was, it follows again"
    )


async def test_drafts_alone_are_somebodys(kept: Store, bundle_folder: Path) -> None:
    saver = saver_for(kept, bundle_folder, "demo", "one")
    body = shipped("demo").classifiers["gore"].model_copy(update={"description": "ours"})
    await saver.save("gore", body, activate=False, actor=Actor("a person"))
    await seed(saver)
    assert [version.active for version in await kept.versions.history("classifier", "gore")] == [False]


async def test_a_draft_beside_ours_survives(kept: Store, bundle_folder: Path) -> None:
    await seed(saver_for(kept, bundle_folder, "demo", "one"))
    before = await active(kept, "classifier", "gore")
    await kept.seen_by("one").save(
        "classifier",
        "gore",
        {**before.body, "description": "draft"},
        pins={},
        activate=False,
        actor=Actor("a person"),
    )
    await seed(saver_for(kept, bundle_folder, "clip", "two"))
    versions = await kept.seen_by("two").history("classifier", "gore")
    assert [(version.number, version.active) for version in versions] == [(3, True), (2, False), (1, False)]
    assert versions[1].body["description"] == "draft"


async def test_gateways_that_start_at_once_save_everything_once(kept: Store, bundle_folder: Path) -> None:
    savers = [saver_for(kept, bundle_folder, "demo", "one") for _ in range(4)]
    await asyncio.gather(*(seed(saver) for saver in savers))
    for name in NAMES:
        assert len(await kept.versions.history("classifier", name)) == 1
    assert len(await kept.versions.history("policy", "default")) == 1
    savers = [saver_for(kept, bundle_folder, "clip", "two") for _ in range(4)]
    await asyncio.gather(*(seed(saver) for saver in savers))
    policy = await active(kept, "policy", "default", "two")
    assert policy.pins == {"gore": 2, "nudity": 2, "offensive": 2}
    assert [len(await kept.versions.history("classifier", name)) for name in NAMES] == [2, 2, 2, 2]


async def test_one_gateway_at_a_time_seeds_and_asks_for_texts(kept: Store, bundle_folder: Path) -> None:
    encoders = [FakeEncoder() for _ in range(4)]
    for encoder in encoders:
        encoder.delay_s = 0.2
    savers = [saver_for(kept, bundle_folder, "demo", "one", encoder) for encoder in encoders]
    own = [Leases(kept.database) for _ in savers]
    got = await asyncio.gather(*map(seed_alone, savers, own), return_exceptions=True)
    assert sorted(type(result).__name__ for result in got) == ["ModelUnavailable"] * 3 + ["bool"]
    assert sum(bool(encoder.text_calls) for encoder in encoders) == 1
    # The others come back when it is done, and find nothing to do.
    first = next(index for index, encoder in enumerate(encoders) if encoder.text_calls)
    for index in set(range(4)) - {first}:
        assert await seed_alone(savers[index], own[index]) is False


async def test_a_gateway_whose_seeding_failed_leaves_it_to_the_next(kept: Store, bundle_folder: Path) -> None:
    class Away(FakeEncoder):
        async def encode_texts(self, input_ids: Any, deadline: Deadline) -> Any:
            raise ModelUnavailable("away", retry_after_s=1)

    with pytest.raises(ModelUnavailable, match="away"):
        await seed_alone(saver_for(kept, bundle_folder, "demo", "one", Away()), Leases(kept.database))
    assert await seed_alone(saver_for(kept, bundle_folder, "demo", "one"), Leases(kept.database))


async def test_an_edit_in_the_same_moment_is_not_overwritten(kept: Store, bundle_folder: Path) -> None:
    await seed(saver_for(kept, bundle_folder, "demo", "one"))

    class Meddled:
        """The versions, where a person saves right before the seed does."""

        done = False

        def __getattr__(self, name: str) -> Any:
            return getattr(kept.seen_by("one"), name)

        async def save(self, kind: Kind, name: str, body: dict[str, Any], **rest: Any) -> Any:
            if (kind, name) == ("classifier", "gore") and not self.done:
                self.done = True
                await edit(kept, "classifier", "gore", description="ours")
            return await kept.seen_by("one").save(kind, name, body, **rest)

    meddled: Any = Meddled()
    await seed(saver_for(meddled, bundle_folder, "clip", "one"))
    assert (await active(kept, "classifier", "gore")).body["description"] == "ours"


async def test_what_is_away_is_told_and_nothing_is_half_done(kept: Store, bundle_folder: Path) -> None:
    encoder = FakeEncoder()
    encoder.failure = ModelUnavailable("away")
    with pytest.raises(ModelUnavailable):
        await seed(saver_for(kept, bundle_folder, "demo", "one", encoder))
    assert await kept.versions.shown("classifier") == ()

    class Away:
        async def history(self, kind: Kind, name: str) -> tuple[Version, ...]:
            raise StoreUnavailable(f"{kind} {name}")

    away: Any = Away()
    with pytest.raises(StoreUnavailable):
        await seed(saver_for(away, bundle_folder, "demo", "one"))


async def test_words_that_the_model_cannot_take_stop_nothing(kept: Store, tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "small", context_length=16)
    text = TextEmbeddings(
        Tokenizer(tmp_path / "small" / "tokenizer.json", manifest.text),
        FakeEncoder(),
        TextLimits(1 << 20, 2000, 2000, 64),
        RULES,
        lambda *_: None,
    )
    assert not await seed(
        Saver(kept.versions, Catalog(kept.versions, text, manifest, RULES), text, manifest, RULES, 30)
    )
    assert await kept.versions.shown("policy") == ()


async def test_what_was_once_shipped_is_brought_up_to_date(
    kept: Store, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seed(saver_for(kept, bundle_folder, "demo", "one"))
    old = await edit(kept, "policy", "default", description="as version 0.0 shipped it")
    assert not await seed(saver_for(kept, bundle_folder, "demo", "one")), "unknown, so somebody's"
    known = frozenset({fingerprint(Policy.model_validate(old.body))})
    monkeypatch.setattr(seeding, "former", lambda: known)
    assert await seed(saver_for(kept, bundle_folder, "demo", "one"))
    assert is_set(await active(kept, "policy", "default"), "demo")


def test_the_set_follows_the_manifest(bundle_folder: Path) -> None:
    manifest: Manifest = write_bundle(bundle_folder)
    assert set_for(manifest) == "demo"
    assert set_for(replace(manifest, model=replace(manifest.model, demo=False))) == "clip"
