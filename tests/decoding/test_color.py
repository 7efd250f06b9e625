"""Signalled colors become sRGB: each format and signal against the picture itself, and against what Chromium shows."""

from __future__ import annotations

import base64
import io
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from gateway.decoding.decoder import DecodeLimits, inspect, open_image
from gateway.decoding.headers.color import MAX_PROFILE_BYTES, Color, kind_of_profile, read_profile
from gateway.decoding.headers.header import ALWAYS_ACCEPTED
from gateway.decoding.preprocess import Job, prepare
from gateway.observability.stage_timer import StageTimer
from tests.support import awkward_images as make
from tests.support import icc_profiles as profiles
from tests.support.heic_files import gradient, heic

FOUND = Path(__file__).parents[1] / "corpus" / "found"
LIMITS = DecodeLimits(min_side_px=1, formats=ALWAYS_ACCEPTED | {"heic"})
RAMP = np.repeat(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 16, axis=0), 3, axis=2)
NOISE = make.noise(256, 16)

PQ = {16: 1, 64: 30, 96: 70, 128: 132, 148: 187, 160: 213, 192: 255, 255: 255}
HLG = {16: 3, 64: 43, 96: 71, 128: 99, 148: 120, 160: 135, 192: 189, 255: 255}
LINEAR = {16: 71, 64: 137, 128: 188, 192: 225}
FOURTH = {64: 13, 96: 39, 128: 71, 192: 154}  # a power of 4
AS_STORED = {16: 16, 64: 64, 128: 128, 192: 192}
"""Grey levels and what Chromium 156 shows of them on a display of sRGB."""

DARK = profiles.of_display(profiles.power(4))
DARK_GREY = profiles.of_display(profiles.power(4), space=b"GRAY")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def shown(data: bytes) -> make.Pixels:
    """Return the first frame in the colors that are judged."""
    with open_image(data, LIMITS, seed=1) as image:
        frame = next(image.frames())
    return np.asarray(frame.rgb if frame.conversion is None else frame.conversion(frame.rgb))


def png(samples: make.Pixels, *chunks: bytes) -> bytes:
    return make.png(
        samples.shape[1], samples.shape[0], make.rows(samples), *chunks, colour=2 if samples.ndim == 3 else 0
    )


def cicp(primaries: int, transfer: int, matrix: int = 0, full: int = 1) -> bytes:
    return make.chunk(b"cICP", bytes((primaries, transfer, matrix, full)))


def iccp(profile: bytes) -> bytes:
    return make.chunk(b"iCCP", b"a name\0\0" + zlib.compress(profile))


def gamma(encoder: float) -> bytes:
    return make.chunk(b"gAMA", struct.pack(">L", round(100_000 * encoder)))


def chromaticities(*values: float) -> bytes:
    return make.chunk(b"cHRM", struct.pack(">8L", *(round(100_000 * value) for value in values)))


def damaged(chunk: bytes) -> bytes:
    """Return a chunk whose checksum is wrong."""
    return chunk[:-1] + bytes((chunk[-1] ^ 1,))


def avif(primaries: int, transfer: int, samples: make.Pixels = RAMP, **options: Any) -> bytes:
    data = bytearray(make.encode(Image.fromarray(samples), "AVIF", quality=100, subsampling="4:4:4", **options))
    at = data.index(b"nclx") + 4
    data[at : at + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(data)


def saved(kind: str, profile: bytes, samples: make.Pixels = RAMP) -> bytes:
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "PNG": {}}.get(
        kind, {"quality": 100, "subsampling": "4:4:4"}
    )
    return make.encode(Image.fromarray(samples), kind, icc_profile=profile, **options)


def assert_shows(data: bytes, levels: dict[int, int], within: int = 1) -> None:
    row = shown(data)[8].astype(int)
    for level, expected in levels.items():
        assert np.abs(row[level] - expected).max() <= within, f"{level}: {row[level]}, not {expected}"


# --- PNG -------------------------------------------------------------------------------------------------------------

