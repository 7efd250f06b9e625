"""Hostile and broken pictures; the number in a test's id is the one in the list of faults."""

from __future__ import annotations

import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from gateway.decode import DecodeLimits, ImageInfo, inspect, open_image
from gateway.errors import GatewayError, ImageUndecodable
from tests import pictures as make

LIMITS = DecodeLimits()


def decode(data: bytes, limits: DecodeLimits = LIMITS, seed: int = 1) -> ImageInfo:
    with open_image(data, limits, seed=seed) as image:
        for frame in image.frames():
            assert frame.rgb.mode == "RGB"
            assert frame.rgb.size == (image.info.width, image.info.height)
        return image.info


def code_of(data: bytes, limits: DecodeLimits = LIMITS) -> str:
    """Decode, and return the error's code, or ``ok``; nothing but an error of ours may come out."""
    detail, code = "", "ok"
    try:
        decode(data, limits)
    except GatewayError as fault:
        detail, code = fault.detail, fault.code
    assert code == "ok" or detail.endswith(".")
    assert "0x" not in detail
    return code


def cut(data: bytes, percent: int) -> bytes:
    return data[: len(data) * percent // 100]


JPEG, PNG, WEBP, AVIF = (make.plain(kind) for kind in ("JPEG", "PNG", "WEBP", "AVIF"))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "empty_file", id="1-empty"),
        *(pytest.param(data, "unsupported_image", id=f"2,37-41-{name}") for name, data in make.other_formats().items()),
        pytest.param(b"\xff\xd8\xff", "image_corrupt", id="3-jpeg-signature"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "image_corrupt", id="3-png-signature"),
        pytest.param(b"GIF89a", "image_corrupt", id="3-gif-signature"),
        pytest.param(b"RIFF\x10\0\0\0WEBP", "image_corrupt", id="3-webp-signature"),
        pytest.param(AVIF[:32], "image_corrupt", id="3-avif-signature"),
        pytest.param(PNG[:29] + bytes((PNG[29] ^ 1,)) + PNG[30:], "image_corrupt", id="4-ihdr-crc"),
        *(pytest.param(cut(JPEG, p), "image_corrupt", id=f"5-jpeg-cut-{p}") for p in (10, 25, 50, 75, 90, 99)),
        *(pytest.param(cut(PNG, p), "image_corrupt", id=f"6-png-cut-{p}") for p in (1, 10, 50, 90, 99)),
        pytest.param(PNG[:-12], "image_corrupt", id="6-png-no-iend"),
        pytest.param(JPEG[:-2], "image_corrupt", id="7-jpeg-no-eoi"),
        pytest.param(cut(WEBP, 50), "image_corrupt", id="8-webp-half"),
        pytest.param(cut(AVIF, 50), "image_corrupt", id="8-avif-half"),
        pytest.param(cut(AVIF, 99), "image_corrupt", id="8-avif-cut-99"),
        pytest.param(cut(make.animation("GIF"), 70), "image_corrupt", id="8-gif-cut"),
        pytest.param(make.png(64, 48, make.rows(make.noise(64, 20))), "image_corrupt", id="9-short-idat"),
        pytest.param(make.png(0, 48, b""), "image_corrupt", id="10-png-zero-width"),
        pytest.param(make.jpeg_sized(64, 0), "image_corrupt", id="10-jpeg-zero-height"),
        pytest.param(make.jpeg_sized(0, 48), "image_corrupt", id="10-jpeg-zero-width"),
        pytest.param(make.gif(1, 0, 50), "image_corrupt", id="10-gif-zero-width"),
        pytest.param(make.gif(1, 50, 50, box=(0, 0, 0, 1)), "image_corrupt", id="10-gif-empty-frame"),
        pytest.param(make.gif(0, 50, 50), "image_corrupt", id="11-gif-no-frames"),
        pytest.param(make.apng(0, 0), "image_corrupt", id="11-apng-no-frames"),
        pytest.param(make.apng(3, 2), "image_corrupt", id="11-apng-fewer-than-announced"),
        pytest.param(make.apng(1, 400), "image_corrupt", id="11-apng-more-than-announced"),
        pytest.param(make.riff(), "image_corrupt", id="11-webp-no-picture"),
        pytest.param(make.plain("PNG", 1, 1), "image_dimensions", id="13-1x1"),
        pytest.param(make.png(1, 65535, make.rows(make.noise(1, 9))), "image_dimensions", id="14-1x65535"),
        pytest.param(make.png(65500, 65500, b""), "image_too_many_pixels", id="15-ihdr-65500"),
        pytest.param(make.png(2**31 - 1, 2**31 - 1, b""), "image_too_many_pixels", id="15-ihdr-2**31"),
        pytest.param(make.jpeg_sized(9000, 9000), "image_too_many_pixels", id="16-sof-9000"),
        pytest.param(make.one_bit_png(10000, 17000), "image_too_many_pixels", id="17-one-bit-png"),
        pytest.param(make.vp8l(16383, 8000), "image_too_many_pixels", id="18-webp-34-bytes"),
        pytest.param(make.vp8x(16383, 16383), "image_too_many_pixels", id="19-vp8x"),
        pytest.param(
            make.avif_that_says(64, 64, make.encode(Image.new("RGB", (8000, 8000)), "AVIF", speed=10)),
            "image_too_many_pixels",
            id="19-avif-container-lies",
        ),
        pytest.param(make.avif_that_says(16384, 16384, AVIF), "image_too_many_pixels", id="19-avif-ispe"),
        pytest.param(make.avif_that_says(65, 48, AVIF), "ok", id="19-avif-container-is-larger"),
        pytest.param(make.avif_that_says(60, 40, AVIF), "image_corrupt", id="19-avif-bitstream-is-larger"),
        pytest.param(make.gif(1, 65535, 65535), "image_too_many_pixels", id="20-gif-screen"),
        pytest.param(make.gif(1, 50, 50, box=(0, 0, 65535, 65535)), "image_too_many_pixels", id="20-gif-frame"),
        pytest.param(make.jpeg_sized(9000, 9000, progressive=True), "image_too_many_pixels", id="21-progressive"),
        pytest.param(
            make.png_with(make.chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000)))),
            "image_corrupt",
            id="22-ztxt",
        ),
        pytest.param(
            make.png_with(make.chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000)))),
            "image_corrupt",
            id="23-iccp",
        ),
        pytest.param(
            make.png_with(make.chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(1_000_000))) * 5000),
            "image_corrupt",
            id="23-iccp-again-and-again",
        ),
        pytest.param(make.png_with(make.chunk(b"tEXt", b"k\0v") * 100_000), "ok", id="24-text-chunks"),
        pytest.param(make.png_with(make.chunk(b"IDAT") * 100_000), "ok", id="25-empty-idats"),
        pytest.param(make.png_with(make.chunk(b"tEXt") * 300_000), "image_corrupt", id="25-too-many-chunks"),
        pytest.param(make.jpeg_with(make.segment(0xE1, b"Exif\0\0a") * 5000), "image_corrupt", id="25-jpeg-segments"),
        pytest.param(make.scan_bomb(200), "image_corrupt", id="25-jpeg-scans"),
        pytest.param(make.gif(1, 50, 50)[:-1] + b"!\xfe\x01a\0" * 50_000 + b";", "image_corrupt", id="25-gif-blocks"),
        pytest.param(make.gif(100_000, 100, 100), "image_too_many_frames", id="26-gif-100k"),
        pytest.param(make.gif(5000, 4000, 4000), "image_too_many_frames", id="27-gif-5000-large"),
        pytest.param(make.gif(501, 40, 40), "image_too_many_frames", id="27-gif-501"),
        pytest.param(make.gif(500, 40, 40), "ok", id="27-gif-500"),
        pytest.param(make.animation("AVIF", 501, size=(32, 32)), "image_too_many_frames", id="27-avif-501"),
        pytest.param(make.animation("WEBP", 501, size=(32, 32)), "image_too_many_frames", id="27-webp-501"),
        pytest.param(make.apng(501, 501), "image_too_many_frames", id="27-apng-501"),
        pytest.param(make.jpeg_with(make.segment(0xE1, b"Exif\0\0" + bytes(range(99)))), "ok", id="34-exif-garbage"),
        pytest.param(make.jpeg_with(make.segment(0xE1, make.looping_exif())), "ok", id="34-exif-loop"),
        pytest.param(make.jpeg_with(make.segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f")), "ok", id="34-exif-offset"),
        pytest.param(make.jpeg_with(make.segment(0xE2, b"ICC_PROFILE\0\x01\x01junk")), "ok", id="35-icc-jpeg"),
        pytest.param(make.png_with(make.chunk(b"iCCP", b"k\0\0" + zlib.compress(b"junk"))), "ok", id="35-icc-png"),
        pytest.param(make.plain("WEBP", icc_profile=b"junk"), "ok", id="35-icc-webp"),
        pytest.param(make.plain("AVIF", exif=make.looping_exif()), "ok", id="34-exif-avif"),
        pytest.param(JPEG + make.other_formats()["zip"], "ok", id="42-jpeg-zip"),
        pytest.param(PNG + b"<script>alert(1)</script>", "ok", id="42-png-html"),
        pytest.param(JPEG + bytes(9_000_000), "ok", id="42-jpeg-tail"),
        pytest.param(WEBP + bytes(1000), "ok", id="42-webp-tail"),
        pytest.param(make.gif(1, 50, 50) + bytes(1000), "ok", id="42-gif-tail"),
        pytest.param(bytes(1), "unsupported_image", id="2-nul"),
        pytest.param(JPEG + bytes(10_000_000), "payload_too_large", id="70-bytes"),
        pytest.param(make.jpeg_with(JPEG[JPEG.index(b"\xff\xc0") :][:19]), "image_corrupt", id="12-two-frame-headers"),
    ],
)
def test_fault(data: bytes, code: str) -> None:
    start_s = time.monotonic()
    assert code_of(data) == code
    assert time.monotonic() - start_s < LIMITS.timeout_s


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(make.png(65500, 65500, b""), id="15"),
        pytest.param(make.jpeg_sized(9000, 9000), id="16"),
        pytest.param(make.one_bit_png(10000, 17000), id="17"),
        pytest.param(make.vp8l(16383, 8000), id="18"),
        pytest.param(make.vp8x(16383, 16383), id="19"),
        pytest.param(make.gif(1, 65535, 65535), id="20"),
        pytest.param(make.jpeg_sized(9000, 9000, progressive=True), id="21"),
        pytest.param(make.gif(100_000, 100, 100), id="26"),
        pytest.param(make.gif(5000, 4000, 4000), id="27"),
    ],
)
def test_bombs_are_refused_by_the_header_alone(data: bytes) -> None:
    start_s = time.monotonic()
    with pytest.raises(GatewayError) as refused:
        inspect(data, LIMITS)
    assert refused.value.code in {"image_too_many_pixels", "image_too_many_frames"}
    assert time.monotonic() - start_s < 0.1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF"])
