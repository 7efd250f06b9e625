"""Each way a picture stores its colours, against the same conversion written out in numpy."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from gateway.decoding.decoder import DecodeLimits, Frame, ImageInfo, open_image
from gateway.errors import ImageCorrupt
from tests.support import awkward_images as make

LIMITS = DecodeLimits()
PIXELS = make.noise()


def frames(data: bytes, limits: DecodeLimits = LIMITS, seed: int = 1) -> tuple[ImageInfo, list[Frame]]:
    with open_image(data, limits, seed=seed) as image:
        found = list(image.frames())
        return image.info, found


def pixels(data: bytes, limits: DecodeLimits = LIMITS) -> make.Pixels:
    """Return the only frame as uint8 [height, width, 3]."""
    _, (frame,) = frames(data, limits)
    assert frame.time_ms is None
    return np.asarray(frame.rgb)


def over(rgb: npt.NDArray[Any], alpha: npt.NDArray[Any], background: int = 255) -> make.Pixels:
    """Composite uint8 [h, w, 3] by uint8 [h, w] on one grey, rounded to nearest."""
    weight = alpha.astype(np.int64)[..., None]
    return ((rgb.astype(np.int64) * weight + background * (255 - weight) + 127) // 255).astype(np.uint8)


def grey(samples: npt.NDArray[Any]) -> make.Pixels:
    return np.repeat(samples.astype(np.uint8)[..., None], 3, axis=2)


def test_rgb_is_untouched() -> None:
    assert np.array_equal(pixels(make.png(64, 48, make.rows(PIXELS))), PIXELS)
    assert np.array_equal(pixels(make.plain("WEBP", lossless=True)), PIXELS)


def test_30_palette() -> None:
    palette = make.noise(1, 256)[:, 0]
    index = make.noise(channels=1)[..., 0]
    data = make.png(64, 48, make.rows(index), make.chunk(b"PLTE", palette.tobytes()), colour=3)
    assert np.array_equal(pixels(data), palette[index])


def test_30_palette_with_transparency_of_each_entry() -> None:
    palette, alphas = make.noise(1, 256)[:, 0], make.noise(1, 256, channels=1, seed=3)[:, 0, 0]
    index = make.noise(channels=1)[..., 0]
    data = make.png(
        64,
        48,
        make.rows(index),
        make.chunk(b"PLTE", palette.tobytes()),
        make.chunk(b"tRNS", alphas.tobytes()),
        colour=3,
    )
    assert np.array_equal(pixels(data), over(palette[index], alphas[index]))


def test_30_palette_of_four_bits_with_one_transparent_entry() -> None:
    palette = make.noise(1, 16)[:, 0]
    index = make.noise(channels=1)[..., 0] % 16
    packed = (index[:, ::2] << 4) | index[:, 1::2]
    chunks = (make.chunk(b"PLTE", palette.tobytes()), make.chunk(b"tRNS", b"\xff\xff\x00"))
    data = make.png(64, 48, make.rows(packed), *chunks, depth=4, colour=3)
    assert np.array_equal(pixels(data), over(palette[index], np.where(index == 2, 0, 255)))


def test_30_grey_with_alpha() -> None:
    samples = make.noise(channels=2)
    data = make.png(64, 48, make.rows(samples), colour=4)
    assert np.array_equal(pixels(data), over(grey(samples[..., 0]), samples[..., 1]))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_30_grey_of_few_bits(depth: int) -> None:
    index = make.noise(channels=1)[..., 0] >> (8 - depth)
    each = 8 // depth
    packed = np.zeros((48, 64 // each), np.uint8)
    for k in range(each):
        packed |= index[:, k::each] << (8 - depth * (k + 1))
    data = make.png(64, 48, make.rows(packed), depth=depth, colour=0)
    assert np.array_equal(pixels(data), grey(index.astype(np.int64) * 255 // (2**depth - 1)))


def test_30_one_bit_with_colour_key() -> None:
    index = make.noise(channels=1)[..., 0] & 1
    packed = np.packbits(index, axis=1)
    data = make.png(64, 48, make.rows(packed), make.chunk(b"tRNS", b"\0\0"), depth=1, colour=0)
    assert (pixels(data) == 255).all()  # black is transparent, so everything is white


def test_30_grey_with_colour_key() -> None:
    samples = make.noise(channels=1)[..., 0]
    data = make.png(64, 48, make.rows(samples), make.chunk(b"tRNS", b"\0\x07"), colour=0)
    assert np.array_equal(pixels(data), over(grey(samples), np.where(samples == 7, 0, 255)))


def test_30_rgb_with_colour_key() -> None:
    key = tuple(int(v) for v in PIXELS[3, 5])
    data = make.png(64, 48, make.rows(PIXELS), make.chunk(b"tRNS", struct.pack(">3H", *key)))
    assert np.array_equal(pixels(data), over(PIXELS, np.where(np.equal(PIXELS, key).all(axis=2), 0, 255)))


def test_31_16_bit_grey_is_scaled() -> None:
    samples = np.random.default_rng(5).integers(0, 65536, (48, 64), dtype=np.uint16)
    samples[0, :3] = 40000, 0, 65535
    got = pixels(make.png(64, 48, make.rows(samples), depth=16, colour=0))
    assert np.array_equal(got, grey(samples >> 8))
    assert got[0, :3, 0].tolist() == [156, 0, 255]


def test_31_16_bit_grey_with_colour_key() -> None:
    samples = np.full((48, 64), 40000, np.uint16)
    samples[:, 32:] = 40001  # the same high byte, and not transparent
    data = make.png(64, 48, make.rows(samples), make.chunk(b"tRNS", struct.pack(">H", 40000)), depth=16, colour=0)
    assert pixels(data)[0, [0, 63], 0].tolist() == [255, 156]


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_31_16_bit_colour_and_alpha(colour: int, channels: int) -> None:
    samples = np.random.default_rng(6).integers(0, 65536, (48, 64, channels), dtype=np.uint16)
    got = pixels(make.png(64, 48, make.rows(samples), depth=16, colour=colour))
    high = (samples >> 8).astype(np.uint8)
    rgb = high[..., :3] if colour != 4 else grey(high[..., 0])
    assert np.array_equal(got, rgb if colour == 2 else over(rgb, high[..., -1]))


def test_31_16_bit_rgb_with_colour_key() -> None:
    samples = np.full((48, 64, 3), 0x1234, np.uint16)
    samples[:, 32:] = 0x8000
    data = make.png(64, 48, make.rows(samples), make.chunk(b"tRNS", struct.pack(">3H", *[0x8000] * 3)), depth=16)
    assert pixels(data)[0, [0, 63], 0].tolist() == [0x12, 255]


@pytest.mark.parametrize("background", [255, 0, 127])
def test_32_alpha_is_composited_on_the_background(background: int) -> None:
    samples = make.noise(channels=4)
    samples[:, :20, 3] = 0
    got = pixels(make.png(64, 48, make.rows(samples), colour=6), DecodeLimits(background=(background,) * 3))
    assert np.array_equal(got, over(samples[..., :3], samples[..., 3], background))
    assert (got[:, :20] == background).all()


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "AVIF"])
def test_32_what_hides_under_alpha_0_is_not_seen(kind: str) -> None:
    samples = make.noise(channels=4)
    samples[..., 3] = 0
    assert (pixels(make.encode(Image.fromarray(samples), kind)) == 255).all()


def test_grey_jpeg() -> None:
    grey_jpeg = make.encode(Image.fromarray(PIXELS).convert("L"), "JPEG")
    with Image.open(io.BytesIO(grey_jpeg)) as reference:
        assert np.array_equal(pixels(grey_jpeg), np.asarray(reference.convert("RGB")))


def test_metadata_left_out_changes_no_pixel() -> None:
    data = make.plain("JPEG", exif=make.exif(1), comment=b"hello", icc_profile=bytes(200_000), progressive=True)
    with Image.open(io.BytesIO(data)) as reference:
        assert np.array_equal(pixels(data), np.asarray(reference))


@pytest.mark.parametrize("order", ["little", "big"])
def test_33_both_byte_orders(order: str) -> None:
    mark, sign = (b"II*\0", "<") if order == "little" else (b"MM\0*", ">")
    block = mark + struct.pack(sign + "LHHHLHHL", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    info, _ = frames(make.png_with(make.chunk(b"eXIf", block)))
    assert (info.width, info.height) == (48, 64)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_28_animation_frames_and_times(kind: str) -> None:
    info, got = frames(make.animation(kind, 6))
    assert (info.frames, info.frames_analyzed) == (6, 6)
    assert [frame.time_ms for frame in got] == [0, 100, 200, 300, 400, 500]
    for number, frame in enumerate(got):
        pixel = frame.rgb.getpixel((30, 20))
        assert isinstance(pixel, tuple)
        assert np.abs(np.subtract(pixel, (40 * number, 0, 200))).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_28_first_and_last_are_always_seen(kind: str) -> None:
    info, got = frames(make.animation(kind, 6), DecodeLimits(sampled_frames=3), seed=4)
    assert (info.frames, info.frames_analyzed, len(got)) == (6, 3, 3)
    assert (got[0].time_ms, got[-1].time_ms) == (0, 500)
    assert got[1].time_ms in {100, 200, 300, 400}


def test_28_disposal_and_partial_frames_match_pillow() -> None:
    pictures = [Image.fromarray(make.noise(seed=k)).quantize(32) for k in range(5)]
    for disposal in (1, 2, 3):
        data = make.encode(pictures[0], "GIF", save_all=True, append_images=pictures[1:], disposal=disposal)
        _, got = frames(data)
        with Image.open(io.BytesIO(data)) as reference:
            for index, frame in enumerate(got):
                reference.seek(index)
                white = Image.new("RGBA", reference.size, "white")
                white.alpha_composite(reference.convert("RGBA"))
                assert np.array_equal(np.asarray(frame.rgb), np.asarray(white.convert("RGB")))


def test_28_a_frame_that_sticks_out_is_seen_whole() -> None:
    info, got = frames(make.gif(3, 40, 40, box=(50, 60, 1, 1)))
    assert (info.width, info.height) == (51, 61)
    assert all(frame.rgb.size == (51, 61) for frame in got)


def test_28_a_broken_late_frame_is_corrupt() -> None:
    data = make.apng(4, 4)
    at = data.rindex(b"fdAT") + 8
    with pytest.raises(ImageCorrupt):
        frames(data[:at] + b"\xff" * 20 + data[at + 20 :])


def test_frames_are_decoded_lazily_and_stay_valid() -> None:
    with open_image(make.animation("GIF", 6), LIMITS, seed=1) as image:
        walk = image.frames()
        first = next(walk).rgb
        before = first.tobytes()
        for _ in walk:
            pass
    assert first.tobytes() == before
