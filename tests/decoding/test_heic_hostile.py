"""HEIC containers that lie or are damaged: each gets an error of ours, or the picture that libheif shows."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from PIL import Image

from gateway.decoding.decoder import DecodeLimits, inspect
from tests.support import awkward_images as make
from tests.support.heic_files import LIMITS, WITH_HEIC, box, code_of, gradient, heic


@pytest.fixture(scope="module")
def heif() -> Any:
    return pytest.importorskip("pillow_heif", reason="the extra heic is not installed")


def grid_that_says(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"idat") + 8
    return data[:at] + struct.pack(">HH", width, height) + data[at + 4 :]


def test_a_container_that_lies(heif: Any) -> None:
    small, grid = heic(heif, gradient(64, 64)), heic(heif, gradient(700, 300), tile_size=256)
    large = heic(heif, gradient(1024, 1024), quality=10)
    assert code_of(make.avif_that_says(64, 64, large)) == "image_undecodable"
    assert code_of(make.avif_that_says(16384, 16384, small)) == "image_too_many_pixels"
    assert code_of(make.avif_that_says(65, 64, small)) == "image_corrupt"
    assert code_of(make.avif_that_says(0, 64, small)) == "image_corrupt"
    assert code_of(grid_that_says(grid, 65000, 65000)) == "image_undecodable"
    assert code_of(grid_that_says(grid, 768, 512)) == "image_corrupt"
    assert code_of(grid_that_says(grid, 500, 256)) == "image_corrupt"


def test_caps_are_judged_without_libheif(heif: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(heif, gradient(700, 300), tile_size=256)

    def decoded(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(heif.HeifImageFile, "__init__", decoded)
    assert code_of(data, DecodeLimits(formats=WITH_HEIC, max_pixels=700 * 300 - 1)) == "image_too_many_pixels"
    assert code_of(data, DecodeLimits(formats=WITH_HEIC, max_side_px=699)) == "image_dimensions"
    assert code_of(data, DecodeLimits(formats=WITH_HEIC, min_side_px=301)) == "image_dimensions"
    assert code_of(data, DecodeLimits(formats=WITH_HEIC, max_bytes=100)) == "payload_too_large"


def test_what_a_crop_hides_counts(heif: Any) -> None:
    data = heic(heif, gradient(60, 60))  # coded with more, and cropped by clap
    assert inspect(data, LIMITS).pixels == 64 * 64
    at = data.index(b"clap") + 4
    cropped = data[:at] + struct.pack(">IIII", 40, 1, 40, 1) + data[at + 16 :]
    assert inspect(cropped, LIMITS).oriented_size == (40, 40)
    assert code_of(cropped, DecodeLimits(formats=WITH_HEIC, max_pixels=40 * 40)) == "image_too_many_pixels"
    beyond = data[:at] + struct.pack(">IIII", 400, 1, 40, 1) + data[at + 16 :]
    assert code_of(beyond) == "image_corrupt"


@pytest.mark.parametrize("percent", [1, 10, 30, 50, 75, 90, 99])
def test_a_file_cut_short(heif: Any, percent: int) -> None:
    data = heic(heif, make.noise(), quality=50)
    assert code_of(data[: max(32, len(data) * percent // 100)]) == "image_corrupt"


def test_a_sequence_without_a_still_is_unsupported(heif: Any) -> None:
    data = heic(heif, gradient(64, 64))
    assert code_of(data[: int.from_bytes(data[:4], "big")] + box(b"moov", b"")) == "unsupported_image"
    assert code_of(data + box(b"moov", b"")) == "ok"


def test_boxes_nobody_needs_are_passed_over(heif: Any) -> None:
    tail = box(b"mpvd", b"motion") + box(b"uuid", bytes(16))
    assert code_of(heic(heif, gradient(64, 64)) + tail) == "ok"


@pytest.mark.parametrize("tiles", [0, 64])
def test_flipped_bytes(heif: Any, tiles: int) -> None:
    data = heic(heif, gradient(160, 96, 4), "RGBA") if not tiles else heic(heif, gradient(160, 96), tile_size=tiles)
    dice = random.Random(5)  # noqa: S311
    head = data.index(b"mdat")
    for _ in range(250):
        broken = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            broken[dice.randrange(head if dice.random() < 0.8 else len(data))] = dice.randrange(256)
        assert code_of(bytes(broken)) in {
            "ok",
            "image_corrupt",
            "image_undecodable",
            "image_dimensions",
            "image_too_many_pixels",
            "unsupported_image",
        }


def test_a_decoder_that_finds_another_size_is_corrupt(heif: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(heif, gradient(64, 64))
    real = heif.HeifImageFile.load

    def load(picture: Any) -> Any:
        result = real(picture)
        picture.im = Image.new("RGB", (32, 32)).im
        picture._size = (32, 32)
        return result

    monkeypatch.setattr(heif.HeifImageFile, "load", load)
    assert code_of(data) == "image_corrupt"