def test_12_random_byte_flips_never_crash(kind: str) -> None:
    dice = np.random.default_rng(12)
    seeds = [make.plain(kind), make.animation(kind, 3) if kind != "JPEG" else make.plain(kind, progressive=True)]
    seen = set()
    limits = DecodeLimits(max_pixels=1_000_000, timeout_s=2)
    for _ in range(400 if kind == "AVIF" else 1200):
        data = bytearray(seeds[dice.integers(2)])
        for _ in range(dice.integers(1, 9)):
            data[dice.integers(len(data) if dice.integers(2) else min(200, len(data)))] = dice.integers(256)
        if dice.integers(4) == 0:
            data = data[: dice.integers(len(data))]
        seen.add(code_of(bytes(data), limits))
    assert "internal_error" not in seen
    assert {"ok", "image_corrupt"} <= seen


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF"])
def test_12_headers_of_damaged_files_give_errors_of_ours_only(kind: str) -> None:
    dice = np.random.default_rng(13)
    whole = make.plain(kind) if kind == "JPEG" else make.animation(kind, 3)
    for _ in range(2000):
        data = bytearray(whole[: dice.integers(8, len(whole) + 1)])
        for _ in range(dice.integers(1, 30)):
            data[dice.integers(len(data))] = dice.choice([0, 1, 255, 127, 128, 8, 0x2C, 0x21])
        try:
            inspect(bytes(data), LIMITS)
        except GatewayError:
            continue