PNGS = {
    "PQ": ((cicp(9, 16),), PQ),
    "PQ of sRGB's primaries": ((cicp(1, 16),), PQ),
    "HLG": ((cicp(9, 18),), HLG),
    "linear": ((cicp(1, 8),), LINEAR),
    "BT.709": ((cicp(1, 1),), {64: 54, 128: 121, 192: 189}),
    "sRGB by code points": ((cicp(1, 13),), AS_STORED),
    "unspecified": ((cicp(2, 2),), AS_STORED),
    "logarithmic": ((cicp(1, 9),), AS_STORED),
    "PQ of unspecified primaries": ((cicp(2, 16),), AS_STORED),
    "narrow range": ((cicp(9, 16, 0, 0),), AS_STORED),
    "cICP of five bytes": ((make.chunk(b"cICP", bytes((9, 16, 0, 1, 0))),), AS_STORED),
    "cICP with a wrong checksum": ((damaged(cicp(9, 16)),), AS_STORED),
    "two cICP": ((cicp(1, 13), cicp(9, 16)), AS_STORED),
    "cICP of three bytes, and one of four": ((make.chunk(b"cICP", bytes((9, 16, 0))), cicp(9, 16)), PQ),
    "cICP before a profile": ((iccp(DARK), cicp(1, 13)), AS_STORED),
    "unspecified before a profile": ((cicp(2, 2), iccp(DARK)), FOURTH),
    "a profile": ((iccp(DARK),), FOURTH),
    "a profile before sRGB": ((iccp(DARK), make.chunk(b"sRGB", b"\0")), FOURTH),
    "a profile before gAMA": ((gamma(1), iccp(DARK)), FOURTH),
    "two profiles": ((iccp(SRGB), iccp(DARK)), AS_STORED),
    "a profile with a wrong checksum": ((damaged(iccp(DARK)),), AS_STORED),
    "a broken profile before gAMA": ((iccp(DARK[:200]), gamma(1)), LINEAR),
    "gAMA": ((gamma(1),), LINEAR),
    "sRGB before gAMA": ((gamma(1), make.chunk(b"sRGB", b"\0")), AS_STORED),
    "gAMA of sRGB": ((gamma(0.45455),), AS_STORED),
    "gAMA of zero": ((gamma(0),), AS_STORED),
    "gAMA that is extreme": ((gamma(0.00001),), {16: 0, 254: 0, 255: 255}),
    "gAMA with a wrong checksum": ((damaged(gamma(1)),), AS_STORED),
    "gAMA with chromaticities of nothing": ((gamma(1), chromaticities(*[0] * 8)), AS_STORED),
    "gAMA with two equal primaries": (
        (gamma(1), chromaticities(0.3127, 0.329, 0.64, 0.33, 0.64, 0.33, 0.15, 0.06)),
        AS_STORED,
    ),
    "cHRM alone": ((chromaticities(0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),), AS_STORED),
    "PQ by a profile": ((iccp(profiles.of_code_points(9, 16)),), PQ),
    "HLG by a profile": ((iccp(profiles.of_code_points(9, 18)),), HLG),
    "linear by a profile": ((iccp(profiles.of_code_points(1, 8)),), LINEAR),
    "a profile of grey": ((iccp(DARK_GREY),), AS_STORED),
    "a profile of inks": ((iccp(profiles.everything_grey()),), AS_STORED),
}


@pytest.mark.parametrize("name", PNGS)
def test_104_a_png_is_judged_as_chromium_shows_it(name: str) -> None:
    chunks, levels = PNGS[name]
    assert_shows(png(RAMP, *chunks), levels)


def test_104_chunks_behind_the_data_or_the_palette_say_nothing() -> None:
    plain = png(RAMP)
    for chunk in (cicp(9, 16), iccp(DARK), gamma(1)):
        assert_shows(plain[:-12] + chunk + plain[-12:], AS_STORED)
    palette = make.chunk(b"PLTE", RAMP[0].tobytes())
    behind = make.png(256, 16, make.rows(RAMP[..., 0]), palette, cicp(9, 16), colour=3)
    assert_shows(behind, AS_STORED)
    assert_shows(make.png(256, 16, make.rows(RAMP[..., 0]), palette, iccp(DARK), colour=3), FOURTH)


@pytest.mark.parametrize(
    ("chunk", "levels"), [(cicp(9, 16), PQ), (iccp(DARK), FOURTH), (iccp(DARK_GREY), FOURTH), (gamma(1), LINEAR)]
)
def test_104_a_grey_png_is_converted_too(chunk: bytes, levels: dict[int, int]) -> None:
    assert_shows(png(RAMP[..., 0], chunk), levels)
    assert_shows(make.png(256, 16, make.rows(RAMP[..., 0].astype("u2") * 257), chunk, depth=16, colour=0), levels)
    opaque = np.dstack([RAMP[..., 0], np.full((16, 256), 255, np.uint8)])
    assert_shows(make.png(256, 16, make.rows(opaque), chunk, colour=4), levels)


