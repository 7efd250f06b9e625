"""HEIC containers that lie, and what they may not hold: judged by us before libheif sees them."""

from __future__ import annotations

import random
import struct
import time
from typing import Any

import pytest
from PIL import Image

from gateway.decode import DecodeLimits, inspect
from gateway.errors import ImageCorrupt
from gateway.image_avif_data import MAX_EXTENTS, item_extents
from gateway.image_hevc import read_picture
from tests import pictures as make
from tests.heic import LIMITS, WITH_HEIC, box, code_of, gradient, heic, nal


@pytest.fixture(scope="module")
def heif() -> Any:
    return pytest.importorskip("pillow_heif", reason="the extra heic is not installed")


def grid_that_says(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"idat") + 8
    return data[:at] + struct.pack(">HH", width, height) + data[at + 4 :]


def test_a_container_that_lies(heif: Any) -> None:
    small, grid = heic(heif, gradient(64, 64)), heic(heif, gradient(700, 300), tile_size=256)
    large = heic(heif, gradient(1024, 1024), quality=10)
    tight = DecodeLimits(formats=WITH_HEIC, max_pixels=1_000_000)
    assert code_of(make.avif_that_says(64, 64, large), tight) == "image_too_many_pixels"  # the bitstream is larger
    assert code_of(make.avif_that_says(64, 64, large)) == "image_corrupt"
    assert code_of(make.avif_that_says(16384, 16384, small)) == "image_too_many_pixels"
    assert code_of(make.avif_that_says(65, 64, small)) == "image_corrupt"
    assert code_of(make.avif_that_says(0, 64, small)) == "image_corrupt"
    assert code_of(grid_that_says(grid, 65000, 65000)) == "image_corrupt"  # its tiles do not cover that
    assert code_of(grid_that_says(grid, 768, 512)) == "image_corrupt"
    assert code_of(grid_that_says(grid, 500, 256)) == "image_corrupt"  # tiles that nobody sees


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
    assert inspect(data, LIMITS).decoded_pixels == 64 * 64
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


@pytest.mark.parametrize("kind", [b"iovl", b"iden", b"av01", b"avc1", b"unci", b"mski", b"tili", b"jpeg"])
def test_other_derivations_and_codecs_are_unsupported(heif: Any, kind: bytes) -> None:
    data = heic(heif, gradient(64, 64))
    at = data.index(b"hvc1")
    assert code_of(data[:at] + kind + data[at + 4 :]) == "unsupported_image"


def test_sequences_are_unsupported(heif: Any) -> None:
    assert code_of(heic(heif, gradient(64, 64)) + box(b"moov", b"")) == "unsupported_image"


def test_boxes_nobody_needs_are_hidden(heif: Any) -> None:
    tail = box(b"mpvd", b"motion") + box(b"uuid", bytes(16)) + box(b"mini", b"\xff" * 9)
    data = heic(heif, gradient(64, 64)) + tail
    assert inspect(data, LIMITS).decodable(data).count(b"skip") == 3
    assert code_of(data) == "ok"


def test_a_second_box_of_a_kind_is_corrupt(heif: Any) -> None:
    data = heic(heif, gradient(64, 64))
    start = data.index(b"meta") - 4
    meta = data[start : start + int.from_bytes(data[start : start + 4], "big")]
    assert code_of(data + meta) == "image_corrupt"


def stream_parts(data: bytes) -> tuple[bytes, bytes]:
    """A still's configuration and bitstream."""
    start = data.index(b"hvcC") + 4
    config = data[start : start + int.from_bytes(data[start - 8 : start - 4], "big") - 8]
    return config, data[data.index(b"mdat") + 4 :]


def test_what_a_bitstream_may_hold(heif: Any) -> None:
    config, stream = stream_parts(heic(heif, gradient(64, 64)))
    other, _ = stream_parts(heic(heif, gradient(512, 512)))
    whole = read_picture(config, stream)
    assert (whole.width, whole.height, whole.pixels, whole.slices, whole.deep) == (64, 64, 64 * 64, 1, False)
    sps = other[other.index(b"\x42\x01") - 2 :]
    sps = sps[: 2 + int.from_bytes(sps[:2], "big")]
    assert read_picture(config, b"\0\0" + sps + stream).width == 512  # a parameter set within the data
    for broken in (
        stream + stream,  # two pictures
        b"",
        stream[:-1],
        b"\0\0" + nal(1, b"\x80" * 9) + stream,  # a picture that draws on others
        (b"\0\0" + nal(39, b"x")) * 1001 + stream,
        b"\0\0" + struct.pack(">H", 3) + bytes((33 << 1, 9, 0)) + stream,  # another layer's
    ):
        with pytest.raises(ImageCorrupt):
            read_picture(config, broken)
    with pytest.raises(ImageCorrupt):
        read_picture(config[:22], stream)


def test_slices_that_draw_the_same_again_are_counted(heif: Any) -> None:
    """Each slice costs as much as the picture; 900 of them in 16 megapixels are 14 gigapixels."""
    config, stream = stream_parts(heic(heif, gradient(64, 64)))
    again = (b"\0\0" + nal(20, b"\x40\xff")) * 900
    assert read_picture(config, stream + again).slices == 901
    data = heic(heif, gradient(1024, 1024), quality=10)
    at = data.index(b"mdat") + 4
    where, there = struct.pack(">HII", 1, 0, len(data) - at), struct.pack(">HII", 1, 0, len(data) - at + len(again))
    assert data.count(where) == 1
    head = data[: at - 8].replace(where, there) + struct.pack(">I", len(data) - at + len(again) + 8)
    with pytest.raises(ImageCorrupt, match="more work"):
        inspect(head + data[at - 4 :] + again, LIMITS)


def test_locations_that_cost_nothing_to_announce() -> None:
    bomb = b"\1\0\0\0" + b"\0\0" + struct.pack(">H", 65535) + struct.pack(">HHHH", 1, 0, 0, 65535) * 65535
    started = time.thread_time()
    with pytest.raises(ImageCorrupt):
        assert len(list(item_extents(bomb))) <= MAX_EXTENTS
    assert time.thread_time() - started < 1


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
