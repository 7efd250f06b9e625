"""HEIC, switched on: what is seen, what is refused before libheif decodes anything; and HEIC switched off."""

from __future__ import annotations

import importlib
import importlib.util
import io
import random
import struct
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gateway import __main__ as server
from gateway.app import fetch_limits
from gateway.decode import DecodeLimits, inspect, open_image
from gateway.errors import GatewayError, ImageCorrupt, SourceNotImage, UnsupportedImage
from gateway.fetch import _check_signature
from gateway.image_avif_data import MAX_EXTENTS, item_extents
from gateway.image_formats import DecoderMissing, accepted_formats, plugin_of
from gateway.image_header import ALWAYS_ACCEPTED, Formats, accepted_words, sniff
from gateway.image_hevc import read_picture
from gateway.image_rgb import turn_upright
from gateway.settings import Settings
from tests import pictures as make
from tests.web import Web, ask, is_problem

WITH_HEIC: Formats = ALWAYS_ACCEPTED | {"heic"}
LIMITS = DecodeLimits(formats=WITH_HEIC)


@pytest.fixture(scope="module")
def heif() -> Any:
    return pytest.importorskip("pillow_heif", reason="the extra heic is not installed")


def gradient(width: int, height: int, channels: int = 3) -> make.Pixels:
    """Smooth colours that lossy coding hardly changes; the fourth channel is 0 in the left half, 255 in the right."""
    y, x = np.mgrid[:height, :width]
    alpha = np.where(x < width // 2, 0, 255)
    planes = [x * 255 // (width - 1), y * 255 // (height - 1), (x + y) % 256, alpha]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def heic(heif: Any, samples: np.ndarray[Any, Any], mode: str = "RGB", **options: Any) -> bytes:
    """A HEIC of samples as they are stored; an EXIF orientation gets the boxes irot and imir beside it."""
    out = io.BytesIO()
    size = (samples.shape[1], samples.shape[0])
    heif.encode(mode, size, samples.tobytes(), out, **{"quality": 100, "chroma": 444} | options)
    return out.getvalue()


def pixels(data: bytes, limits: DecodeLimits = LIMITS) -> np.ndarray[Any, Any]:
    with open_image(data, limits, seed=1) as image:
        (frame,) = list(image.frames())
        assert (image.info.format, image.info.frames, frame.time_ms) == ("heic", 1, None)
        assert frame.rgb.mode == "RGB"
        assert frame.rgb.size == (image.info.width, image.info.height)
    return np.asarray(frame.rgb).astype(int)


def code_of(data: bytes, limits: DecodeLimits = LIMITS) -> str:
    try:
        pixels(data, limits)
    except GatewayError as fault:
        return fault.code if fault.detail.endswith(".") else fault.detail
    return "ok"


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def nal(kind: int, body: bytes) -> bytes:
    return struct.pack(">H", len(body) + 2) + bytes((kind << 1, 1)) + body


# --- what is seen ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "options"),
    [
        (64, 64, {}),
        (101, 77, {}),
        (700, 300, {"tile_size": 256}),
        (300, 700, {"tile_size": 128, "chroma": 420}),
        (50, 40, {}),
    ],
    ids=["plain", "odd sides", "grid", "grid 4:2:0", "cropped by clap"],
)
def test_pixels(heif: Any, width: int, height: int, options: dict[str, Any]) -> None:
    samples = gradient(width, height)
    assert np.abs(pixels(heic(heif, samples, **options)) - samples).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("tiles", [0, 64])
def test_it_is_turned_exactly_once(heif: Any, orientation: int, tiles: int) -> None:
    samples = gradient(160, 96)
    options: dict[str, Any] = {"tile_size": tiles} if tiles else {}
    data = heic(heif, samples, exif=make.exif(orientation), **options)
    expected = np.asarray(turn_upright(Image.fromarray(samples), orientation))
    seen = pixels(data)
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).max() <= 12
    header = inspect(data, LIMITS)
    assert header.oriented_size == (expected.shape[1], expected.shape[0])


def test_exif_alone_turns_nothing(heif: Any) -> None:
    """HEIF turns by its own properties; EXIF only tells of it (ISO/IEC 23008-12, annex A)."""
    data = heic(heif, gradient(96, 64), exif=make.exif(6))
    at = data.index(b"irot")
    assert pixels(data[:at] + b"skip" + data[at + 4 :]).shape == (64, 96, 3)


def test_alpha_is_composited_on_the_background(heif: Any) -> None:
    data = heic(heif, gradient(64, 64, 4), "RGBA")
    for background in ((255, 255, 255), (10, 20, 30)):
        seen = pixels(data, DecodeLimits(formats=WITH_HEIC, background=background))
        assert (seen[:, :30] == background).all()
        assert np.abs(seen[:, 34:] - gradient(64, 64)[:, 34:]).max() <= 3


