"""What is judged is what viewers show: markers and chunks that readers pass over, broken ones, and hidden ones."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from gateway.decoding.decoder import DecodeLimits, inspect, open_image
from gateway.decoding.headers.header import ALWAYS_ACCEPTED
from gateway.errors import GatewayError, ImageCorrupt
from scripts.fuzz import pixels as fuzz
from scripts.fuzz import viewers
from tests.support import awkward_images as make
from tests.support.drawings import encoded, shape
from tests.support.heic_files import gradient

CORPUS = Path(__file__).parents[1] / "corpus"
LIMITS = DecodeLimits(formats=ALWAYS_ACCEPTED | {"heic"})
FLAT = gradient(96, 64)

BASELINE = make.encode(Image.fromarray(FLAT), "JPEG", quality=90, restart_marker_rows=1)
JPEGS = {
    "baseline": BASELINE,
    "progressive": make.encode(Image.fromarray(FLAT), "JPEG", progressive=True, restart_marker_blocks=5),
    "grey": make.encode(Image.fromarray(FLAT).convert("L"), "JPEG", restart_marker_blocks=3),
    "cmyk": make.encode(Image.fromarray(FLAT).convert("CMYK"), "JPEG", restart_marker_blocks=4),
}
NO_PLACE = {0xC4, 0xDA, *range(0xD0, 0xD8), 0xD9}  # tables, a scan, restarts, the end: they mean something in a scan
PASSED_OVER = range(0x01, 0xC0)  # reserved, and TEM


def shown(data: bytes) -> make.Pixels:
    """Return the first frame as it is judged."""
    with open_image(data, LIMITS, seed=1) as image:
        return np.asarray(next(image.frames()).rgb)


def code_of(data: bytes) -> str:
    try:
        shown(data)
    except GatewayError as fault:
        return fault.code
    return "ok"


def pillows(data: bytes) -> make.Pixels | None:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError):
        return None


def places(data: bytes) -> dict[str, int]:
    """Return offsets in and around the first scan with restarts."""
    scan = data.index(b"\xff\xda")
    first, second = data.index(b"\xff\xd0", scan), data.index(b"\xff\xd1", scan)
    behind_header = scan + 2 + struct.unpack_from(">H", data, scan + 2)[0]
    return {
        "before the scan": scan,
        "before its data": behind_header,
        "before the first restart": first,
        "behind the first restart": first + 2,
        "before the second restart": second,
        "before the end": len(data) - 2,
    }


# --- JPEG ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("behind", [b"", b"\0\2", b"\0\4ab"], ids=["alone", "empty", "with a body"])
def test_107_any_marker_anywhere_is_decoded_as_by_every_viewer_or_refused(kind: str, behind: bytes) -> None:
    data = JPEGS[kind]
    whole = shown(data)
    decoded = 0
    for at in places(data).values():
        for marker in (0x01, 0x02, 0x9F, 0xBF, *sorted(set(range(0xC0, 0xFF)) - NO_PLACE)):
            changed = data[:at] + bytes((0xFF, marker)) + behind + data[at:]
            seen = pillows(changed)
            if code_of(changed) == "ok":
                assert seen is not None
                assert np.array_equal(shown(changed), seen), f"FF {marker:02X} at {at}"
                decoded += bool((seen == whole).all())
    assert decoded >= 6, "some are passed over"


@pytest.mark.parametrize("marker", PASSED_OVER)
def test_107_a_reserved_marker_before_a_restart_changes_nothing(marker: int) -> None:
    for place in ("before the first restart", "before the second restart"):
        at = places(BASELINE)[place]
        changed = BASELINE[:at] + bytes((0xFF, marker, 0, 2)) + BASELINE[at:]
        assert np.array_equal(shown(changed), shown(BASELINE))


def test_107_a_reserved_marker_before_a_restart_is_judged_as_the_picture(client: httpx2.Client) -> None:
    clean = encoded(shape("a red circle"), "JPEG", restart_marker_rows=1)
    at = places(clean)["before the first restart"]
    case = (CORPUS / "found" / "reserved-marker.jpg").read_bytes()
    with Image.open(io.BytesIO(case)) as picture:
        again = make.encode(picture, "PNG")
    results = []
    for data in (clean, clean[:at] + b"\xff\x9f\0\2" + clean[at:], again, case):
        answer = client.post("/v1/classify", files={"file": data}, data={"labels": ["a red circle", "a blue square"]})
        results.append({score["label"]: score["score"] for score in answer.json()["results"][0]["scores"]})
    assert all(result["a red circle"] > 0.9 for result in results)
    assert results[1] == pytest.approx(results[0], abs=1e-4)
    assert results[3] == pytest.approx(results[2], abs=1e-4)


@pytest.mark.parametrize(
    "between", [b"", b"\xff\x9f\0\2", b"\xff\x9f\xff", b"\xff\x01", b"junk", b"\xff\0", b"\xff\xd3"]
)
def test_scans_are_counted_whatever_stands_between_them(between: bytes) -> None:
    data = make.plain("JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageCorrupt, match="scans"):
        inspect(data[:-2] + (between + last) * 150 + b"\xff\xd9", LIMITS)


@pytest.mark.parametrize(
    "fill", [b"", b"\xff", b"\xff\xff\xff", b"junk", b"\xff\0", b"\xff\xd0", b"\xff\x01", b"\xff\xd8"]
)
@pytest.mark.parametrize("follows", [b"", b"\xff", b"\xc4", b"\xda\0\x0c", b"\xff\xff\xc0", b"\xd9", b"\x9f"])
def test_what_is_left_out_before_the_scan_makes_no_new_marker(fill: bytes, follows: bytes) -> None:
    data = BASELINE[:2] + fill + b"\xff\xe1\0\2" + follows + BASELINE[2:]
    seen = pillows(data)
    if code_of(data) == "ok":
        assert seen is not None
        assert np.array_equal(shown(data), seen)
    else:
        assert seen is None


def test_metadata_reaches_no_parser_before_the_scan_and_all_else_is_the_files_own() -> None:
    exif, comment, jfif = make.segment(0xE1, make.exif(6)), make.segment(0xFE, b"secret"), BASELINE[2:20]
    late = BASELINE[:-2] + comment + BASELINE[-2:] + b"tail"
    data = make.jpeg_with(exif, comment, data=late)
    assert inspect(data, LIMITS).decodable(data) == late
    assert jfif.startswith(b"\xff\xe0")
    assert np.array_equal(shown(data), np.rot90(shown(BASELINE), -1))


# --- PNG -------------------------------------------------------------------------------------------------------------

ROWS = make.rows(FLAT)
LARGE = b"k\0\0" + zlib.compress(bytes(3_000_000))
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "checksum": lambda kind: make.chunk(kind, b"k\0words")[:-1] + b"?",
    "short": lambda kind: make.chunk(kind, b"\0"),
    "empty": make.chunk,
    "large": lambda kind: make.chunk(kind, LARGE),
}


@pytest.mark.parametrize(
    "kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"pHYs", b"gAMA", b"sRGB", b"cHRM", b"eXIf", b"zzZz"]
)
@pytest.mark.parametrize("how", BROKEN)
def test_22_a_broken_or_large_chunk_that_decides_no_pixel_refuses_nothing(kind: bytes, how: str) -> None:
    broken = BROKEN[how](kind)
    before = make.png(96, 64, ROWS, broken, broken)
    assert np.array_equal(shown(before), FLAT)
    plain = make.png(96, 64, ROWS)
    assert np.array_equal(shown(plain[:-12] + broken + plain[-12:]), FLAT)


def test_23_metadata_behind_the_picture_that_runs_over_the_end() -> None:
    plain = make.png(96, 64, ROWS)
    longer = struct.pack(">I", 99) + make.chunk(b"tEXt", b"k\0v")[4:]
    assert np.array_equal(shown(plain[:-12] + longer + plain[-12:]), FLAT)
    assert code_of(plain[:33] + longer + plain[33:]) == "image_corrupt"
    assert code_of(plain[:-12]) == "image_corrupt"


def test_a_turn_in_a_chunk_with_a_wrong_checksum_is_passed_over() -> None:
    turn = make.chunk(b"eXIf", make.exif(6)[6:])
    assert np.array_equal(shown(make.png(96, 64, ROWS, turn)), np.rot90(FLAT, -1))
    assert np.array_equal(shown(make.png(96, 64, ROWS, turn[:-1] + b"?")), FLAT)


def test_a_transparency_that_viewers_pass_over_hides_nothing() -> None:
    colours = np.unique(FLAT[:8, :8].reshape(-1, 3), axis=0)
    index = (np.arange(64)[:, None] + np.arange(96)) % len(colours)
    palette = make.chunk(b"PLTE", colours.tobytes())
    expected, raw = colours[index], make.rows(index.astype(np.uint8))
    clear = make.chunk(b"tRNS", bytes(len(colours)))
    whole = make.png(96, 64, raw, palette, clear, colour=3)
    assert (shown(whole) == 255).all()
    late = make.png(96, 64, raw, palette, colour=3)
    for data in (
        late[:-12] + clear + late[-12:],
        make.png(96, 64, raw, clear, palette, colour=3),
        make.png(96, 64, raw, palette, make.chunk(b"tRNS", bytes(len(colours) + 1)), colour=3),
        make.png(96, 64, raw, palette, clear[:-1] + b"?", colour=3),
        make.png(96, 64, raw, palette, make.chunk(b"tRNS", b"\xff" * len(colours)), clear, colour=3),
    ):
        assert np.array_equal(shown(data), expected)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_any_depth(depth: int) -> None:
    levels = 1 << min(depth, 8)
    grey = (np.arange(64)[:, None] + np.arange(96)) % levels
    key = levels // 2
    bits = np.unpackbits(grey.astype(np.uint8)[..., None], axis=2)[..., 8 - min(depth, 8) :].reshape(64, -1)
    raw = make.rows(grey.astype(np.uint16) * 257 if depth == 16 else np.packbits(bits, axis=1))
    stored = key * 257 if depth == 16 else key
    data = make.png(96, 64, raw, make.chunk(b"tRNS", struct.pack(">H", stored)), depth=depth, colour=0)
    expected = np.where(grey == key, 255, grey * 255 // (levels - 1))
    assert np.array_equal(shown(data), expected[..., None].repeat(3, axis=2))


def control(number: int, width: int, height: int) -> bytes:
    return make.chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, 0, 0))


def test_frames_that_viewers_pass_over_hide_nothing() -> None:
    plain = make.png(96, 64, ROWS)
    data = plain[33:-12]
    count = make.chunk(b"acTL", struct.pack(">II", 1, 0))
    assert np.array_equal(shown(plain[:33] + control(0, 96, 1) + data + plain[-12:]), FLAT)
    assert np.array_equal(shown(plain[:33] + count + control(0, 96, 64) + data + plain[-12:]), FLAT)
    assert code_of(plain[:33] + count + control(0, 96, 1) + data + plain[-12:]) == "image_corrupt"
    frame = make.chunk(b"fdAT", struct.pack(">I", 1) + data[8:-4])
    assert np.array_equal(shown(plain[:-12] + frame + plain[-12:]), FLAT)


def test_data_behind_another_chunk_is_no_part_of_the_picture() -> None:
    plain = make.png(96, 64, ROWS)
    packed, text = plain[41:-16], make.chunk(b"tEXt", b"k\0v")
    parted = [make.chunk(b"IDAT", packed[:200]), make.chunk(b"IDAT", packed[200:])]
    assert np.array_equal(shown(plain[:33] + b"".join(parted) + plain[-12:]), FLAT)
    assert code_of(plain[:33] + text.join(parted) + plain[-12:]) == "image_corrupt"
    assert np.array_equal(shown(plain[:-12] + text + parted[0] + plain[-12:]), FLAT)


@pytest.mark.parametrize("interlace", [0, 1])
def test_a_transparent_colour_of_16_bits_hides_what_is_that_colour_in_all_of_them(interlace: int) -> None:
    key = 0x1234
    grey = np.full((64, 96, 3), key + 1, np.uint16)
    grey[:, :48] = key
    head = make.chunk(b"IHDR", struct.pack(">IIBBBBB", 96, 64, 16, 2, 0, 0, interlace))
    data = b"\x89PNG\r\n\x1a\n" + head + make.chunk(b"tRNS", struct.pack(">3H", key, key, key))
    passes = interlaced(grey) if interlace else make.rows(grey)
    data += make.chunk(b"IDAT", zlib.compress(passes)) + make.chunk(b"IEND")
    seen = shown(data)
    assert (seen[:, :48] == 255).all()
    assert (seen[:, 48:] == 0x12).all()


def interlaced(samples: npt.NDArray[Any]) -> bytes:
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    return b"".join(make.rows(samples[top::down, left::right]) for left, top, right, down in passes)


def test_an_interlaced_animation_is_read() -> None:
    head = make.chunk(b"IHDR", struct.pack(">IIBBBBB", 96, 64, 8, 2, 0, 0, 1))
    data = b"\x89PNG\r\n\x1a\n" + head + make.chunk(b"acTL", struct.pack(">II", 2, 0))
    data += control(0, 96, 64) + make.chunk(b"IDAT", zlib.compress(interlaced(FLAT)))
    second = zlib.compress(interlaced(FLAT[::-1]))
    data += control(1, 96, 64) + make.chunk(b"fdAT", struct.pack(">I", 2) + second) + make.chunk(b"IEND")
    with open_image(data, LIMITS, seed=1) as image:
        first, last = [np.asarray(frame.rgb) for frame in image.frames()]
    assert np.array_equal(first, FLAT)
    assert np.array_equal(last, FLAT[::-1])


def test_a_turn_that_viewers_pass_over() -> None:
    plain, turn = make.png(96, 64, ROWS), make.chunk(b"eXIf", make.exif(6)[6:])
    assert np.array_equal(shown(plain[:-12] + turn + plain[-12:]), FLAT), "behind the data"
    assert np.array_equal(shown(make.png(96, 64, ROWS, make.chunk(b"eXIf", make.exif(6)))), FLAT), "a JPEG's"
    still = make.plain("WEBP", 96, 64)[12:]
    bitstream = still[8 : 8 + struct.unpack_from("<I", still, 4)[0]]
    for flags, upright in ((0, (64, 96)), (8, (96, 64))):
        extended = bytes([flags, 0, 0, 0, 95, 0, 0, 63, 0, 0])
        webp = make.riff((b"VP8X", extended), (still[:4], bitstream), (b"EXIF", make.exif(6)[6:]))
        assert shown(webp).shape[:2] == upright


@pytest.mark.parametrize("nonsense", [0, 9])
@pytest.mark.parametrize("before", [0, 600])
def test_of_orientations_the_first_one_that_means_something_counts(nonsense: int, before: int) -> None:
    entries = [(0x100, 1)] * before + [(0x112, nonsense), (0x112, 6), (0x112, 3)]
    packed = b"".join(struct.pack("<HHLHH", tag, 3, 1, value, 0) for tag, value in entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries)) + packed
    assert np.array_equal(shown(make.jpeg_with(make.segment(0xE1, exif), data=BASELINE)), np.rot90(shown(BASELINE), -1))


@pytest.mark.parametrize("segment", [b"Adobe", b"Adobe\0\x64\0\0", b"JFIF\0", b"JFIF", b""])
def test_short_segments_of_colour_are_passed_over(segment: bytes) -> None:
    for marker in (0xE0, 0xEE):
        data = make.jpeg_with(make.segment(marker, segment), data=BASELINE)
        assert np.array_equal(shown(data), shown(BASELINE))


# --- GIF -------------------------------------------------------------------------------------------------------------

BLACK, WHITE, GREY = 0, 1, 2


def gif_frame(
    colour: int, box: tuple[int, int, int, int] = (0, 0, 96, 64), *, disposal: int = 0, clear: int | None = None
) -> bytes:
    """Return a frame of one colour of the table; ``box`` is left, top, width and height."""
    codes = [4, colour] * (box[2] * box[3])  # a clear code before each pixel, so that codes stay 3 bits wide
    bits = np.array([[code >> bit & 1 for bit in range(3)] for code in [*codes, 4, 5]], np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    blocks = b"".join(bytes([len(packed[at : at + 255])]) + packed[at : at + 255] for at in range(0, len(packed), 255))
    control = struct.pack("<BHB", disposal << 2 | (clear is not None), 10, clear or 0)
    return b"!\xf9\4" + control + b"\0," + struct.pack("<4HB", *box, 0) + b"\2" + blocks + b"\0"


def gif_shown(*frames: bytes) -> list[make.Pixels]:
    """Return the frames of a GIF of 96 x 64 pixels whose background colour is black."""
    table = bytes((0, 0, 0, 255, 255, 255, 128, 128, 128, 9, 9, 9))
    data = b"GIF89a" + struct.pack("<HHBBB", 96, 64, 0x81, BLACK, 0) + table + b"".join(frames) + b";"
    with open_image(data, LIMITS, seed=1) as image:
        return [np.asarray(frame.rgb) for frame in image.frames()]


CORNER = (0, 0, 40, 30)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (gif_frame(BLACK, disposal=2), gif_frame(BLACK, CORNER)),
        (gif_frame(BLACK, disposal=3), gif_frame(BLACK, CORNER)),
        (gif_frame(GREY, CORNER), gif_frame(BLACK, CORNER)),
        (gif_frame(BLACK, disposal=2), gif_frame(BLACK, CORNER, clear=GREY)),
    ],
    ids=["cleared", "restored to nothing", "never covered", "cleared, then with a transparent colour"],
)
def test_what_a_gif_does_not_cover_is_transparent_as_in_browsers(first: bytes, second: bytes) -> None:
    seen = gif_shown(first, second)[1]
    assert (seen[:30, :40] == 0).all()
    assert (seen[30:] == 255).all()
    assert (seen[:, 40:] == 255).all()


def test_a_gifs_disposal_holds_for_its_own_frame() -> None:
    seen = gif_shown(
        gif_frame(GREY),
        gif_frame(BLACK, CORNER, disposal=2),
        gif_frame(BLACK, (50, 0, 9, 9)),
        gif_frame(GREY, (90, 60, 2, 2)),
    )
    assert (seen[2][:30, :40] == 255).all()
    assert (seen[3][:9, 50:59] == 0).all()


def test_later_frames_do_not_widen_a_gif() -> None:
    for frame in gif_shown(gif_frame(GREY), gif_frame(BLACK, (90, 60, 600, 400)), gif_frame(BLACK, (3000, 2000, 1, 1))):
        assert frame.shape == (64, 96, 3)


# --- boxes -----------------------------------------------------------------------------------------------------------


def test_a_decoder_gets_an_avif_as_it_came() -> None:
    data = make.plain("AVIF", exif=make.looping_exif())
    assert inspect(data, LIMITS).keep == ((0, len(data)),)


# --- the fuzzer that looks for more -----------------------------------------------------------------------------------


def test_a_short_run_finds_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--count", "2400", "--seed", "7", "--processes", "1", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for name in ALWAYS_ACCEPTED | {"heic"}:
        assert f"{name}: decoded by Pillow too" in said
    assert "DIFFERS" not in said


def test_a_difference_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    comparer = fuzz.Comparer({"jpeg": [BASELINE]}, seed=1)
    assert not comparer.compare(range(20)).differences
    monkeypatch.setattr(viewers, "turn_upright", lambda rgb, _: rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    found = comparer.compare(range(20)).differences
    assert found
    assert all("DIFFERS from" in what for _, what in found)
