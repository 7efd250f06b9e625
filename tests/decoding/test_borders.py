"""Bars around an image: where they are found, what they are not, and the view that the model gets without them."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gateway.decoding.borders import content_box
from gateway.decoding.downscale import Box
from gateway.decoding.views import ViewRule, cut_views, most_views
from scripts.measure_borders import overlap, with_bars
from tests.support import awkward_images as make
from tests.support.drawings import shape

SIDES = (48, 72, 224)


def scenery(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return something like a photograph: blots of all sizes and colours, no plain ground."""
    rng = np.random.default_rng(seed)
    made = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(made)
    for _ in range(40):
        x, y, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.01, 0.08) * width
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return made


def found_in(picture: Image.Image, side: int = 72) -> Box | None:
    square = picture.resize((side, side), Image.Resampling.BICUBIC)
    return content_box(np.asarray(square), *picture.size)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ["black", "white", "coloured", "frame", "blurred"])
def test_bars_are_found_and_nothing_of_them_is_left(kind: str, side: int) -> None:
    rng = np.random.default_rng(7)
    for seed in range(12):
        barred, box = with_bars(scenery(*((400, 300) if seed % 2 else (300, 400)), seed), kind, rng)
        found = found_in(barred, side)
        assert overlap(found, box) > 0.85
        assert found is not None
        slack = max(barred.size) / min(side, 72)
        assert all(abs(mine - true) <= 2 * slack for mine, true in zip(found, box, strict=True))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "GIF"])
def test_bars_survive_compression(form: str) -> None:
    barred, box = with_bars(scenery(320, 180), "black", np.random.default_rng(1))
    with Image.open(make_file(barred, form)) as saved:
        assert overlap(found_in(saved.convert("RGB")), box) > 0.9


def make_file(picture: Image.Image, form: str) -> io.BytesIO:
    return io.BytesIO(make.encode(picture, form, **({} if form in {"PNG", "GIF"} else {"quality": 60})))


def test_bars_of_unequal_width_are_found() -> None:
    whole = Image.new("RGB", (400, 400), (10, 10, 10))
    whole.paste(scenery(400, 240), (0, 40))
    assert overlap(found_in(whole), (0, 40, 400, 280)) > 0.95


@pytest.mark.parametrize("background", ["white", "black", "#3060a0"])
def test_things_on_a_plain_ground_have_no_bars(background: str) -> None:
    for name in ("a red circle", "a green star", "a yellow triangle"):
        for size in ((240, 240), (400, 200), (200, 400)):
            assert found_in(shape(name, size, background)) is None


def test_what_has_no_content_or_no_bars_is_left_alone() -> None:
    assert found_in(Image.new("RGB", (300, 200), "black")) is None
    for seed, size in itertools.product(range(10), ((400, 300), (300, 400))):
        assert found_in(scenery(*size, seed)) is None
    sky = Image.new("RGB", (300, 300), "#80b0f0")
    sky.paste(scenery(300, 150), (0, 150))
    assert found_in(sky) is None, "one side alone is no pair of bars"
    hair = scenery(300, 300)
    ImageDraw.Draw(hair).rectangle((0, 0, 299, 299), outline="black", width=2)
    assert found_in(hair) is None, "a hairline is not worth a view"


@pytest.mark.parametrize("rule", ["full", "tiles", "center"])
def test_the_content_is_a_view_more_and_not_of_center(rule: ViewRule) -> None:
    picture = scenery(320, 180)
    whole = Image.new("RGB", (320, 400))
    whole.paste(picture, (0, 110))
    views = {view.name: view for view in cut_views(whole, rule, size_px=72, resize_px=72)}
    assert ("content" in views) is (rule != "center")
    assert len(views) <= most_views(frozenset({rule}), 320, 400)
    if "content" in views:
        left, top, right, bottom = views["content"].box
        assert (left, right) == (0, 320)
        assert 110 <= top <= 116
        assert 284 <= bottom <= 290
        expected = np.asarray(picture.resize((72, 72), Image.Resampling.BICUBIC)).astype(float)
        assert np.abs(views["content"].pixels - expected).mean() < 12