def test_ten_bits_are_scaled_to_eight(heif: Any) -> None:
    samples = gradient(64, 64)
    deep = heic(heif, samples.astype(np.uint16) << 8, "RGB;16")
    assert np.abs(pixels(deep) - samples).max() <= 3
    grey = heic(heif, samples[..., 0].astype(np.uint16) << 8, "L;16")
    assert np.abs(pixels(grey) - samples[..., :1]).max() <= 3
    assert inspect(deep, LIMITS).bytes_per_pixel > inspect(heic(heif, samples), LIMITS).bytes_per_pixel


def test_grey(heif: Any) -> None:
    samples = gradient(64, 64)[..., 0].copy()
    assert np.abs(pixels(heic(heif, samples, "L")) - samples[..., None]).max() <= 3


def test_libheif_is_shown_the_primary_picture_alone(heif: Any) -> None:
    file = heif.from_pillow(Image.fromarray(gradient(320, 240)))
    file[0].info["thumbnails"] = [64]
    file.add_from_pillow(Image.fromarray(255 - gradient(200, 100)))
    out = io.BytesIO()
    file.save(out, quality=90, exif=make.exif(1), xmp=b"<x/>", primary_index=0)
    whole = heif.open_heif(out.getvalue())
    assert (len(whole), whole.info["thumbnails"], bool(whole.info["exif"])) == (2, [64], True)
    judged = heif.open_heif(inspect(out.getvalue(), LIMITS).decodable(out.getvalue()))
    assert (len(judged), judged.info["thumbnails"], judged.info["exif"]) == (1, [], None)
    assert np.abs(pixels(out.getvalue()) - gradient(320, 240)).mean() < 3


def test_nothing_is_registered_with_pillow(heif: Any) -> None:
    data = heic(heif, gradient(64, 64))
    pixels(data)
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(data))


# --- what is refused -------------------------------------------------------------------------------------------------


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


# --- the switch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"])
def test_switched_off_it_is_unsupported_and_says_how(brand: bytes) -> None:
    data = struct.pack(">I", 24) + b"ftyp" + brand + b"\0\0\0\0mif1" + brand + bytes(200)
    assert sniff(data) == "heic"
    with pytest.raises(UnsupportedImage, match="HEIC=true"):
        inspect(data, DecodeLimits())


def test_avif_stays_avif() -> None:
    assert sniff(make.plain("AVIF")) == "avif"
    assert sniff(struct.pack(">I", 24) + b"ftypisom\0\0\0\0isomavc1") is None


def test_accepted_formats(heif: Any) -> None:
    assert accepted_formats(heic=False) == ALWAYS_ACCEPTED
    assert accepted_formats(heic=True) == WITH_HEIC
    assert accepted_words(ALWAYS_ACCEPTED) == "JPEG, PNG, WebP, GIF or AVIF"
    assert accepted_words(WITH_HEIC) == "JPEG, PNG, WebP, GIF, AVIF or HEIC"
    assert plugin_of("heic") is heif.HeifImageFile


def test_the_setting_reaches_fetching(heif: Any) -> None:
    body = bytearray(heic(heif, gradient(64, 64)))
    assert Settings().heic is False
    _check_signature(body, fetch_limits(Settings(heic=True)).formats)
    with pytest.raises(SourceNotImage, match="it has to be JPEG, PNG, WebP, GIF or AVIF"):
        _check_signature(body, fetch_limits(Settings()).formats)


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is None, reason="the extra heic is not installed")
@pytest.mark.parametrize("web", [{"heic": True}, {"heic": False}], indirect=True, ids=["on", "off"])
def test_over_http(heif: Any, web: Web, request: pytest.FixtureRequest) -> None:
    response = ask(web, heic(heif, gradient(96, 64), exif=make.exif(6)))
    if request.node.callspec.id == "off":
        is_problem(response, 415, "unsupported_image")
        assert "HEIC=true" in response.json()["detail"]
        return
    image = response.json()["results"][0]["image"]
    assert (image["format"], image["width"], image["height"]) == ("heic", 64, 96)


@pytest.mark.parametrize("absent", ["pillow_heif", "_pillow_heif"])
def test_switched_on_without_the_extra_it_does_not_start(
    absent: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name == absent:
            raise ImportError(name)
        return SimpleNamespace(HeifImageFile=None) if name == "pillow_heif" else real(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(DecoderMissing):
        accepted_formats(heic=True)
    monkeypatch.setenv("HEIC", "true")
    assert server.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gateway: HEIC=true needs the optional extra heic")
