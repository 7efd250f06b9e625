"""Views: nothing unseen, boxes that say where, and the reference's rounding."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.decoding.downscale import Scale
from gateway.decoding.views import MAX_TILES, cut_views, tile_boxes
from tests.support.awkward_images import noise

sides = st.integers(1, 10_000)

FINGERPRINT = "b9161de64851891f2e0055a94de4e66728a2081368bdff02adc3a4f2d253738b"


@given(sides, sides)
@settings(max_examples=500, deadline=None)
def test_tiles_cover_every_pixel(width: int, height: int) -> None:
    boxes = tile_boxes(width, height)
    short, long = sorted((width, height))
    if short == long:
        assert boxes == ()
        return
    assert 2 <= len(boxes) <= MAX_TILES
    spans = [(box[0], box[2]) if width > height else (box[1], box[3]) for box in boxes]
    across = [(box[1], box[3]) if width > height else (box[0], box[2]) for box in boxes]
    assert set(across) == {(0, short)}
    assert spans[0][0] == 0
    assert spans[-1][1] == long
    assert all(after[0] <= before[1] for before, after in pairwise(spans))
    assert len({end - start for start, end in spans}) == 1
    if long <= MAX_TILES * short:
        assert spans[0][1] - spans[0][0] == short  # squares, wherever squares suffice
    steps = [after[0] - before[0] for before, after in pairwise(spans)]
    assert max(steps) - min(steps) <= 1


@pytest.mark.parametrize("shape", [(640, 480), (480, 640), (1000, 600), (100, 300), (3200, 32)])
def test_neighbouring_tiles_overlap(shape: tuple[int, int]) -> None:
    axis = 0 if shape[0] > shape[1] else 1
    boxes = tile_boxes(*shape)
    for before, after in pairwise(boxes):
        assert before[axis + 2] - after[axis] >= 0.2 * (before[axis + 2] - before[axis])


@pytest.mark.parametrize(
    ("size", "starts", "length"),
    [
        # A quarter seen twice: of 100, each tile after the first shows at most 75 more.
        ((100, 101), [0, 1], 100),
        ((175, 100), [0, 75], 100),
        ((176, 100), [0, 38, 76], 100),
        ((250, 100), [0, 75, 150], 100),
        ((100, 325), [0, 75, 150, 225], 100),
        ((400, 100), [0, 75, 150, 225, 300], 100),
        ((401, 100), [0, 75, 150, 226, 301], 100),
        # From 4:1 to 5:1 five squares still suffice, with less seen twice.
        ((500, 100), [0, 100, 200, 300, 400], 100),
        # Beyond, five rectangles that overlap by a quarter are as long as all but four quarters: 5 - 4/4 = 4 to all.
        ((600, 100), [0, 112, 225, 338, 450], 150),
        ((100, 501), [0, 94, 188, 281, 375], 126),
        ((2, 1), [0, 0, 1], 1),
    ],
)
def test_where_tiles_lie(size: tuple[int, int], starts: list[int], length: int) -> None:
    lengthwise = [(start, start + length) for start in starts]
    if size[0] > size[1]:
        assert tile_boxes(*size) == tuple((start, 0, end, size[1]) for start, end in lengthwise)
    else:
        assert tile_boxes(*size) == tuple((0, start, size[0], end) for start, end in lengthwise)


def test_the_box_of_center_by_hand() -> None:
    """100 x 333 becomes 24 x 79; 16 in the middle of it begin at 4 and at 32 (31.5), each pixel 4.17 and 4.22 wide."""
    for size, box in (((100, 333), (16, 134, 84, 203)), ((333, 100), (134, 16, 203, 84))):
        (view,) = cut_views(Image.fromarray(noise(*size)), "center", size_px=16, resize_px=24)
        assert view.box == box


def test_at_most_five_tiles() -> None:
    assert max(len(tile_boxes(long, 100)) for long in range(100, 3000)) == 5


def test_names_and_boxes() -> None:
    views = cut_views(Image.fromarray(noise(96, 48)), "tiles", size_px=16, resize_px=16)
    assert [view.name for view in views] == ["full", "tile 1", "tile 2", "tile 3"]
    assert [view.box for view in views] == [(0, 0, 96, 48), (0, 0, 48, 48), (24, 0, 72, 48), (48, 0, 96, 48)]
    assert all(view.pixels.shape == (16, 16, 3) and view.pixels.dtype == np.uint8 for view in views)
    (center,) = cut_views(Image.fromarray(noise(96, 48)), "center", size_px=16, resize_px=16)
    assert (center.name, center.box) == ("center", (24, 0, 72, 48))


def test_a_tile_is_its_part_of_the_picture() -> None:
    picture = Image.fromarray(noise(96, 48))
    for view in cut_views(picture, "tiles", size_px=16, resize_px=16):
        alone = picture.crop(view.box).resize((16, 16), Image.Resampling.BICUBIC)
        assert np.array_equal(view.pixels, np.asarray(alone))


def test_every_corner_is_seen_by_full_and_tiles_but_not_by_center() -> None:
    pixels = np.zeros((64, 640, 3), np.uint8)
    pixels[:, :40] = 255
    picture = Image.fromarray(pixels)
    assert max(v.pixels.max() for v in cut_views(picture, "center", size_px=32, resize_px=32)) == 0
    assert cut_views(picture, "full", size_px=32, resize_px=32)[0].pixels.max() == 255


def bicubic(samples: npt.NDArray[np.uint8], length: int) -> npt.NDArray[np.uint8]:
    """Resample axis 1 of uint8 [n, m, c] to ``length``: Keys' kernel, a = -0.5, widened where it shrinks.

    Written from the formula (Keys 1981) with the antialiasing and the 8-bit rounding that Pillow documents.
    """
    scale = samples.shape[1] / length
    width = max(scale, 1.0)
    out = np.empty((samples.shape[0], length, samples.shape[2]))
    for k in range(length):
        centre = (k + 0.5) * scale
        low, high = max(0, int(centre - 2 * width + 0.5)), min(samples.shape[1], int(centre + 2 * width + 0.5))
        x = np.abs((np.arange(low, high) + 0.5 - centre) / width)
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        weights = np.where(x < 1, near, np.where(x < 2, far, 0))
        out[:, k] = np.einsum("nmc,m->nc", samples[:, low:high].astype(float), weights / weights.sum())
    return np.clip(np.floor(out + 0.5), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(90, 61), (61, 90), (300, 41), (40, 40), (47, 33)])
def test_center_against_the_formula(size: tuple[int, int]) -> None:
    width, height = size
    pixels = noise(width, height)
    target = 48
    wide = target if width <= height else int(target * width / height)
    high = target if height <= width else int(target * height / width)
    resized = bicubic(bicubic(pixels, wide).transpose(1, 0, 2), high).transpose(1, 0, 2)
    left, top = round((wide - 32) / 2), round((high - 32) / 2)
    (view,) = cut_views(Image.fromarray(pixels), "center", size_px=32, resize_px=target)
    difference = np.abs(view.pixels.astype(int) - resized[top : top + 32, left : left + 32])
    assert difference.max() <= 1  # Pillow's weights are integers of 22 bits
    assert (difference > 0).mean() < 0.01


def test_center_stays_as_it_is() -> None:
    """A fingerprint of the reference transform on a generated picture, checked once against the golden tensors."""
    (view,) = cut_views(Image.fromarray(noise(131, 97)), "center", size_px=64, resize_px=64)
    assert hashlib.sha256(view.pixels.tobytes()).hexdigest() == FINGERPRINT


@pytest.mark.parametrize("margin", [1, 3, 5, 7])
def test_odd_margins_round_half_to_even(margin: int) -> None:
    pixels = np.zeros((32, 32 + margin, 3), np.uint8)
    pixels[:, :, 0] = np.arange(32 + margin)
    (view,) = cut_views(Image.fromarray(pixels), "center", size_px=32, resize_px=32)
    assert view.pixels[0, 0, 0] == round(margin / 2)


@pytest.mark.parametrize("shape", [(10_000, 32), (32, 10_000), (9_999, 37), (41, 9_998)])
def test_very_long_pictures_are_cut_before_they_grow(shape: tuple[int, int]) -> None:
    picture = Image.fromarray(noise(*shape))
    (view,) = cut_views(picture, "center", size_px=224, resize_px=336)
    short = min(shape)
    wide = 336 if shape[0] == short else int(336 * shape[0] / shape[1])
    high = 336 if shape[1] == short else int(336 * shape[1] / shape[0])
    left, top = round((wide - 224) / 2), round((high - 224) / 2)
    whole = picture.resize((wide, high), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    assert np.array_equal(view.pixels, np.asarray(whole))
    assert len(cut_views(picture, "tiles", size_px=224, resize_px=224)) == 1 + MAX_TILES


def test_a_very_long_picture_is_never_held_at_the_size_it_would_grow_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole it would be 105,000 x 336 pixels, 141 MB in Pillow's four bytes each."""
    areas = []
    real = Image.Image.resize

    def counted(image: Image.Image, *args: Any, **kwargs: Any) -> Image.Image:
        made = real(image, *args, **kwargs)
        areas.append(made.width * made.height)
        return made

    monkeypatch.setattr(Image.Image, "resize", counted)
    cut_views(Image.fromarray(noise(10_000, 32)), "center", size_px=224, resize_px=336)
    assert max(areas) <= 4_000_000


def test_a_long_rendition_is_cut_as_its_image_lies_in_it() -> None:
    """Of 7,999 x 63 pixels at half the size: the last column and row of the rendition are half outside."""
    rendition = Image.fromarray(noise(4_000, 32))
    (view,) = cut_views(rendition, "center", size_px=32, resize_px=224, scale=Scale(7_999, 63, 2))
    wide = int(224 * 7_999 / 63)
    assert wide * 224 > 4_000_000
    whole = rendition.resize((wide, 224), Image.Resampling.BICUBIC, box=(0, 0, 3_999.5, 31.5))
    left = round((wide - 32) / 2)
    assert np.array_equal(view.pixels, np.asarray(whole.crop((left, 96, left + 32, 128))))


def test_a_crop_larger_than_the_resize_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^resize_px must be at least size_px$"):
        cut_views(Image.fromarray(noise()), "center", size_px=64, resize_px=32)
