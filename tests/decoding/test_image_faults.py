"""Hostile and broken pictures; the number in a test's id is the one in the list of faults."""

from __future__ import annotations

import struct
import time
from dataclasses import replace

import numpy as np
import pytest

from gateway.decoding.decoder import DecodeLimits, ImageInfo, inspect, open_image
from gateway.errors import GatewayError, ImageUndecodable
from tests.support import awkward_images as make
from tests.support.hostile_images import MANY_FRAMES, MANY_PIXELS, Hostile, hostile_pictures

LIMITS = DecodeLimits(max_bytes=10 * 1024 * 1024)  # as the service's default is


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


PNG, JPEG = make.plain("PNG"), make.plain("JPEG")
PICTURES = [one for one in hostile_pictures() if not one.confined]


@pytest.mark.parametrize("hostile", PICTURES, ids=lambda hostile: hostile.id)
def test_fault(hostile: Hostile) -> None:
    data = hostile.make()
    start_s = time.thread_time()
    assert code_of(data) == (hostile.outcomes[0].partition(" ")[2] or "ok")
    assert time.thread_time() - start_s < LIMITS.timeout_s


@pytest.mark.parametrize("hostile", [one for one in PICTURES if one.seen], ids=lambda hostile: hostile.id)
def test_what_is_accepted_shows_what_is_in_it(hostile: Hostile) -> None:
    assert hostile.seen is not None
    with open_image(hostile.make(), LIMITS, seed=1) as image:
        (frame,) = image.frames()
    assert np.array_equal(np.asarray(frame.rgb), hostile.seen())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(JPEG + bytes(11_000_000), "payload_too_large", id="70-bytes"),
        pytest.param(make.jpeg_with(JPEG[JPEG.index(b"\xff\xc0") :][:19]), "image_corrupt", id="12-two-frame-headers"),
    ],
)
def test_more_faults(data: bytes, code: str) -> None:
    assert code_of(data) == code


HEADER_ALONE = [one for one in PICTURES if one.outcomes[0] in {MANY_PIXELS, MANY_FRAMES}]


@pytest.mark.parametrize("hostile", HEADER_ALONE, ids=lambda hostile: hostile.id)
def test_bombs_are_refused_by_the_header_alone(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(_: object) -> None:
        pytest.fail("a decoder was entered")

    data = hostile.make()
    monkeypatch.setattr("gateway.decoding.decoder.plugin_of", opened)
    start_s = time.thread_time()
    with pytest.raises(GatewayError) as refused:
        open_image(data, LIMITS, seed=1)
    assert refused.value.code in {"image_too_many_pixels", "image_too_many_frames"}
    assert time.thread_time() - start_s < 0.1


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


def test_fill_bytes_are_passed_over_once() -> None:
    """8 MB of 0xFF, of which any number may precede a marker: reading them takes milliseconds, not the time squared."""
    fill, scan = b"\xff" * 8_000_000, JPEG.index(b"\xff\xda")
    assert code_of(JPEG[:2] + fill) == "image_corrupt"
    assert code_of(JPEG + fill) == "ok"
    assert decode(JPEG[:scan] + fill + JPEG[scan:]) == replace(
        decode(JPEG), sha256=decode(JPEG[:scan] + fill + JPEG[scan:]).sha256
    )


def test_43_mpo_is_its_first_picture() -> None:
    assert decode(make.mpo()) == replace(decode(make.mpo()), format="jpeg", frames=1, frames_analyzed=1)


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
    start_s = time.thread_time()
    assert code_of(make.gif(400, 3000, 3000), DecodeLimits(timeout_s=0.5)) == "image_undecodable"
    assert time.thread_time() - start_s < 2


def test_44_time_is_bounded_between_reads() -> None:
    heavy = make.png_with(*(make.chunk(b"sPLT", bytes(8)) for _ in range(200_000)))
    assert code_of(heavy, DecodeLimits(timeout_s=0.01)) == "image_undecodable"


def test_36_the_content_decides_not_the_name() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "AVIF"):
        assert decode(make.plain(kind)).format == kind.lower()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_the_memory_estimate_covers_the_pixels(kind: str) -> None:
    header = inspect(make.plain(kind, 400, 300), LIMITS)
    assert header.decode_bytes() >= 400 * 300 * 4
    assert (header.width, header.height) == (400, 300)
