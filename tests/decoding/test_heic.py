"""HEIC, switched on: what is seen; and HEIC switched off."""

from __future__ import annotations

import importlib
import importlib.util
import io
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gateway import __main__ as server
from gateway.decoding.decoder import DecodeLimits, inspect
from gateway.decoding.headers.header import ALWAYS_ACCEPTED, accepted_words, sniff
from gateway.decoding.plugins import DecoderMissing, accepted_formats, plugin_of
from gateway.decoding.to_rgb import turn_upright
from gateway.errors import SourceNotImage, UnsupportedImage
from gateway.fetching.fetcher import _check_signature
from gateway.parts import fetch_limits
from gateway.settings import Settings
from tests.support import awkward_images as make
from tests.support.heic_files import LIMITS, WITH_HEIC, gradient, heic, pixels
from tests.support.in_process_app import Web, ask, is_problem


@pytest.fixture(scope="module")
def heif() -> Any:
    return pytest.importorskip("pillow_heif", reason="the extra heic is not installed")


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


def test_of_several_pictures_the_primary_one_is_seen(heif: Any) -> None:
    file = heif.from_pillow(Image.fromarray(255 - gradient(200, 100)))
    file.add_from_pillow(Image.fromarray(gradient(320, 240)))
    file[1].info["thumbnails"] = [64]
    out = io.BytesIO()
    file.save(out, quality=90, exif=make.exif(1), xmp=b"<x/>", primary_index=1)
    assert len(heif.open_heif(out.getvalue())) == 2
    assert inspect(out.getvalue(), LIMITS).decodable(out.getvalue()) == out.getvalue()
    assert np.abs(pixels(out.getvalue()) - gradient(320, 240)).mean() < 3


@pytest.mark.parametrize("junk", [bytes(range(1, 60)), bytes(59), b"MM\0*\xff\xff\xff\x7f" + bytes(51)])
def test_broken_exif_is_no_reason_to_refuse(heif: Any, junk: bytes) -> None:
    exif = Image.Exif()
    exif[0x10E] = "what the camera saw"
    whole = exif.tobytes()
    data = heic(heif, gradient(64, 64), exif=whole)
    at = data.index(b"MM\0*") if b"MM\0*" in data else data.index(b"II*\0")
    assert pixels(data[:at] + junk[: len(whole) - 6] + data[at + len(whole) - 6 :]).shape == (64, 64, 3)


def test_nothing_is_registered_with_pillow(heif: Any) -> None:
    data = heic(heif, gradient(64, 64))
    pixels(data)
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(data))


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
    assert accepted_formats(heic=False, isolated=True) == ALWAYS_ACCEPTED
    assert accepted_formats(heic=True, isolated=True) == WITH_HEIC
    assert accepted_formats(heic=False, isolated=False) == ALWAYS_ACCEPTED - {"avif"}
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
@pytest.mark.parametrize(
    "web", [{"heic": True, "decode_isolation": True}, {"heic": False}], indirect=True, ids=["on", "off"]
)
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
        accepted_formats(heic=True, isolated=True)
    monkeypatch.setenv("HEIC", "true")
    assert server.main(arguments=[]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gateway: HEIC=true needs the optional extra heic")


@pytest.mark.parametrize(
    ("module", "name", "told", "library"),
    [
        pytest.param("PIL.features", "version_module", {"pil": "12.3.0", "avif": "1.4.2"}.get, "Pillow", id="Pillow"),
        pytest.param("PIL.features", "version_module", {"pil": "13.0.0", "avif": "1.4.1"}.get, "libavif", id="libavif"),
        pytest.param("pillow_heif", "libheif_version", lambda: "1.23.3", "libheif", id="libheif"),
    ],
)
def test_a_library_with_known_holes_keeps_the_gateway_from_starting(
    module: str,
    name: str,
    told: object,
    library: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("pillow_heif")
    monkeypatch.setattr(importlib.import_module(module), name, told)
    monkeypatch.setenv("HEIC", "true")
    assert server.main(arguments=[]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gateway: {library} 1")
    assert "known security holes" in line


def test_switched_on_without_isolation_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEIC", "true")
    monkeypatch.setenv("DECODE_ISOLATION", "false")
    assert server.main(arguments=[]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gateway: HEIC=true needs DECODE_ISOLATION=true")


def test_without_isolation_avif_is_unsupported_and_says_why(web: Web) -> None:
    response = ask(web, make.plain("AVIF"))
    is_problem(response, 415, "unsupported_image")
    assert "DECODE_ISOLATION=false" in response.json()["detail"]
    assert response.json()["detail"].endswith("send JPEG, PNG, WebP or GIF.")
