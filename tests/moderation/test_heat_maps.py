"""Heat maps: they point at what drove a score, their memory is accounted for, and their failure changes no verdict."""

from __future__ import annotations

import asyncio
import base64
import io
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from gateway.decoding.occlusion import covered, heat_map
from gateway.decoding.views import Place
from gateway.errors import ModelUnavailable
from gateway.inference.triton import Vectors
from gateway.limits.deadline import Deadline
from gateway.limits.memory_budget import MemoryBudget
from gateway.pipeline import VIEW_BYTES
from gateway.store.lists import HashList
from tests.moderation.test_verdicts import bound
from tests.support.in_process_app import Web, ask, is_problem, png
from tests.support.moderator_parts import (
    GREEN,
    MAP_GRID,
    RED,
    SIDE_PX,
    Parts,
    parts_on,
    picture,
    sha256,
)
from tests.support.stores import opened
from tests.support.waiting import UNTIL_S

pytest_plugins = ["tests.support.store_fixtures"]

TILES = bound(views="tiles")
NO_MAP = "heatmap_unavailable"


@pytest.fixture
async def parts(tmp_path: Path, empty_sqlite: Path) -> AsyncIterator[Parts]:
    path = shutil.copy(empty_sqlite, tmp_path)
    with ThreadPoolExecutor(2) as threads:
        async with opened(f"sqlite:///{path}", UNTIL_S) as store:
            yield await parts_on(store, threads, None, loaded=True)


@pytest.mark.parametrize(("colors", "left"), [((GREEN, RED), 0), ((RED, GREEN), SIDE_PX)])
async def test_the_box_is_where_the_reason_is(parts: Parts, colors: Any, left: int) -> None:
    (item,) = await parts.moderate(picture(*colors), policy=bound(views="full"), heatmap=True)
    heat = item.outcome.heat
    assert heat is not None
    assert item.verdict is not None
    assert (heat.of, heat.place) == ("gore", item.verdict.categories[0].evidence[0].place)
    assert heat.drops.shape == (MAP_GRID, MAP_GRID)
    assert left <= (heat.box[0] + heat.box[2]) / 2 < left + SIDE_PX
    shown = np.asarray(Image.open(io.BytesIO(heat.png)))
    green, red = np.split(shown[..., 3].astype(int), 2, axis=1)[:: 1 if left == 0 else -1]
    assert green.mean() > 2 * red.mean()
    assert NO_MAP not in item.verdict.warnings


async def test_the_frame_that_drove_the_score_is_explained(parts: Parts) -> None:
    frames = [Image.open(io.BytesIO(picture(*colors))) for colors in ((RED, RED), (RED, RED), (RED, GREEN))]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=100)
    (item,) = await parts.moderate(out.getvalue(), policy=bound(views="full"), heatmap=True)
    assert item.outcome.heat is not None
    assert item.outcome.heat.place.frame_ms is not None
    assert item.outcome.heat.box[0] >= SIDE_PX / 2


async def test_where_every_patch_says_the_same_the_answer_says_that_there_is_no_map(parts: Parts) -> None:
    (item,) = await parts.moderate(picture(GREEN), policy=bound(views="full"), heatmap=True)
    assert item.outcome.heat is None
    assert item.verdict is not None
    assert (item.verdict.decision, item.verdict.warnings) == ("block", (NO_MAP,))


async def test_an_image_on_a_list_has_no_map_and_no_warning(parts: Parts) -> None:
    listed = picture(RED, GREEN)
    await parts.put_list(HashList("known", "block", "sha256", 0), sha256(listed))
    (item,) = await parts.moderate(listed, heatmap=True)
    assert item.outcome.heat is None
    assert item.verdict is not None
    assert item.verdict.warnings == ()


async def test_without_the_question_no_map_is_made(parts: Parts) -> None:
    (item,) = await parts.moderate(picture(RED, GREEN), policy=TILES)
    assert item.outcome.heat is None
    assert parts.encoder.image_calls == 1


