"""The boxes of AVIF and HEIC: which size and how many frames they state, and that no damage costs much to read."""

from __future__ import annotations

import struct
import time

import pytest

from gateway.decoding.decoder import DecodeLimits, inspect, open_image
from gateway.decoding.headers.avif import read_avif
from gateway.decoding.headers.isobmff import MAX_PARTS, Property, read_container, shown_size
from gateway.errors import ImageCorrupt, ImageTooManyFrames, ImageTooManyPixels
from tests.support import awkward_images as make
from tests.support.heic_files import box

LIMITS = DecodeLimits()


def moving(brand: bytes) -> bytes:
    data = make.animation("AVIF", 4)
    return data[:8] + brand + data[12:]


def track(codec: bytes, handler: bytes, samples: int) -> bytes:
    head = box(b"tkhd", bytes(76) + struct.pack(">HHHH", 64, 0, 48, 0))
    entry = box(codec, bytes(24) + struct.pack(">HH", 64, 48) + bytes(50))
    tables = box(b"stsd", struct.pack(">II", 0, 1) + entry) + box(b"stsz", struct.pack(">III", 0, 1, samples))
    media = box(b"hdlr", bytes(8) + handler + bytes(13)) + box(b"minf", box(b"stbl", tables))
    return box(b"trak", head + box(b"mdia", media))


def sequence(*tracks: bytes) -> bytes:
    return box(b"ftyp", b"avis\0\0\0\0avis") + box(b"moov", b"".join(tracks))


@pytest.mark.parametrize(("brand", "frames"), [(b"avis", 4), (b"avif", 1), (b"mif1", 4)])
def test_the_major_brand_says_whether_a_still_or_its_sequence_is_shown(brand: bytes, frames: int) -> None:
    data = moving(brand)
    assert inspect(data, LIMITS).frames == frames
    with open_image(data, LIMITS, seed=1) as image:
        assert image.info.frames == len(list(image.frames())) == frames


def test_only_the_first_track_of_pictures_counts() -> None:
    sound, alpha = track(b"mp4a", b"soun", 2**32 - 1), track(b"av01", b"auxv", 7)
    header = read_avif(sequence(sound, alpha, track(b"av01", b"pict", 5)), max_frames=500)
    assert (header.width, header.height, header.frames) == (64, 48, 5)
    with pytest.raises(ImageTooManyFrames):
        inspect(sequence(track(b"av01", b"pict", 501)), LIMITS)
    with pytest.raises(ImageCorrupt):
        read_avif(sequence(sound), max_frames=500)


def test_memory_is_granted_for_the_largest_size_that_anything_states() -> None:
    data = make.plain("AVIF")
    at = data.index(b"ipco")
    larger = box(b"ispe", struct.pack(">III", 0, 8000, 8000))  # of no item; placed where that moves no association
    size = int.from_bytes(data[at - 4 : at], "big")
    grown = data[: at - 4] + struct.pack(">I", size + len(larger)) + data[at : at - 4 + size] + larger
    whole = grown + data[at - 4 + size :]
    for kind in (b"iprp", b"meta"):
        where = whole.index(kind) - 4
        length = int.from_bytes(whole[where : where + 4], "big") + len(larger)
        whole = whole[:where] + struct.pack(">I", length) + whole[where + 4 :]
    header = read_avif(whole, max_frames=500)
    assert (header.width, header.height, header.pixels) == (64, 48, 64_000_000)
    with pytest.raises(ImageTooManyPixels, match="parts that are not shown included"):
        inspect(whole, LIMITS)


@pytest.mark.parametrize(
    ("clap", "expected"),
    [
        ((40, 1, 30, 1, 0, 1, 0, 1), (40, 30)),
        ((81, 2, 30, 1, 0, 1, 0, 1), (41, 30)),
        ((400, 1, 300, 1, 0, 1, 0, 1), (100, 80)),
        ((40, 1, 30, 1, 40, 1, 0, 1), (30, 30)),  # sticks out to the right
        ((40, 0, 30, 1, 0, 1, 0, 1), None),
        ((40, 1, 30, 1, 4000, 1, 0, 1), None),
        ((-40, 1, 30, 1, 0, 1, 0, 1), None),
    ],
)
def test_a_crop_and_a_turn(clap: tuple[int, ...], expected: tuple[int, int] | None) -> None:
    size = Property(b"ispe", struct.pack(">III", 0, 100, 80))
    crop = Property(b"clap", struct.pack(">8i", *clap))
    if expected is None:
        with pytest.raises(ImageCorrupt):
            shown_size([size, crop])
        return
    assert shown_size([size, crop]) == expected
    assert shown_size([size, crop, Property(b"irot", b"\3")]) == expected[::-1]
    assert shown_size([size, crop, Property(b"irot", b"\2"), Property(b"imir", b"\1")]) == expected


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(box(b"free", b"") * 1_000_000, id="boxes"),
        pytest.param(box(b"meta", bytes(4) + box(b"infe", b"") * 1_000_000), id="items"),
        pytest.param(
            box(b"meta", bytes(4) + box(b"iprp", box(b"ipma", struct.pack(">II", 0, 1 << 31) + b"\0\1\xff" * 900_000))),
            id="associations",
        ),
        pytest.param(b"".join(struct.pack(">I", 8 * left) + b"moov" for left in range(900_000, 0, -1)), id="nested"),
        pytest.param(b"".join(struct.pack(">I", 8 * left) + b"meta" for left in range(900_000, 0, -1)), id="metas"),
    ],
)
def test_what_costs_nothing_to_announce_costs_little_to_read(bomb: bytes) -> None:
    started = time.thread_time()
    with pytest.raises(ImageCorrupt):
        read_avif(box(b"ftyp", b"avif\0\0\0\0") + bomb, max_frames=500)
    assert time.thread_time() - started < 1


def test_a_large_grid_is_no_bomb() -> None:
    cells = b"".join(struct.pack(">HB4B", number, 4, 1, 2, 3, 4) for number in range(1000))
    found = read_container(box(b"meta", bytes(4) + box(b"iprp", box(b"ipma", struct.pack(">II", 0, 1000) + cells))))
    assert found.sizes == []
    assert MAX_PARTS > 5 * 1000
