"""Images and a policy → verdicts and rows of the log, over the real steps of an image and a real SQLite store."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gateway.decoding.decoder import ImageInfo
from gateway.decoding.pdq import PerceptualHash, PerceptualHasher
from gateway.decoding.preprocess import PreprocessedImage
from gateway.decoding.views import Place
from gateway.errors import ModelUnavailable, StorageUnavailable
from gateway.hash_matching.matcher import HashMatcher
from gateway.moderation.moderator import Moderated, decision_id, matches
from gateway.pipeline import ImageOutcome, Pipeline
from gateway.store.lists import HashList
from tests.moderation.test_verdicts import bound
from tests.support.log_lines import collected
from tests.support.moderator_parts import (
    GREEN,
    KEEP_ALL,
    RED,
    SIDE_PX,
    YELLOW,
    Parts,
    animation,
    by_color,
    parts_on,
    picture,
    sha256,
)
from tests.support.stores import opened
from tests.support.waiting import UNTIL_S

pytest_plugins = ["tests.support.store_fixtures"]

BLOCKED_SHA, NEAR_PDQ = "ab" * 32, "cd" * 32
Make = Callable[..., Any]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.fixture
def make(tmp_path: Path, empty_sqlite: Path, threads: ThreadPoolExecutor) -> Make:
    """How to make the parts, with a hasher or without, with the lists read or not yet."""

    @asynccontextmanager
    async def made(hasher: PerceptualHasher | None = by_color, *, loaded: bool = True) -> AsyncIterator[Parts]:
        path = shutil.copy(empty_sqlite, tmp_path)
        async with opened(f"sqlite:///{path}", UNTIL_S) as store:
            yield await parts_on(store, threads, hasher, loaded=loaded)

    return made


@pytest.fixture
async def parts(make: Make) -> AsyncIterator[Parts]:
    async with make() as made:
        yield made


def decisions(moderated: Sequence[Moderated]) -> list[str | None]:
    return [item.verdict.decision if item.verdict else None for item in moderated]


async def test_each_image_is_decided_by_itself_and_a_failed_one_not_at_all(parts: Parts) -> None:
    moderated = await parts.moderate(picture(RED), b"nothing", picture(GREEN), picture(YELLOW))
    assert decisions(moderated) == ["allow", None, "block", "review"]
    scores = [item.verdict.categories[0].score for item in moderated if item.verdict]
    assert scores == pytest.approx([0.25, 0.75, 0.5])
    assert [item.outcome.id for item in moderated] == ["image-0", "image-1", "image-2", "image-3"]
    assert [item.outcome.error is None for item in moderated] == [True, False, True, True]
    assert [item.shadow for item in moderated] == [None] * 4
    assert (moderated[1].decision_id, len(await parts.rows())) == (None, 3)
    assert all("score" in item.outcome.elapsed_s for item in moderated if item.verdict)
    assert all(item.outcome.elapsed_s["score"] < UNTIL_S for item in moderated if item.verdict)


async def test_where_every_image_fails_nothing_is_logged_nor_missed(parts: Parts) -> None:
    parts.encoder.failure = ModelUnavailable("down")
    parts.store_lost = True
    (item,) = await parts.moderate(picture(RED), rules=replace(KEEP_ALL, required=True))
    assert (item.verdict, item.shadow, item.decision_id) == (None, None, None)
    assert isinstance(item.outcome.error, ModelUnavailable)


async def test_a_shadow_is_judged_over_its_own_views_and_logged_beside(parts: Parts) -> None:
    """The centre is red and the rest green: 2 of 3."""
    shadow = bound(name="other", version=2, views="full", rules=bound().rules)
    (item,) = await parts.moderate(picture(GREEN, RED, GREEN), shadow=shadow)
    assert item.verdict is not None
    assert item.shadow is not None
    assert (item.verdict.decision, item.shadow.decision) == ("allow", "review")
    assert item.shadow.policy is shadow
    prepared_image = item.outcome.prepared or pytest.fail("it failed")
    assert {place.view for place in prepared_image.places} == {"center", "full", "content"}
    (row,) = await parts.rows()
    assert (row.decision, row.policy) == ("allow", "strict")
    assert row.detail["shadow"]["policy"]["name"] == "other"
    assert row.detail["shadow"]["decision"] == "review"
    (alone,) = await parts.moderate(picture(GREEN, RED, GREEN))
    assert {place.view for place in (alone.outcome.prepared or pytest.fail("it failed")).places} == {"center"}


async def test_until_the_lists_are_read_nothing_is_decided(make: Make) -> None:
    async with make(loaded=False) as parts:
        with pytest.raises(StorageUnavailable) as refused:
            await parts.moderate(picture(RED))
        assert str(refused.value) == "The lists of known images are not loaded yet; nothing was decided."
        assert refused.value.retry_after_s == 1
        assert parts.encoder.image_calls == 0
        await parts.lists.refresh()
        assert decisions(await parts.moderate(picture(RED))) == ["allow"]


async def test_an_image_on_a_list_is_decided_by_it_alone(parts: Parts) -> None:
    known, other = picture(RED), picture(GREEN)
    await parts.put_list(HashList("bad", "block", "sha256", 0), sha256(known))
    await parts.put_list(HashList("fine", "allow", "sha256", 0), sha256(other))
    shadow = bound(name="other")
    for given in (None, shadow):
        moderated = await parts.moderate(known, other, shadow=given)
        assert decisions(moderated) == ["block", "allow"]
        assert [item.verdict and item.verdict.categories[0].category for item in moderated] == ["list:bad", "list:fine"]
        assert [item.shadow and (item.shadow.policy.name, item.shadow.decision) for item in moderated] == (
            [("other", "block"), ("other", "allow")] if given else [None, None]
        )
    assert parts.encoder.image_calls == 0
    rows = await parts.rows()
    assert {row.decision for row in rows} == {"block", "allow"}
    assert [(row.vectors, row.detail["places"]) for row in rows] == [(None, [])] * 4, "there are no vectors to keep"
    assert parts.lists.current.lists
    assert decisions(await parts.moderate(picture(YELLOW))) == ["review"], "on no list"


async def test_any_frame_that_a_list_knows_by_sight_decides(parts: Parts) -> None:
    await parts.put_list(HashList("seen", "block", "pdq", 0), by_color(Image.new("RGB", (1, 1), GREEN)).hex)
    moderated = await parts.moderate(animation(RED, GREEN, RED), picture(RED))
    assert decisions(moderated) == ["block", "allow"]
    assert parts.encoder.image_calls == 1


@pytest.mark.parametrize("hasher", [None, by_color])
@pytest.mark.parametrize("kind", ["sha256", "pdq"])
@pytest.mark.parametrize("entries", [(), ("00" * 32,)])
async def test_who_cannot_ask_a_list_by_sight_is_warned(
    make: Make, hasher: PerceptualHasher | None, kind: Any, entries: tuple[str, ...]
) -> None:
    async with make(hasher) as parts:
        await parts.put_list(HashList("fine", "block", "sha256", 0), "11" * 32)
        await parts.put_list(HashList("seen", "block", kind, 0), *entries)
        (item,) = await parts.moderate(picture(GREEN), policy=bound(views="center", uncalibrated=True), shadow=bound())
        assert item.verdict is not None
        missed = hasher is None and kind == "pdq" and bool(entries)
        assert item.verdict.warnings == ("uncalibrated",) + ("perceptual_lists_not_asked",) * missed
        assert item.verdict.decision == "block"
        assert item.shadow is not None
        assert item.shadow.warnings == ("perceptual_lists_not_asked",) * missed


@pytest.mark.parametrize("frames", [1, 3, 4])
async def test_who_was_not_shown_every_frame_is_warned(parts: Parts, frames: int) -> None:
    images = animation(*([RED, GREEN] * 2)[:frames])
    (item,) = await parts.moderate(images, policy=bound(views="center", uncalibrated=True), shadow=bound())
    assert item.verdict is not None
    assert item.verdict.warnings == ("uncalibrated",) + ("frames_sampled",) * (frames > 3)
    (row,) = await parts.rows()
    assert row.detail["warnings"] == list(item.verdict.warnings)


async def test_the_log_says_what_was_decided_about_which_image(parts: Parts) -> None:
    image = animation(RED, GREEN, YELLOW)
    before = datetime.now(UTC)
    (item,) = await parts.moderate(image, policy=bound(attributes=("scenes@3",), views="center"))
    after = datetime.now(UTC)
    (row,) = await parts.rows()
    assert item.verdict is not None
    assert item.outcome.prepared is not None
    assert item.outcome.vectors is not None
    assert row.id == item.decision_id
    assert before <= row.at <= after
    assert row.id.startswith(decision_id(row.at)[:12])
    assert (row.request_id, row.external_id, row.detail["key"]) == ("request-1", "user-1", "key-1")
    assert row.image_sha256 == sha256(image)
    assert row.image_pdq == by_color(Image.new("RGB", (1, 1), GREEN)).hex, "of the frame with most structure"
    assert (row.policy, row.policy_version, row.bundle_id) == ("strict", 7, "bundle-1")
    assert row.decision == "block"
    assert row.categories == pytest.approx({"gore": 0.75})
    assert row.detail["decision"] == "block"
    assert row.detail["policy"] == {"name": "strict", "version": 7, "classifiers": {"scenes": 3}}
    assert row.detail["shadow"] is None
    assert set(row.detail["attributes"]) == {"scenes"}
    assert [place["view"] for place in row.detail["places"]] == ["center"] * 3
    assert row.detail["places"][0]["box"] == [0, 0, SIDE_PX, SIDE_PX]
    assert row.vectors is not None
    kept = np.frombuffer(row.vectors, "<f4").reshape(3, 2)
    assert np.array_equal(kept, item.outcome.vectors)


async def test_ids_of_one_request_differ(parts: Parts) -> None:
    moderated = await parts.moderate(picture(RED), picture(GREEN), picture(RED))
    rows = {row.id: row for row in await parts.rows()}
    assert len({item.decision_id for item in moderated}) == 3
    assert [rows[item.decision_id or ""].decision for item in moderated] == ["allow", "block", "allow"]


async def test_vectors_and_where_they_are_from_are_kept_only_where_asked(parts: Parts) -> None:
    (item,) = await parts.moderate(picture(GREEN), rules=replace(KEEP_ALL, vectors=False))
    assert item.decision_id
    (row,) = await parts.rows()
    assert (row.vectors, row.detail["places"]) == (None, [])


async def test_without_a_hasher_the_log_has_no_perceptual_hash(make: Make) -> None:
    async with make(None) as parts:
        await parts.moderate(picture(GREEN))
        (row,) = await parts.rows()
        assert row.image_pdq is None


async def test_a_log_that_is_off_is_not_written(parts: Parts) -> None:
    moderated = await parts.moderate(picture(GREEN), rules=replace(KEEP_ALL, enabled=False, required=True))
    assert decisions(moderated) == ["block"]
    assert moderated[0].decision_id is None
    assert moderated[0].verdict is not None
    assert moderated[0].verdict.warnings == ()
    assert await parts.rows() == []


@pytest.mark.parametrize("required", [False, True])
async def test_what_cannot_be_logged_is_warned_of_or_not_decided(parts: Parts, *, required: bool) -> None:
    parts.store_lost = True
    images = (picture(GREEN), b"nothing", picture(RED))
    warns = bound(views="center", uncalibrated=True)
    with collected() as lines:
        if required:
            with pytest.raises(StorageUnavailable) as refused:
                await parts.moderate(*images, policy=warns, rules=replace(KEEP_ALL, required=True))
            assert str(refused.value) == "The decision could not be logged and must be; nothing was decided."
        else:
            moderated = await parts.moderate(*images, policy=warns, shadow=warns)
            assert decisions(moderated) == ["block", None, "allow"]
            assert [item.decision_id for item in moderated] == [None] * 3
            assert [item.verdict and item.verdict.warnings for item in moderated] == [
                ("uncalibrated", "decision_not_logged"),
                None,
                ("uncalibrated", "decision_not_logged"),
            ]
            assert [item.shadow and item.shadow.warnings for item in moderated] == [
                ("uncalibrated",),
                None,
                ("uncalibrated",),
            ]
    assert lines == [{"logger": "moderation", "level": "warning", "event": "decisions not logged", "count": 2}]
    assert await parts.rows() == []


class WithoutVectors(Pipeline):
    """A bug of the steps before the verdict, which no image can stage."""

    async def run(self, *given: Any, **named: Any) -> list[ImageOutcome]:
        return [replace(outcome, vectors=None) for outcome in await super().run(*given, **named)]


async def test_an_image_that_nobody_looked_at_has_no_verdict(parts: Parts) -> None:
    parts.pipeline = WithoutVectors(**{one.name: getattr(parts.pipeline, one.name) for one in fields(Pipeline)})
    with pytest.raises(ValueError, match=r"^an image without a match and without vectors has no verdict$"):
        await parts.moderate(picture(RED))


def prepared(sha: str, *prints: PerceptualHash) -> PreprocessedImage:
    place = Place("center", (0, 0, 1, 1), None)
    return PreprocessedImage(ImageInfo(sha, "png", 1, 1, 1, 1), (place,), np.zeros((1, 1, 1, 3), np.uint8), prints)


def test_lists_match_by_bytes_and_by_any_frame_each_list_once() -> None:
    near, nearer = "f" + NEAR_PDQ[1:], "d" + NEAR_PDQ[1:]  # "c" with two bits and with one bit changed
    matcher = (
        HashMatcher()
        .with_list(HashList("bytes", "block", "sha256", 0), [BLOCKED_SHA])
        .with_list(HashList("sight", "block", "pdq", 4), [NEAR_PDQ])
        .with_list(HashList("other", "block", "pdq", 0), ["00" * 32])
    )
    good = {"near": PerceptualHash(near, 100), "nearer": PerceptualHash(nearer, 50)}
    unlike = PerceptualHash("5a" * 32, 100)

    def found(sha: str, *prints: PerceptualHash) -> list[tuple[str, int]]:
        return sorted((match.list, match.distance) for match in matches(matcher, prepared(sha, *prints)))

    assert found("00" * 32) == []
    assert found(BLOCKED_SHA) == [("bytes", 0)]
    assert found("11" * 32, unlike, good["near"]) == [("sight", 2)]
    assert found("11" * 32, good["nearer"], unlike) == [("sight", 1)]
    assert found("11" * 32, good["near"], good["nearer"]) == [("sight", 2)], "of the first frame that it knows"
    assert found(BLOCKED_SHA, good["near"], PerceptualHash("00" * 32, 100)) == [
        ("bytes", 0),
        ("other", 0),
        ("sight", 2),
    ]
    assert found("11" * 32, PerceptualHash(near, 49)) == [], "too little structure"
    assert found(BLOCKED_SHA, unlike) == [("bytes", 0)]


def test_an_id_begins_with_its_time_and_ends_at_random() -> None:
    """1.5 s after 1970 began is 1500 ms, 5dc in hexadecimal; ids sort as their times do."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    made = {decision_id(epoch + timedelta(seconds=1.5)) for _ in range(100)}
    assert len(made) == 100
    for one in made:
        assert one.startswith("0000000005dc")
        assert len(bytes.fromhex(one)) == 16
    assert decision_id(epoch + timedelta(milliseconds=1)) < decision_id(epoch + timedelta(days=20_000))