def test_43_mpo_is_its_first_picture() -> None:
    with open_image(make.mpo(), LIMITS, seed=1) as image:
        frames = list(image.frames())
    assert (image.info.format, image.info.frames, len(frames)) == ("jpeg", 1, 1)
    assert frames[0].rgb.getpixel((30, 20)) == (254, 0, 0)


@pytest.mark.parametrize("fault", [MemoryError(), RecursionError(), struct.error("secret"), AssertionError("secret")])
def test_44_a_decoder_that_gives_up_is_undecodable(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: object) -> None:
        raise fault

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(ImageUndecodable) as refused:
        decode(PNG)
    assert "secret" not in refused.value.detail
    assert decode(JPEG).format == "jpeg"


def test_44_time_is_bounded_between_frames() -> None:
    start_s = time.monotonic()
    assert code_of(make.gif(400, 3000, 3000), DecodeLimits(timeout_s=0.5)) == "image_undecodable"
    assert time.monotonic() - start_s < 2


def test_44_time_is_bounded_between_reads() -> None:
    heavy = make.png_with(*(make.chunk(b"sPLT", bytes(8)) for _ in range(200_000)))
    assert code_of(heavy, DecodeLimits(timeout_s=0.01)) == "image_undecodable"


def test_36_the_content_decides_not_the_name() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "AVIF"):
        assert decode(make.plain(kind)).format == kind.lower()


def test_35_a_real_profile_is_ignored_too() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    pixels = Image.fromarray(make.noise())
    with open_image(make.encode(pixels, "PNG", icc_profile=srgb), LIMITS, seed=1) as image:
        assert np.array_equal(np.asarray(next(image.frames()).rgb), np.asarray(pixels))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_the_memory_estimate_covers_the_pixels(kind: str) -> None:
    header = inspect(make.plain(kind, 400, 300), LIMITS)
    assert header.decode_bytes >= 400 * 300 * 4
    assert (header.width, header.height) == (400, 300)
