"""Pictures against pixels that were known before their file was made, and files that no part of Pillow wrote."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from gateway.decoding.decoder import DecodeLimits, inspect, open_image
from gateway.errors import ImageCorrupt
from tests.support import awkward_images as make
from tests.support import icc_profiles as profiles
from tests.support.flat_jpeg import blown_up, flat_jpeg
from tests.support.hostile_images import from_inks, upright

LIMITS = DecodeLimits()
FLAT = make.noise(9, 6)  # uint8 [6, 9, 3], a colour for each block of a JPEG
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7 (W3C PNG 8.1): first column, first row, step of columns, step of rows."""


def pixels(data: bytes) -> make.Pixels:
    """Return the only frame as uint8 [height, width, 3]."""
    with open_image(data, LIMITS, seed=1) as image:
        (frame,) = image.frames()
        assert frame.rgb.size == (image.info.width, image.info.height)
    assert inspect(data, LIMITS).oriented_size == frame.rgb.size or image.info.format == "avif"
    return np.asarray(frame.rgb)


def difference(data: bytes, expected: make.Pixels) -> int:
    """Return the largest difference of any sample."""
    got = pixels(data)
    assert got.shape == expected.shape
    return int(np.abs(got.astype(int) - expected.astype(int)).max())


def over_white(rgb: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> make.Pixels:
    share = alpha.astype(float)[..., None] / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


# --- JPEG ------------------------------------------------------------------------------------------------------------


def test_jpeg_grey() -> None:
    assert difference(flat_jpeg(FLAT[..., :1]), blown_up(FLAT[..., :1]).repeat(3, axis=2)) == 0


def test_jpeg_rgb_by_adobes_marker() -> None:
    assert difference(flat_jpeg(FLAT, adobe=0), blown_up(FLAT)) == 0


def test_no_jpeg_is_decoded_at_another_scale_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    def drafted(*_: object) -> None:
        pytest.fail("draft was called")

    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", drafted)
    large = np.tile(FLAT, (20, 20, 1))  # 1440 x 960: several times what any model looks at
    assert difference(flat_jpeg(large, adobe=0), blown_up(large)) == 0


@pytest.mark.parametrize("adobe", [None, 1])
def test_jpeg_ycbcr(adobe: int | None) -> None:
    y, cb, cr = (FLAT[..., channel].astype(float) for channel in range(3))
    # JFIF 1.02: red, green and blue of luma and two differences of colour.
    planes = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)]
    expected = np.rint(np.clip(np.stack(planes, axis=-1), 0, 255)).astype(np.uint8)
    assert difference(flat_jpeg(FLAT, adobe=adobe), blown_up(expected)) <= 1


@pytest.mark.parametrize("adobe", [None, 0])
def test_29_cmyk_is_stored_inverted_with_and_without_adobes_marker(adobe: int | None) -> None:
    inks = make.noise(9, 6, channels=4)
    assert difference(flat_jpeg(255 - inks, adobe=adobe), from_inks(blown_up(inks))) == 0


def test_29_ycck() -> None:
    stored = make.noise(9, 6, channels=4)
    stored[..., 1:3] = 128  # no colour: cyan, magenta and yellow are alike
    inks = np.dstack([stored[..., :1].repeat(3, axis=2), 255 - stored[..., 3:]])
    assert difference(flat_jpeg(stored, adobe=2), from_inks(blown_up(inks))) == 0


def test_29_a_cmyk_profile_is_applied() -> None:
    inks = make.noise(9, 6, channels=4)
    body = profiles.split_into_segments(profiles.everything_grey())
    data = make.jpeg_with(make.segment(0xE2, body), data=flat_jpeg(255 - inks, adobe=0))
    assert difference(data, np.full_like(blown_up(inks)[..., :3], 194)) <= 1
    assert changes_colours(profiles.everything_grey(), Image.new("CMYK", (8, 8), (200, 30, 90, 40)))


# --- profiles --------------------------------------------------------------------------------------------------------