class FailingMaps:
    """An encoder that answers once, and then never, or with an error."""

    def __init__(self, parts: Parts, *, hangs: bool) -> None:
        self._encoder, self._hangs, self._calls = parts.encoder, hangs, 0

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        self._calls += 1
        if self._calls == 1:
            return await self._encoder.encode_images(pixels, deadline)
        if self._hangs:
            async with deadline.enforced():
                await asyncio.Event().wait()
        raise ModelUnavailable("gone")


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_map_that_fails_leaves_the_verdict_as_it_is_and_logged(parts: Parts, *, hangs: bool) -> None:
    shown = picture(RED, GREEN)
    (before,) = await parts.moderate(shown, policy=TILES)
    encoder = FailingMaps(parts, hangs=hangs)
    parts.pipeline = replace(
        parts.pipeline,
        encoder=encoder,  # type: ignore[arg-type]  # texts are not asked for
        explainer=replace(parts.pipeline.explainer, encoder=encoder),  # type: ignore[arg-type]
    )
    (after,) = await parts.moderate(shown, policy=TILES, heatmap=True, within_s=4)
    assert before.verdict is not None
    assert after.verdict is not None
    assert after.outcome.heat is None
    assert after.verdict.warnings == (*before.verdict.warnings, NO_MAP)
    assert after.verdict.categories == before.verdict.categories
    assert [row.decision for row in await parts.rows()] == [before.verdict.decision] * 2


class Recording(MemoryBudget):
    """A budget that remembers what was taken."""

    def __init__(self) -> None:
        super().__init__(1 << 30)
        self.taken: list[int] = []
        self.left = 0

    async def take(self, count: int) -> int:
        self.taken.append(count)
        self.left += count
        return await super().take(count)

    def give(self, count: int) -> None:
        self.left -= count
        super().give(count)


async def test_what_is_made_for_a_map_is_held_as_memory_of_views(parts: Parts) -> None:
    """All rows of one inference of the map beside the view's own."""
    budget = Recording()
    parts.pipeline = replace(parts.pipeline, budgets=replace(parts.pipeline.budgets, views=budget))
    most = 0
    encode = parts.encoder.encode_images

    async def counted(pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        nonlocal most
        most = max(most, len(pixels))
        assert budget.left >= len(pixels) * pixels[0].size // 3 * VIEW_BYTES
        return await encode(pixels, deadline)

    parts.encoder.encode_images = counted  # type: ignore[method-assign]
    (item,) = await parts.moderate(picture(RED, GREEN), policy=bound(views="full"), heatmap=True)
    assert item.outcome.heat is not None
    assert most == MAP_GRID**2
    assert budget.left == 0


def test_patches_cover_the_view_once() -> None:
    view = np.arange(10 * 10 * 3, dtype=np.uint8).reshape(10, 10, 3)
    rows = np.concatenate([covered(view, 3, first, 4) for first in (0, 4, 8)])
    assert len(rows) == 9
    mean = view.reshape(-1, 3).mean(axis=0).round()
    assert ((rows != view).any(axis=-1).sum(axis=0) + (view == mean).all(axis=-1) == 1).all()


def test_where_no_patch_matters_there_is_no_map() -> None:
    place = Place("full", (0, 0, 90, 30), None)
    assert heat_map("gore", place, 0.5, np.full(9, 0.6, np.float32)) is None


def test_the_box_lies_within_the_view_that_was_covered() -> None:
    scores = np.full(9, 0.9, np.float32)
    scores[2] = 0.1
    heat = heat_map("gore", Place("tile 2", (100, 10, 190, 40), None), 0.9, scores)
    assert heat is not None
    left, top, right, bottom = heat.box
    assert (right, top) == (190, 10)
    assert 145 <= left < 160
    assert 20 <= bottom < 25


LABELS = ["cat", "dog"]


def test_classify_answers_with_a_map_only_where_it_is_asked_for(web: Web) -> None:
    (plain,) = ask(web, png()).json()["results"]
    assert "heatmap" not in plain
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)).save(noise, "PNG")
    for label in LABELS:
        answer = ask(web, noise.getvalue(), include=["heatmap"], heatmap_of=label)
        (result,) = answer.json()["results"]
        heat = result["heatmap"]
        assert (heat["label"], heat["view"], heat["view_box"]) == (label, "center", [0, 0, 64, 64])
        assert (len(heat["grid"]), len(heat["grid"][0])) == (6, 6)
        assert Image.open(io.BytesIO(base64.b64decode(heat["png"]))).mode == "RGBA"


def test_more_maps_than_a_request_has_inferences_are_refused_before_work(web: Web) -> None:
    calls = web.encoder.image_calls
    answer = ask(web, *[png()] * 4, include=["heatmap"])
    is_problem(answer, 422, "invalid_request")
    assert "144 inferences" in answer.json()["detail"]
    assert web.encoder.image_calls == calls


def test_a_label_that_is_not_there_cannot_be_explained(web: Web) -> None:
    is_problem(ask(web, include=["heatmap"], heatmap_of="bird"), 422, "invalid_request")
