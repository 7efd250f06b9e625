"""Transparent images are looked at on white and on black, where that makes a difference that can be seen."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gateway.decoding.decoder import DecodeLimits, inspect
from gateway.decoding.headers.header import ALWAYS_ACCEPTED
from gateway.decoding.preprocess import Job, PreprocessedImage, prepare
from gateway.decoding.views import ViewRule
from gateway.observability.stage_timer import StageTimer
from tests.support import awkward_images as make
from tests.support.heic_files import heic

FOUND = Path(__file__).parents[1] / "corpus" / "found"
LIMITS = DecodeLimits(formats=ALWAYS_ACCEPTED | {"heic"})
SIDE = 60


def prepared(data: bytes, rule: ViewRule = "full", *, both: bool = True, ground: int = 255) -> PreprocessedImage:
    limits = replace(LIMITS, background=(ground,) * 3)
    job = Job(data, inspect(data, limits), limits, frozenset({rule}), SIDE, SIDE, seed=1, both_grounds=both)
    return prepare(job, StageTimer(), None)


def mark(shade: int = 255, size: tuple[int, int] = (240, 240), offset: int = 0) -> Image.Image:
    """Return a cross of one shade on transparent ground."""
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    ink = (shade, shade, shade, 255)
    pen.line((20 + offset, 20, 220, 220), fill=ink, width=24)
    pen.line((220, 20, 20 + offset, 220), fill=ink, width=24)
    return picture


def keyed() -> bytes:
    """Return a PNG of RGB in which black is transparent."""
    shown = np.asarray(mark().convert("RGB"))
    return make.png(240, 240, make.rows(shown), make.chunk(b"tRNS", struct.pack(">3H", 0, 0, 0)))


def sixteen_bit_grey() -> bytes:
    shown = np.asarray(mark().convert("L")).astype(np.uint16) * 257
    return make.png(240, 240, make.rows(shown), make.chunk(b"tRNS", b"\0\0"), depth=16, colour=0)


def palette() -> bytes:
    index = (np.asarray(mark())[..., 3] > 0).astype(np.uint8)
    chunks = (make.chunk(b"PLTE", bytes((9, 9, 9, 255, 255, 255))), make.chunk(b"tRNS", b"\0\xff"))
    return make.png(240, 240, make.rows(index), *chunks, colour=3)


SEEN_ON_BLACK: dict[str, Callable[[], bytes]] = {
    "PNG RGBA": lambda: make.encode(mark(), "PNG"),
    "PNG LA": lambda: make.encode(mark().convert("LA"), "PNG"),
    "PNG palette": palette,
    "PNG colour key": keyed,
    "PNG 16-bit grey, key": sixteen_bit_grey,
    "WebP lossy": lambda: make.encode(mark(), "WEBP", quality=90),
    "WebP lossless": lambda: make.encode(mark(), "WEBP", lossless=True),
    "GIF": lambda: make.encode(mark(), "GIF"),
    "AVIF": lambda: make.encode(mark(), "AVIF", quality=90),
    "HEIC": lambda: heic(pytest.importorskip("pillow_heif"), np.asarray(mark()), "RGBA"),
    **{f"white scrawl, {end}": partial((FOUND / f"white-scrawl.{end}").read_bytes) for end in ("png", "gif", "webp")},
}


@pytest.mark.parametrize("name", SEEN_ON_BLACK)
def test_105_white_on_nothing_is_looked_at_on_black(name: str) -> None:
    data = SEEN_ON_BLACK[name]()
    both = prepared(data)
    assert [place.background for place in both.places] == [None, "black"]
    light, dark = both.pixels
    assert light.min() > 230
    assert dark.min() < 10
    assert dark.max() > 200
    assert np.abs(dark.astype(int) - prepared(data, ground=0, both=False).pixels[0]).max() <= 3


def test_105_it_is_the_composite_on_black_whatever_the_colors_and_alpha() -> None:
    samples = make.noise(200, 150, channels=4)
    smooth = Image.fromarray(samples).resize((400, 300), Image.Resampling.BICUBIC)
    data = make.encode(smooth, "PNG")
    both, black = prepared(data, "tiles"), prepared(data, "tiles", ground=0, both=False)
    assert len(both.places) == 2 * len(black.places)
    second = [row for row, place in enumerate(both.places) if place.background == "black"]
    assert [both.places[row].box for row in second] == [place.box for place in black.places]
    difference = np.abs(both.pixels[second].astype(int) - black.pixels)
    assert difference.mean() < 1
    assert difference.max() <= 8


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "AVIF"])
def test_105_each_frame_of_an_animation(kind: str) -> None:
    frames = [mark(offset=20 * number) for number in range(4)]
    options: dict[str, Any] = {"disposal": 2} if kind == "GIF" else {}
    data = make.encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)
    both = prepared(data)
    assert [place.background for place in both.places] == [None, "black"] * 4
    assert [place.frame_ms for place in both.places[::2]] == [place.frame_ms for place in both.places[1::2]]
    assert both.pixels[1::2].reshape(4, -1).max(axis=1).min() > 200


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_105_what_is_opaque_is_looked_at_once(kind: str) -> None:
    assert [place.background for place in prepared(make.plain(kind)).places] == [None]
    if kind in {"PNG", "WEBP", "AVIF"}:
        opaque = make.encode(Image.fromarray(make.noise()).convert("RGBA"), kind)
        assert [place.background for place in prepared(opaque).places] == [None]


@pytest.mark.parametrize(
    ("alpha", "share", "twice"), [(0, 0.004, False), (0, 0.03, True), (245, 1, False), (235, 1, True)]
)
def test_105_only_a_difference_that_can_be_seen_counts(alpha: int, share: float, twice: bool) -> None:  # noqa: FBT001
    samples = make.noise(600, 600, channels=4)
    samples[..., 3] = 255
    samples[: round(600 * share**0.5), : round(600 * share**0.5), 3] = alpha
    backgrounds = [place.background for place in prepared(make.encode(Image.fromarray(samples), "PNG")).places]
    assert backgrounds == ([None, "black"] if twice else [None])


def test_105_only_views_that_show_a_difference_are_looked_at_twice() -> None:
    samples = make.noise(900, 300, channels=4)
    samples[..., 3] = 255
    samples[:, 800:, 3] = 0
    places = prepared(make.encode(Image.fromarray(samples), "PNG"), "tiles").places
    # The last is what is left without the bar on the right, to the nearest pixel that the model sees.
    assert {place.view for place in places if place.background} == {"full", "tile 4", "content"}


def test_105_without_asking_there_is_one_ground() -> None:
    assert [place.background for place in prepared(SEEN_ON_BLACK["PNG RGBA"](), both=False).places] == [None]