def changes_colours(profile: bytes, picture: Image.Image) -> bool:
    """Say whether a viewer that applies a profile shows a picture differently: else the tests say nothing."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    shown = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert shown is not None
    return bool(np.abs(np.asarray(shown).astype(int) - np.asarray(picture.convert("RGB"))).max() > 40)


def test_35_a_profile_of_other_primaries_is_applied() -> None:
    profile = profiles.swapped_primaries()
    picture = Image.fromarray(make.noise())
    assert changes_colours(profile, picture)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    expected = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"))
    for kind in ("PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = make.encode(picture, kind, icc_profile=profile, **options)
        with open_image(data, DecodeLimits(), seed=1) as image:
            (frame,) = image.frames()
        assert frame.conversion is not None
        assert np.abs(np.asarray(frame.conversion(frame.rgb)).astype(int) - np.asarray(expected)).max() <= 2


# --- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(11))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_33_orientation(kind: str, orientation: int) -> None:
    block, stored = make.exif(orientation), blown_up(FLAT)
    if kind == "JPEG":
        data = make.jpeg_with(make.segment(0xE1, block), data=flat_jpeg(FLAT, adobe=0))
    elif kind == "PNG":
        data = make.png(72, 48, make.rows(stored), make.chunk(b"eXIf", block.removeprefix(b"Exif\0\0")))
    elif kind == "WEBP":
        data = make.encode(Image.fromarray(stored), kind, lossless=True, exif=block)
    else:
        data = make.encode(Image.fromarray(stored), kind, quality=100, subsampling="4:4:4", exif=block)
    # AVIF is stored as YCbCr, and states a turn by properties of its own: what EXIF says besides counts for nothing.
    assert difference(data, upright(stored, orientation)) <= (6 if kind == "AVIF" else 0)


# --- PNG, interlaced -------------------------------------------------------------------------------------------------


def interlaced(samples: npt.NDArray[Any], passes: int = 7) -> bytes:
    """Return a PNG of uint8 [height, width, 3] in Adam7's order, whose data may end early."""
    height, width = samples.shape[:2]
    rows = b"".join(
        make.rows(samples[first_row::row_step, first::step])
        for first, first_row, step, row_step in PASSES[:passes]
        if samples[first_row::row_step, first::step].size
    )
    head = make.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + head + make.chunk(b"IDAT", zlib.compress(rows)) + make.chunk(b"IEND")


@pytest.mark.parametrize(("width", "height"), [(64, 48), (33, 47), (40, 33)])
def test_interlaced_png(width: int, height: int) -> None:
    samples = make.noise(width, height)
    assert np.array_equal(pixels(interlaced(samples)), samples)


@pytest.mark.parametrize("passes", [1, 3, 5, 6])
def test_9_interlaced_png_whose_last_passes_are_missing(passes: int) -> None:
    for height in (47, 48):
        with pytest.raises(ImageCorrupt):
            pixels(interlaced(make.noise(64, height), passes))


# --- GIF -------------------------------------------------------------------------------------------------------------


def gif(index: make.Pixels, colours: make.Pixels, *, clear: int | None, local: bool, rows_apart: bool) -> bytes:
    """Return a GIF (GIF89a) of an index [height, width] into colours [256, 3].

    Args:
        index: of each pixel.
        colours: of the picture, as the frame's own table or the file's.
        clear: the index that is see-through.
        local: the table is the frame's; the file's is another one.
        rows_apart: in the interlaced order.
    """
    height, width = index.shape
    order = [row for start, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for row in range(start, height, step)]
    codes = index[order] if rows_apart else index
    table = (255 - colours if local else colours).tobytes()
    control = b"" if clear is None else b"!\xf9\x04" + bytes((1, 0, 0, clear, 0))
    flags = (0x87 if local else 0) | (0x40 if rows_apart else 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, flags) + (colours.tobytes() if local else b"")
    body = packed(codes.ravel().tolist())
    blocks = b"".join(bytes((len(body[at : at + 255]),)) + body[at : at + 255] for at in range(0, len(body), 255))
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + table
    return screen + control + frame + b"\x08" + blocks + b"\0;"


def packed(values: list[int]) -> bytes:
    """Return LZW codes of nine bits, the table cleared before it asks for ten."""
    codes = [code for at in range(0, len(values), 200) for code in (256, *values[at : at + 200])]
    number = sum(code << (9 * position) for position, code in enumerate([*codes, 257]))
    return number.to_bytes((9 * (len(codes) + 1) + 7) // 8, "little")


@pytest.mark.parametrize("rows_apart", [False, True])
@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("clear", [None, 7])
def test_30_gif(clear: int | None, local: bool, rows_apart: bool) -> None:  # noqa: FBT001
    index, colours = make.noise(channels=1)[..., 0] % 32, make.noise(1, 256)[:, 0]
    data = gif(index, colours, clear=clear, local=local, rows_apart=rows_apart)
    alpha = np.full(index.shape, 255) if clear is None else np.where(index == clear, 0, 255)
    assert np.array_equal(pixels(data), over_white(colours[index], alpha))


# --- alpha of the coded formats ---------------------------------------------------------------------------------------


def test_32_webp_with_alpha() -> None:
    samples = make.noise(channels=4)
    data = make.encode(Image.fromarray(samples), "WEBP", lossless=True, exact=True)
    assert difference(data, over_white(samples[..., :3], samples[..., 3])) <= 1


def test_32_avif_with_alpha() -> None:
    y, x = np.mgrid[:48, :64]
    samples = np.stack([x * 4, y * 5, np.full_like(x, 90), np.where(x < 32, 40, 200)], axis=-1).astype(np.uint8)
    data = make.encode(Image.fromarray(samples), "AVIF", quality=100, subsampling="4:4:4")
    assert difference(data, over_white(samples[..., :3], samples[..., 3])) <= 6