def test_104_sixteen_bits_are_converted_from_their_high_byte() -> None:
    assert_shows(make.png(256, 16, make.rows(RAMP.astype("u2") * 257), cicp(9, 16), depth=16), PQ)


def test_104_colors_are_converted_before_they_are_composited() -> None:
    half = np.dstack([RAMP, np.full((16, 256), 128, np.uint8)])
    assert_shows(make.png(256, 16, make.rows(half), cicp(9, 16), colour=6), {16: 127, 64: 142, 128: 193, 192: 255})


# --- the other formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_104_a_profile_is_applied_in_every_format(kind: str) -> None:
    assert_shows(saved(kind, DARK), FOURTH)
    for same in (SRGB, profiles.of_display(profiles.srgb_curve())):
        assert inspect(saved(kind, same), LIMITS).color is None or kind != "JPEG"
        assert_shows(saved(kind, same), AS_STORED)


def wide(samples: make.Pixels) -> make.Pixels:
    """Return sRGB's samples as Display P3's."""
    level = samples / 255
    light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    to_xyz, from_xyz = (np.array(colorants).T for colorants in (profiles.SRGB_COLORANTS, profiles.P3_COLORANTS))
    light = (light @ np.linalg.solve(from_xyz, to_xyz).T).clip(0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * encoded).round().astype(np.uint8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIC"])
def test_104_a_picture_in_display_p3_is_the_picture(kind: str) -> None:
    picture = gradient(256, 160)
    profile = profiles.of_display(profiles.srgb_curve(), profiles.P3_COLORANTS)
    if kind == "HEIC":
        data = heic(pytest.importorskip("pillow_heif"), wide(picture), icc_profile=profile)
    else:
        data = saved(kind, profile, wide(picture))
    assert np.abs(wide(picture).astype(int) - picture).mean() > 4
    difference = np.abs(shown(data).astype(int) - picture)
    assert difference.mean() < (1 if kind in {"PNG", "WEBP"} else 2.5)


@pytest.mark.parametrize(
    ("points", "levels"),
    [
        ((9, 16), PQ),
        ((2, 16), PQ),
        ((9, 18), HLG),
        ((1, 8), LINEAR),
        ((1, 13), AS_STORED),
        ((1, 1), AS_STORED),
        ((2, 2), AS_STORED),
        ((1, 4), {16: 7, 64: 62, 128: 129}),
    ],
)
def test_104_an_avif_is_judged_as_chromium_shows_it(points: tuple[int, int], levels: dict[int, int]) -> None:
    assert_shows(avif(*points), levels)


def of_bitstream(data: bytes, primaries: int, transfer: int) -> bytes:
    """Return an AVIF whose sequence header states these code points instead of sRGB's, and whose box is gone."""
    at = data.index(b"mdat") + 4
    bits = "".join(f"{byte:08b}" for byte in data[at : at + 64])
    stated = bits.index(f"{1:08b}{13:08b}")
    changed = bits[:stated] + f"{primaries:08b}{transfer:08b}" + bits[stated + 16 :]
    whole = data[:at] + int(changed, 2).to_bytes(64, "big") + data[at + 64 :]
    return whole.replace(b"colrnclx", b"freenclx")


@pytest.mark.parametrize(("points", "levels"), [((9, 16), PQ), ((9, 18), HLG), ((1, 13), AS_STORED), ((1, 8), LINEAR)])
def test_104_where_an_avifs_boxes_say_nothing_its_bitstream_counts(
    points: tuple[int, int], levels: dict[int, int]
) -> None:
    assert_shows(of_bitstream(avif(1, 13), *points), levels)
    frames = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    moving = make.encode(frames[0], "AVIF", save_all=True, append_images=frames[1:], quality=100)
    assert_shows(of_bitstream(moving, *points), levels, within=3)


def test_104_an_avifs_box_goes_before_its_bitstream() -> None:
    assert_shows(of_bitstream(avif(1, 13), 9, 16).replace(b"freenclx", b"colrnclx"), AS_STORED)


def test_104_an_avifs_profile_goes_before_its_code_points() -> None:
    assert_shows(make.encode(Image.fromarray(RAMP), "AVIF", quality=100, icc_profile=DARK), FOURTH)


def test_104_a_moving_avif_is_converted() -> None:
    frames = [Image.fromarray(RAMP), Image.fromarray(RAMP)]
    data = bytearray(make.encode(frames[0], "AVIF", save_all=True, append_images=frames[1:], quality=100))
    for at in [at for at in range(len(data)) if data.startswith(b"nclx", at)]:
        data[at + 4 : at + 8] = struct.pack(">HH", 9, 16)
    assert_shows(bytes(data), PQ, within=3)


def test_104_a_heic_is_converted() -> None:
    data = bytearray(heic(pytest.importorskip("pillow_heif"), RAMP))
    assert_shows(bytes(data), AS_STORED, within=3)
    at = data.index(b"nclx") + 4
    data[at : at + 4] = struct.pack(">HH", 9, 16)
    assert_shows(bytes(data), PQ, within=4)


def test_104_a_webps_profile_needs_its_flag() -> None:
    data = bytearray(saved("WEBP", DARK))
    data[20] &= ~0x20
    assert_shows(bytes(data), AS_STORED)


def test_104_a_gif_has_no_profile() -> None:
    data = make.encode(Image.fromarray(RAMP[..., 0]), "GIF", icc_profile=DARK)
    assert_shows(data, AS_STORED)


def test_104_a_jpegs_profile_may_be_in_parts_of_which_all_have_to_be_there_once() -> None:
    plain = make.encode(Image.fromarray(RAMP), "JPEG", quality=100)

    def parts(*numbered: tuple[int, int, bytes]) -> bytes:
        bodies = (b"ICC_PROFILE\0" + bytes((number, total)) + part for number, total, part in numbered)
        return make.jpeg_with(*(make.segment(0xE2, body) for body in bodies), data=plain)

    first, second = DARK[:150], DARK[150:]
    assert_shows(parts((1, 2, first), (2, 2, second)), FOURTH)
    assert_shows(parts((2, 2, second), (1, 2, first)), FOURTH)
    for broken in (
        parts((1, 2, first)),
        parts((1, 2, first), (1, 2, first), (2, 2, second)),
        parts((1, 3, first), (2, 3, second)),
        parts((0, 1, DARK)),
        make.jpeg_with(make.segment(0xE2, b"ICC_PROFILE\0"), data=plain),
    ):
        assert_shows(broken, AS_STORED)


def test_104_grey_and_inks_and_profiles_of_other_models() -> None:
    grey = make.encode(Image.fromarray(RAMP[..., 0]), "JPEG", quality=100, icc_profile=DARK)
    assert_shows(grey, FOURTH)
    assert_shows(make.encode(Image.fromarray(RAMP[..., 0]), "JPEG", quality=100, icc_profile=DARK_GREY), FOURTH)
    assert_shows(saved("JPEG", DARK_GREY), AS_STORED)
    assert_shows(saved("JPEG", profiles.everything_grey()), AS_STORED)
    inks = Image.fromarray(np.dstack([0 * RAMP, 255 - RAMP])[..., [0, 3, 1, 2]], "CMYK")  # magenta alone
    for profile, green in ((b"", 64), (DARK, 64), (profiles.everything_grey(), 194)):
        data = make.encode(inks, "JPEG", quality=100, icc_profile=profile)
        assert abs(int(shown(data)[8, 64, 1]) - green) <= 2


def test_104_paper_without_ink_is_what_the_profile_says() -> None:
    paper = Image.new("CMYK", (64, 64))
    assert np.unique(shown(make.encode(paper, "JPEG", icc_profile=profiles.everything_grey()))).tolist() == [194]


# --- profiles that hide or hurt --------------------------------------------------------------------------------------


def test_104_a_curve_that_hides_the_picture() -> None:
    seen = shown((FOUND / "icc-curve.png").read_bytes())
    assert seen[120, 120].tolist() == [221, 34, 34]
    assert seen[5, 5].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_104_what_a_curve_hides_between_neighbours_is_not_averaged_away(kind: str) -> None:
    # Stored, all pixels average to the same grey. Shown, the left half is white on every second pixel.
    levels = np.full((1600, 1600), 100, np.uint8)
    levels[::2, :800], levels[1::2, :800] = 50, 150
    step = profiles.of_display(profiles.sampled([float(level >= 140) for level in range(256)]))
    data = saved(kind, step, np.repeat(levels[..., None], 3, axis=2))
    header = inspect(data, LIMITS)
    job = Job(data, header, LIMITS, frozenset({"full"}), 60, 60, seed=1)
    assert job.jpeg_factor == 1
    (view,) = prepare(job, StageTimer(), None).pixels
    assert view[:, :25].mean() > 100
    assert view[:, 35:].mean() < 5


def test_104_what_is_close_to_sRGB_is_shrunk_before_it_is_converted() -> None:  # noqa: N802
    data = saved("JPEG", profiles.of_display(profiles.power(2.2), profiles.P3_COLORANTS), gradient(2000, 1500))
    job = Job(data, inspect(data, LIMITS), LIMITS, frozenset({"full"}), 60, 60, seed=1)
    assert job.jpeg_factor > 1


def test_104_a_table_behind_a_steep_curve() -> None:
    corners = bytes(
        value for level in (0, 1) for _ in range(4) for value in (255 * level, 128, 128)
    )  # red alone counts
    curve = bytes(255 * (100 <= level < 110) for level in range(256))
    assert_shows(png(RAMP, iccp(profiles.of_table(2, corners, curve))), {64: 0, 99: 0, 100: 255, 109: 255, 110: 0})


@pytest.mark.parametrize("kind", [b"prtr", b"scnr", b"spac", b"link", b"abst", b"nmcl", b"\0\0\0\0"])
def test_104_browsers_do_not_ask_the_class_of_a_profile(kind: bytes) -> None:
    assert_shows(png(RAMP, iccp(DARK[:12] + kind + DARK[16:])), FOURTH)


HOSTILE = {
    "cut": DARK[:200],
    "no tags": DARK[:128] + bytes(4),
    "too many tags": DARK[:128] + b"\xff\xff\xff\xff" + DARK[132:],
    "longer than it is": struct.pack(">I", len(DARK) + 50) + DARK[4:],
    "shorter than it is": struct.pack(">I", len(DARK) - 50) + DARK[4:],
    "without signature": DARK.replace(b"acsp", b"xxxx"),
    "of version 5": DARK[:8] + b"\5" + DARK[9:],
    "of another light": DARK[:68] + bytes(12) + DARK[80:],
    "without a curve": DARK.replace(b"bTRC", b"xTRC"),
    "without a primary": DARK.replace(b"bXYZ", b"xXYZ"),
    "nothing": b"",
    "nonsense": bytes(make.noise(20, 20)),
    "tags far outside": DARK[:132] + b"".join(name + b"\xff" * 8 for name in (b"rTRC", b"gTRC", b"bTRC")) + DARK[168:],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_35_a_broken_profile_is_passed_over(name: str) -> None:
    assert_shows(png(RAMP, iccp(HOSTILE[name])), AS_STORED)
    assert_shows(saved("WEBP", HOSTILE[name]) if HOSTILE[name] else png(RAMP), AS_STORED)


def test_35_no_profile_makes_an_image_fail() -> None:
    nan = b"mpet\0\0\0\0" + struct.pack(">HHI", 3, 3, 1) + struct.pack(">II", 24, 20 + 48)
    nan += b"matf\0\0\0\0" + struct.pack(">HH", 3, 3) + struct.pack(">12f", *[float("nan")] * 12)
    whole = [
        DARK,
        SRGB,
        profiles.of_table(2, bytes(make.noise(8, 1))),
        profiles.everything_grey(),
        profiles._profile(b"mntr", b"RGB ", b"XYZ ", {b"D2B0": nan, b"A2B0": nan}),
        profiles.of_code_points(9, 16),
    ]
    dice = np.random.default_rng(11)
    for number in range(400):
        profile = bytearray(whole[number % len(whole)])
        for at in dice.integers(0, min(len(profile), 600), dice.integers(0, 8)):
            profile[at] = dice.integers(0, 256)
        kind = ("PNG", "JPEG")[number % 2]
        assert shown(saved(kind, bytes(profile), NOISE)).shape == NOISE.shape


def test_23_a_profile_is_inflated_no_further_than_it_says() -> None:
    for says in (500, MAX_PROFILE_BYTES + 1, 2**31):
        bomb = zlib.compress(struct.pack(">I", says) + DARK[4:] + bytes(60_000_000))
        color = Color(profile=((0, len(bomb)),), deflated=True)
        assert read_profile(bomb, color) == b""
        assert color.profile_bytes <= MAX_PROFILE_BYTES
    large = struct.pack(">I", 2_000_000) + DARK[4:] + bytes(2_000_000 - len(DARK))
    assert_shows(png(RAMP, iccp(large)), FOURTH)


@pytest.mark.parametrize(
    ("curve", "colorants", "kind"),
    [
        (profiles.srgb_curve(), profiles.SRGB_COLORANTS, "srgb"),
        (profiles.sampled([(level / 1023) ** 2.2 for level in range(1024)]), profiles.SRGB_COLORANTS, "smooth"),
        (profiles.srgb_curve(), profiles.P3_COLORANTS, "smooth"),
        (profiles.power(1.8), ((0.7977, 0.288, 0), (0.1352, 0.7119, 0), (0.0313, 0.0001, 0.8249)), "smooth"),
        (profiles.power(1), profiles.SRGB_COLORANTS, "any"),
        (profiles.sampled([0, 0.5, 0.4, 1]), profiles.SRGB_COLORANTS, "any"),
        (profiles.srgb_curve(), ((5, -4, 0), (-4, 5, 0), (0, 0, 0.8)), "any"),
    ],
)
def test_profiles_are_told_apart(curve: bytes, colorants: Any, kind: str) -> None:
    assert kind_of_profile(profiles.of_display(curve, colorants)) == kind


# --- Chromium --------------------------------------------------------------------------------------------------------


def screenshot(images: list[bytes], folder: Path) -> list[make.Pixels]:
    """Return what a real browser shows of images of 256 x 16 pixels."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium: what is judged is compared with it where it is installed")
    tags = (
        f'<img style="position:absolute;left:0;top:{top}px" src="data:;base64,{base64.b64encode(data).decode()}">'
        for top, data in zip(range(0, 16 * len(images), 16), images, strict=True)
    )
    page, taken = folder / "page.html", folder / "taken.png"
    page.write_text("<!doctype html><body>" + "".join(tags))
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--force-color-profile=srgb", "--hide-scrollbars"]
    words += [f"--window-size=500,{16 * len(images) + 200}", f"--user-data-dir={folder / 'profile'}"]
    subprocess.run(
        [browser, *words, f"--screenshot={taken}", page.as_uri()], capture_output=True, timeout=180, check=True
    )
    with Image.open(io.BytesIO(taken.read_bytes())) as page_shown:
        seen = np.asarray(page_shown.convert("RGB"))
    return [seen[16 * index : 16 * index + 16, :256] for index in range(len(images))]


@pytest.mark.heavy
def test_104_what_is_judged_is_what_chromium_shows(tmp_path: Path) -> None:
    images = {name: png(RAMP, *chunks) for name, (chunks, _) in PNGS.items() if name != "gAMA that is extreme"}
    points = [(p, t) for p in (1, 9, 12) for t in (1, 4, 8, 13, 16, 18)] + [(4, 4), (5, 5), (6, 6), (7, 7), (11, 17)]
    images |= {f"code points {pair}": png(NOISE, cicp(*pair)) for pair in points}
    images |= {f"AVIF {pair}": avif(*pair) for pair in ((9, 16), (9, 18), (12, 13), (2, 2), (1, 1), (9, 14))}
    images |= {"AVIF without a box": of_bitstream(avif(1, 13), 9, 16)}
    images |= {kind: saved(kind, DARK) for kind in ("JPEG", "WEBP", "AVIF", "PNG")}
    images |= {f"hostile: {name}": png(RAMP, iccp(profile)) for name, profile in HOSTILE.items()}
    curve = profiles.sampled(np.random.default_rng(1).random(256).tolist())
    images |= {
        "any curve": png(NOISE, iccp(profiles.of_display(curve))),
        "a table": png(NOISE, iccp(profiles.of_table(2, bytes(range(100, 124))))),
        "P3 by gAMA": png(NOISE, gamma(0.45455), chromaticities(0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
        "grey": make.encode(Image.fromarray(RAMP[..., 0]), "JPEG", quality=100, icc_profile=DARK),
        "inks": make.encode(
            Image.fromarray(RAMP).convert("CMYK"), "JPEG", quality=100, icc_profile=profiles.everything_grey()
        ),
        "Lab": png(NOISE, iccp(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())),
    }
    wrong = {}
    for (name, data), seen in zip(images.items(), screenshot(list(images.values()), tmp_path), strict=True):
        difference = np.abs(shown(data).astype(int) - seen)
        if difference.mean() > 0.25:  # two decoders of JPEG and AVIF, and tables are interpolated otherwise
            wrong[name] = float(difference.mean())
    assert not wrong
