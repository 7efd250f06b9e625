"""Stills for review: what was judged, upright, of bounded size, and nothing else that the file held."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import numpy as np
import numpy.typing as npt
import orjson
import pytest
from PIL import Image, PngImagePlugin

from gateway.decoding.decoder import DecodeLimits, inspect
from gateway.decoding.preprocess import Job, PreprocessedImage, prepare
from gateway.decoding.stills import Still, StillPlace, StillRefused, checked_still
from gateway.decoding.workers.forkserver import ForkServer
from gateway.decoding.workers.messages import AnswerRefused, read_answer
from gateway.decoding.workers.pool import DecodePool
from gateway.observability.stage_timer import StageTimer
from tests.support.icc_profiles import swapped_primaries

SECRET = b"52.520008N 13.404954E"
LIMITS = DecodeLimits(timeout_s=5, sampled_frames=4)
SIDE_PX = 256


def job(data: bytes, side_px: int = SIDE_PX) -> Job:
    header = inspect(data, LIMITS)
    rules = frozenset({"full"})
    return Job(data, header, LIMITS, rules, 32, 32, 1, whole=True, both_grounds=True, still_side_px=side_px)  # type: ignore[arg-type]


def made(data: bytes, side_px: int = SIDE_PX) -> PreprocessedImage:
    return prepare(job(data, side_px), StageTimer(), None)


def pixels(still: Still) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(still.jpeg)))


def halves(width: int, height: int, left: str = "red", right: str = "blue") -> Image.Image:
    image = Image.new("RGB", (width, height), left)
    image.paste(right, (width // 2, 0, width, height))
    return image


def saved(image: Image.Image, name: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def exif(orientation: int = 1) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010E] = SECRET.decode()
    tags.get_ifd(0x8825)[1] = "N"
    return tags.tobytes()


def near(found: npt.NDArray[np.uint8], wanted: tuple[int, int, int]) -> bool:
    return bool(np.abs(found.astype(int) - wanted).max() <= 12)


def with_text() -> dict[str, bytes]:
    """One image in each format that carries the secret in all ways that its writer knows."""
    image = halves(300, 200)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET.decode())
    text.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    icc = bytes(128) + SECRET
    return {
        "jpeg": saved(image, "JPEG", exif=exif(), comment=SECRET, icc_profile=icc, xmp=SECRET),
        "png": saved(image, "PNG", exif=exif(), pnginfo=text, icc_profile=icc),
        "webp": saved(image, "WEBP", exif=exif(), xmp=SECRET, icc_profile=icc, lossless=True),
        "avif": saved(image, "AVIF", exif=exif(), xmp=SECRET),
        "gif": saved(image, "GIF", comment=SECRET),
    }


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "avif", "gif"])
def test_no_metadata_is_left(name: str) -> None:
    data = with_text()[name]
    assert SECRET in data
    (still,) = made(data).stills
    assert SECRET not in still.jpeg
    opened = Image.open(io.BytesIO(still.jpeg))
    assert opened.format == "JPEG"
    assert not opened.getexif()
    assert set(opened.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright(orientation: int) -> None:
    data = saved(halves(300, 200), "JPEG", exif=exif(orientation), quality=95)
    prepared = made(data)
    still = pixels(prepared.stills[0])
    seen = np.asarray(_upright(data).resize((still.shape[1], still.shape[0])))
    assert np.abs(still.astype(int) - seen).mean() < 4


def _upright(data: bytes) -> Image.Image:
    from PIL import ImageOps

    found = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "size", [(1024, 300), (300, 1024), (257, 257), (300, 300), (400, 90), (4000, 1000), (520, 60), (256, 40), (40, 33)]
)
def test_its_sides_are_bounded_and_keep_their_proportion(size: tuple[int, int]) -> None:
    (still,) = made(saved(halves(*size), "PNG")).stills
    height, width, _ = pixels(still).shape
    assert 0.75 * min(SIDE_PX, max(size)) <= max(width, height) <= SIDE_PX
    assert abs(width / height - size[0] / size[1]) <= size[0] / size[1] / min(width, height)
    assert near(pixels(still)[height // 2, 2], (254, 0, 0))
    assert near(pixels(still)[height // 2, width - 3], (0, 0, 254))


def test_noise_stays_within_the_bytes_that_were_admitted() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
    asked = job(saved(Image.fromarray(noise), "PNG"))
    (still,) = prepare(asked, StageTimer(), None).stills
    assert 0 < len(still.jpeg) <= asked.still_bytes


def test_colors_are_those_that_were_judged() -> None:
    """By a profile that swaps red and blue; one side large enough to be shrunk before its colors are converted."""
    prepared = made(saved(Image.new("RGB", (900, 900), "red"), "JPEG", icc_profile=swapped_primaries()))
    (still,) = prepared.stills
    assert near(pixels(still), tuple(int(level) for level in prepared.pixels[0, 16, 16]))  # type: ignore[arg-type]
    assert not near(pixels(still), (254, 0, 0))


def test_an_animation_has_one_for_each_judged_frame() -> None:
    frames = [Image.new("RGB", (60, 60), color) for color in ("red", "lime", "blue", "white", "black", "yellow")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=200)
    prepared = made(data)
    assert prepared.info.frames_analyzed == 4
    assert [still.place.frame_ms for still in prepared.stills] == [place.frame_ms for place in prepared.places]
    for still, shown in zip(prepared.stills, prepared.pixels, strict=True):
        assert np.abs(pixels(still).mean(axis=(0, 1)) - shown.mean(axis=(0, 1))).max() < 6


def test_what_shows_on_black_alone_has_a_second_one() -> None:
    image = Image.new("RGBA", (60, 60), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (10, 10, 50, 50))
    white, black = made(saved(image, "PNG")).stills
    assert (white.place.background, black.place.background) == (None, "black")
    assert near(pixels(white)[2, 2], (255, 255, 255))
    assert near(pixels(black)[2, 2], (0, 0, 0))
    assert near(pixels(black)[30, 30], (255, 255, 255))


def test_none_is_made_where_none_is_asked_for() -> None:
    assert made(saved(halves(100, 100), "PNG"), 0).stills == ()


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    ended: list[str] = []
    opened = DecodePool(1, ForkServer(most_memory=1 << 30, heic=False, fingerprint=False), 64, ended.append)
    yield opened
    await opened.close()
    assert ended == []


async def test_the_sandbox_makes_the_same(pool: DecodePool) -> None:
    for data in with_text().values():
        assert (await pool.prepare(job(data), StageTimer())).stills == made(data).stills


def answer_of(asked: Job, *jpegs: bytes, places: list[StillPlace] | None = None) -> PreprocessedImage:
    """Read what a process would say that has this for stills."""
    honest = prepare(asked, StageTimer(), None)
    stills = places or [StillPlace(len(jpeg), None) for jpeg in jpegs]
    facts = {"info": honest.info, "places": honest.places, "fingerprints": [], "stills": stills, "elapsed_s": {}}
    return read_answer(asked, orjson.dumps(facts), honest.pixels.tobytes() + b"".join(jpegs), StageTimer())


GOOD = saved(halves(64, 64), "JPEG")


def test_an_honest_answer_is_read() -> None:
    found = answer_of(job(saved(halves(64, 64), "PNG")), GOOD)
    assert [still.jpeg for still in found.stills] == [GOOD]


FORGED = {
    "none": [b"<svg onload=alert(1)>"],
    "metadata": [saved(halves(64, 64), "JPEG", comment=SECRET)],
    "exif": [saved(halves(64, 64), "JPEG", exif=exif())],
    "larger": [saved(halves(SIDE_PX + 1, 64), "JPEG")],
    "something behind": [GOOD + b"<script>"],
    "cut": [GOOD[:-20]],
    "another format": [saved(halves(64, 64), "PNG")],
    "more than judged": [GOOD] * 9,
    "more bytes than admitted": [GOOD[:2] + b"\xff\xfe\xff\xff" + bytes(65533) + GOOD[2:]],
}


@pytest.mark.parametrize("name", FORGED)
def test_a_process_that_was_taken_over_cannot_hand_in_anything_else(name: str) -> None:
    with pytest.raises(AnswerRefused):
        answer_of(job(saved(halves(64, 64), "PNG")), *FORGED[name])


def test_a_still_of_a_frame_that_was_not_judged_is_refused() -> None:
    with pytest.raises(AnswerRefused):
        answer_of(job(saved(halves(64, 64), "PNG")), GOOD, places=[StillPlace(len(GOOD), 700)])
    with pytest.raises(StillRefused):
        checked_still(b"", StillPlace(1, None), SIDE_PX)


def test_stills_that_are_not_asked_for_are_refused() -> None:
    with pytest.raises(AnswerRefused):
        answer_of(job(saved(halves(64, 64), "PNG"), 0), GOOD)
