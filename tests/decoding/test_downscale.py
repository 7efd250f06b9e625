"""Large pictures made smaller before their views are cut: the same views, nothing moved, and small ones left alone."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gateway.decoding.decoder import DecodeLimits, inspect, open_image
from gateway.decoding.downscale import LEAST_GAP, SMALL_PIXELS, factor_for, jpeg_factor_for
from gateway.decoding.pdq import PerceptualHash
from gateway.decoding.preprocess import Job, PreprocessedImage, prepare
from gateway.decoding.to_rgb import turn_upright
from gateway.decoding.views import ViewRule, cut_views
from gateway.observability.stage_timer import StageTimer
from tests.conftest import GOLDEN
from tests.support import awkward_images as make

SIDE = 64
ODD = (1605, 1203)  # no multiple of what a JPEG is decoded in
LIMITS = DecodeLimits(timeout_s=60)


def photo(size: tuple[int, int] = ODD, seed: int = 1) -> Image.Image:
    """Something that a shift by a pixel of the model's square would show in: blobs of colour, and grain."""
    rng = np.random.default_rng(seed)
    blobs = rng.integers(0, 256, (size[1] // 40, size[0] // 40, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(blobs).resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
    return Image.fromarray(np.clip(large + rng.normal(0, 6, large.shape), 0, 255).astype(np.uint8))


def job(data: bytes, *rules: ViewRule, fingerprint: bool = False, size_px: int = SIDE) -> Job:
    wanted = frozenset[ViewRule](rules or ("center", "tiles"))
    return Job(data, inspect(data, LIMITS), LIMITS, wanted, size_px, size_px, 0, fingerprint=fingerprint)


def whole_views(data: bytes, size_px: int = SIDE) -> dict[str, np.ndarray]:
    """What is cut from every pixel of a picture, by view."""
    with open_image(data, LIMITS, seed=0) as image:
        (frame,) = image.frames()
    cut = [cut_views(frame.rgb, rule, size_px=size_px, resize_px=size_px) for rule in ("center", "tiles")]
    return {view.name: view.pixels for views in cut for view in views}


def rows(prepared: PreprocessedImage) -> dict[str, np.ndarray]:
    return dict(zip((place.view for place in prepared.places), prepared.pixels, strict=True))


def test_only_what_is_far_larger_than_needed_is_made_smaller() -> None:
    assert factor_for(1000, 1000, 8) == 1  # as many pixels as a small picture may have
    assert factor_for(2 * LEAST_GAP * 224 - 1, 4000, 224) == 1
    assert factor_for(2 * LEAST_GAP * 224, 4000, 224) == 2
    assert (factor_for(4000, 3000, 224), jpeg_factor_for(4000, 3000, 224)) == (4, 4)
    assert (factor_for(4000, 3000, 72), jpeg_factor_for(4000, 3000, 72)) == (13, 8)
    for side in range(1000, 9000, 77):
        assert side // jpeg_factor_for(side, 9000, 224) >= LEAST_GAP * 224 or jpeg_factor_for(side, 9000, 224) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_views_are_those_of_every_pixel(kind: str, orientation: int) -> None:
    block = make.exif(orientation)
    picture = photo()
    if kind == "JPEG":
        data = make.jpeg_with(make.segment(0xE1, block), data=make.encode(picture, "JPEG", quality=95))
    else:
        data = make.encode(picture, "PNG", exif=block, compress_level=1)
    asked = job(data)
    assert asked.jpeg_factor == (4 if kind == "JPEG" else 1)
    prepared, expected = prepare(asked, StageTimer(), None), whole_views(data)
    upright = turn_upright(picture, orientation).size
    assert (prepared.info.width, prepared.info.height) == upright
    boxes = {place.view: place.box for place in prepared.places}
    assert boxes["full"] == (0, 0, *upright)
    assert rows(prepared).keys() == expected.keys() == boxes.keys()
    for name, pixels in rows(prepared).items():
        difference = pixels.astype(float) - expected[name]
        assert np.sqrt((difference**2).mean()) < 1.2, name  # a shift by one pixel of the square makes more than 40
        assert abs(difference.mean()) < 0.1, name


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_small_pictures_keep_every_pixel(kind: str) -> None:
    for size in ((640, 480), (1250, 800), (2000, 500)):
        assert size[0] * size[1] <= SMALL_PIXELS
        data = make.encode(photo(size), kind)
        expected = whole_views(data, 32)
        for name, pixels in rows(prepare(job(data, size_px=32), StageTimer(), None)).items():
            assert np.array_equal(pixels, expected[name]), (size, name)


def test_pictures_not_far_larger_than_the_model_keep_every_pixel() -> None:
    data = make.encode(photo((1700, 1300)), "JPEG")
    expected = whole_views(data, 224)
    for name, pixels in rows(prepare(job(data, size_px=224), StageTimer(), None)).items():
        assert np.array_equal(pixels, expected[name]), name


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_jpeg(mode: str, progressive: bool) -> None:  # noqa: FBT001
    data = make.encode(photo().convert(mode), "JPEG", progressive=progressive, quality=95)
    expected = whole_views(data)
    for name, pixels in rows(prepare(job(data), StageTimer(), None)).items():
        assert np.sqrt(((pixels.astype(float) - expected[name]) ** 2).mean()) < 1.5, name


def test_a_fingerprint_is_made_of_every_pixel_and_only_where_it_is_wanted() -> None:
    hashed: list[Image.Image] = []

    def hasher(rgb: Image.Image) -> PerceptualHash:
        hashed.append(rgb)
        return PerceptualHash("0" * 64, 100)

    data = make.encode(photo(), "JPEG")
    assert prepare(job(data), StageTimer(), hasher).fingerprints == ()
    assert prepare(job(data, fingerprint=True), StageTimer(), hasher).fingerprints == (PerceptualHash("0" * 64, 100),)
    assert np.array_equal(np.asarray(hashed[0]), np.asarray(Image.open(io.BytesIO(data))))


def test_memory_is_asked_for_as_it_is_needed() -> None:
    size = (4000, 3000)
    plain, progressive = (make.jpeg_sized(*size, progressive=several) for several in (False, True))
    asked = [job(data, size_px=224) for data in (plain, progressive)]
    assert [one.jpeg_factor for one in asked] == [4, 4]
    assert asked[0].decode_bytes < asked[0].header.decode_bytes() / 5
    assert asked[1].decode_bytes > 12_000_000 * 2 * 1.5  # all coefficients, at any size
    assert replace(asked[0], fingerprint=True).decode_bytes == asked[0].header.decode_bytes()


def enlarged(path: Path) -> bytes:
    """Return a photograph at 12 megapixels with a camera's grain, as JPEG."""
    small = Image.open(path).convert("RGB")
    size = (4000, 3000) if small.width > small.height else (3000, 4000)
    large = np.asarray(small.resize(size, Image.Resampling.LANCZOS)).astype(np.float32)
    grain = np.random.default_rng(1).normal(0, 3, (*large.shape[:2], 1))
    return make.encode(Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8)), "JPEG", quality=90)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden photographs (../shared/golden) are not here")
def test_photographs_of_12_megapixels_look_the_same() -> None:
    data = enlarged(GOLDEN / "photos" / "524_316.jpg")
    expected = whole_views(data, 224)
    for view, pixels in rows(prepare(job(data, size_px=224), StageTimer(), None)).items():
        assert np.sqrt(((pixels.astype(float) - expected[view]) ** 2).mean()) < 0.8, view
