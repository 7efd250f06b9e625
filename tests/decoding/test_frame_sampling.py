"""Which frames of an animation are looked at: what is long on screen, what changes, and nothing foreseeable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.decoding.decoder import DecodeLimits, inspect, open_image
from gateway.decoding.frame_sampling import FrameSampler, Thumbnail
from tests.support import awkward_images as make

BLANK: Thumbnail = np.zeros((16, 16, 3), np.float32)
LIMITS = DecodeLimits()


def grey(level: float) -> Thumbnail:
    return BLANK + np.float32(level)


def looked_at(
    durations_ms: list[int], most: int, seed: int, thumbnails: dict[int, Thumbnail] | None = None
) -> set[int]:
    """Return the frames that are looked at in the end; those without a thumbnail of their own are alike."""
    sampler = FrameSampler(durations_ms, most, seed)
    kept: set[int] = set()
    shown = thumbnails or {}
    for index in range(sampler.last + 1):
        seen = shown.get(index, BLANK)
        wanted, instead_of = sampler.choose(index, seen.copy)
        kept = kept - {instead_of} | ({index} if wanted else set())
        assert sampler.chosen == len(kept) <= most
    return kept


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=200), st.integers(3, 20), st.integers(0, 2**256))
@settings(max_examples=300, deadline=None)
def test_first_last_and_all_that_is_long_on_screen_are_looked_at(durations: list[int], most: int, seed: int) -> None:
    chosen = looked_at(durations, most, seed)
    assert {0, len(durations) - 1} <= chosen
    assert {at for at, shown in enumerate(durations) if shown * (most - 1) > sum(durations)} <= chosen
    assert chosen == looked_at(durations, most, seed)
    if len(durations) <= most:
        assert len(chosen) == len(durations)


@pytest.mark.parametrize("most", [1, 2])
def test_one_or_two_frames_are_chosen_where_there_may_be_no_more(most: int) -> None:
    chosen = [looked_at([100] * 9, most, seed) for seed in range(200)]
    assert {len(one) for one in chosen} == {most}
    assert set().union(*chosen) == (set(range(9)) if most == 1 else {0, 8})


def test_no_frame_is_safe_from_being_looked_at() -> None:
    assert set().union(*(looked_at([100] * 60, 16, seed) for seed in range(300))) == set(range(60))


def test_a_scene_of_two_sevenths_of_the_time_is_looked_at_however_short_its_frames_are() -> None:
    """Half of the 14 frames between first and last are drawn from equal stretches of the time."""
    durations = [2000, *[20] * 100, 400, *[20] * 40, 500]
    for seed in range(50):
        assert looked_at(durations, 16, seed) & set(range(1, 101))


def test_the_one_frame_that_differs_is_looked_at() -> None:
    for seed, at in enumerate(range(1, 499, 12)):
        assert at in looked_at([20] * 500, 16, seed, {at: grey(40)})


def test_a_new_scene_is_looked_at_once_and_leaves_room_for_the_others() -> None:
    scenes = {index: grey(15 * (index // 30)) for index in range(210)}
    for seed in range(50):
        chosen = looked_at([40] * 210, 16, seed, scenes)
        assert {index // 30 for index in chosen} == set(range(7))


def test_which_of_many_changes_are_looked_at_cannot_be_foreseen() -> None:
    """A flicker of 80 frames that differ as much as the one that matters."""
    rng = np.random.default_rng(5)
    flicker = {index: rng.uniform(0, 255, (16, 16, 3)).astype(np.float32) for index in range(80)}
    chosen = [looked_at([40] * 80, 16, seed, flicker) for seed in range(100)]
    assert set().union(*chosen) == set(range(80))


def saved(kind: str, durations_ms: list[int], *, different: int | None = None, **options: Any) -> bytes:
    """Return an animation of noise that never stands still, one frame of which may be bright."""
    frames = []
    for index in range(len(durations_ms)):
        samples = make.noise(96, 64, seed=3) // 4 + np.uint8(index)
        frames.append(Image.fromarray(samples + np.uint8(150) * (index == different)))
    lossless = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    return make.encode(
        frames[0],
        kind,
        save_all=True,
        append_images=frames[1:],
        duration=durations_ms,
        loop=0,
        disposal=0,
        **{**lossless, **options},
    )


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_headers_say_how_long_browsers_show_each_frame(kind: str) -> None:
    durations = [0, 10, 20, 500, 70, 5000]
    header = inspect(saved(kind, durations), LIMITS)
    assert header.durations_ms == (100, 100, 20, 500, 70, 5000)
    with open_image(saved(kind, durations), LIMITS, seed=1) as image:
        assert [frame.time_ms for frame in image.frames()] == [0, 100, 200, 220, 720, 790]


def test_the_still_beside_an_animation_takes_none_of_its_time() -> None:
    data = saved("PNG", [100, 200, 300], default_image=True)
    header = inspect(data, LIMITS)
    assert (header.frames, header.durations_ms) == (3, (0, 100, 200))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_what_differs_or_stays_is_found_in_every_format(kind: str) -> None:
    durations = [40] * 30
    durations[17] = 1000
    for different in (5, 17, 22):
        data = saved(kind, durations, different=different)
        for seed in range(3):
            with open_image(data, DecodeLimits(sampled_frames=5), seed=seed) as image:
                seen: dict[int, float] = {}
                for frame in image.frames():
                    seen.pop(-1 if frame.instead_of is None else frame.instead_of, None)
                    seen[frame.index] = float(np.asarray(frame.rgb).mean())
                assert image.info.frames_analyzed == len(seen) <= 5
            assert {0, 17, 29} <= seen.keys()
            assert different in seen
            assert seen[different] > 150
