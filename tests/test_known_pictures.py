"""Known pictures: the indexes against brute force, what wins, and what a change shares."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import hash_index, known_pictures
from gateway.hash_index import MAX_DISTANCE, ExactIndex, NearIndex, words_of
from gateway.known_pictures import KnownPictures, Match, verdict
from gateway.store.lists import ListAction, ListKind, PictureList

Octets = npt.NDArray[np.uint8]
OTHER = "0f" * 32
DISTANCES = (0, 1, 15, 16, 30, 31, 32, 47, 48, 64, 100, MAX_DISTANCE)


def random_hashes(count: int, seed: int = 0) -> Octets:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)


def hexes(octets: Octets) -> list[str]:
    return [row.tobytes().hex() for row in octets]


def off(octets: Octets, bits: list[int]) -> Octets:
    """A hash with these bits, 0..255, turned over."""
    unpacked = np.unpackbits(octets)
    unpacked[bits] ^= 1
    return np.packbits(unpacked)


def listed(name: str, action: ListAction = "block", kind: ListKind = "pdq", max_distance: int = 31) -> PictureList:
    return PictureList(name, action, kind, max_distance)


def by_hand(octets: Octets, wanted: Octets, max_distance: int) -> tuple[int, str] | None:
    distances = np.unpackbits(octets ^ wanted, axis=1).sum(axis=1)
    row = int(distances.argmin())
    return (int(distances[row]), octets[row].tobytes().hex()) if distances[row] <= max_distance else None


@cache
def large() -> tuple[Octets, NearIndex]:
    """Enough for the bands to be used: some apart from each other, some in crowds of 1 to 60 bits around one."""
    rng = np.random.default_rng(5)
    octets = random_hashes(hash_index._BANDED_FROM + 1_000, seed=5)
    for row in range(0, 4_000, 2):
        octets[row] = off(octets[row + 1], rng.choice(256, rng.integers(1, 60), replace=False).tolist())
    index = NearIndex(words_of(octets))
    assert index._bands is not None
    return octets, index


@given(
    row=st.integers(0, 4_999),
    bits=st.lists(st.integers(0, 255), max_size=60, unique=True),
    max_distance=st.sampled_from(DISTANCES),
)
@settings(max_examples=150, deadline=None)
def test_bands_find_what_brute_force_finds(row: int, bits: list[int], max_distance: int) -> None:
    octets, index = large()
    wanted = off(octets[row], bits)
    assert index.nearest(words_of(wanted[None])[0], max_distance) == by_hand(octets, wanted, max_distance)


@given(data=st.data(), count=st.integers(0, 40), max_distance=st.sampled_from(DISTANCES))
@settings(max_examples=150, deadline=None)
def test_a_scan_finds_what_brute_force_finds(data: st.DataObject, count: int, max_distance: int) -> None:
    octets = random_hashes(count, seed=data.draw(st.integers(0, 9)))
    bits = data.draw(st.lists(st.integers(0, 255), max_size=140, unique=True))
    wanted = off(octets[data.draw(st.integers(0, count - 1))], bits) if count else random_hashes(1)[0]
    index = NearIndex(words_of(octets))
    assert index.nearest(words_of(wanted[None])[0], max_distance) == (
        by_hand(octets, wanted, max_distance) if count else None
    )


@pytest.mark.parametrize(
    "where", ["spread over all bands", "two in each band", "all in the last bits", "all in the first"]
)
@pytest.mark.parametrize("distance", [0, 1, 15, 16, 30, 31, 32])
def test_the_limit_is_inclusive(distance: int, where: str) -> None:
    places = {
        "spread over all bands": [(17 * number) % 256 for number in range(distance)],
        "two in each band": [16 * (number // 2) + 5 * (number % 2) for number in range(distance)],
        "all in the last bits": list(range(256 - distance, 256)),
        "all in the first": list(range(distance)),
    }
    octets, index = large()
    wanted = off(octets[-1], places[where])
    found = index.nearest(words_of(wanted[None])[0], 31)
    assert found == ((distance, octets[-1].tobytes().hex()) if distance <= 31 else None)
    assert index.nearest(words_of(wanted[None])[0], distance) == (distance, octets[-1].tobytes().hex())
    assert index.nearest(words_of(wanted[None])[0], distance - 1) is None if distance else True


def test_crowded_bands_fall_back_to_a_scan() -> None:
    octets = random_hashes(hash_index._BANDED_FROM, seed=2)
    octets[:, :20] = octets[0, :20]
    index = NearIndex(words_of(octets))
    wanted = words_of(off(octets[700], [160, 200, 255])[None])[0]
    assert index._bands is not None
    assert index._bands.candidates(wanted, 31) is None
    assert index.nearest(wanted, 31) == (3, octets[700].tobytes().hex())
    assert NearIndex(words_of(np.repeat(octets[:1], len(octets), axis=0))).nearest(wanted, MAX_DISTANCE) is not None


@given(st.lists(st.binary(min_size=2, max_size=2), max_size=30), st.binary(min_size=2, max_size=2))
def test_exact_finds_what_a_set_finds(ends: list[bytes], wanted: bytes) -> None:
    """Hashes that share the first word, or differ in it only, or are all zero."""
    held = [end[:1] + bytes(30) + end[1:] for end in ends]
    index = ExactIndex(words_of([one.hex() for one in held]))
    asked = wanted[:1] + bytes(30) + wanted[1:]
    assert index.nearest(words_of([asked.hex()])[0]) == ((0, asked.hex()) if asked in held else None)


def test_words_survive_the_way_through_an_index() -> None:
    octets = random_hashes(50)
    assert np.array_equal(NearIndex(words_of(octets)).words(), words_of(hexes(octets)))
    assert sorted(map(bytes, ExactIndex(words_of(octets)).words().astype(">u8"))) == sorted(map(bytes, octets))


@pytest.mark.parametrize("bad", ["", "a" * 63, "a" * 65, "g" * 64, " " * 64, "a" * 62 + " \n", "\u0661" * 64])
def test_what_is_no_hash_is_refused(bad: str) -> None:
    known = KnownPictures.build([(listed("near"), [OTHER])])
    for ask in (
        lambda: KnownPictures.build([(listed("near"), [OTHER, bad])]),
        lambda: known.adding("near", [bad]),
        lambda: known.match(bad),
        lambda: known.match(OTHER, bad, 100),
    ):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            ask()


@pytest.mark.parametrize("bad", [np.zeros((2, 31), np.uint8), np.zeros(32, np.uint8), np.zeros((2, 32), np.int64)])
def test_arrays_of_another_form_are_refused(bad: Octets) -> None:
    with pytest.raises(ValueError, match=r"uint8 \[N, 32\]"):
        words_of(bad)


def test_an_allow_list_is_never_perceptual() -> None:
    with pytest.raises(ValueError, match="SHA-256 only"):
        KnownPictures.build([(listed("soft", "allow"), [])])
    with pytest.raises(ValueError, match="SHA-256 only"):
        KnownPictures.build().with_list(listed("soft", "allow"), [OTHER])
    known = KnownPictures.build([(listed("soft"), [OTHER])])
    with pytest.raises(ValueError, match="SHA-256 only"):
        known.with_list(listed("soft", "allow"))


@pytest.mark.parametrize("distance", [-1, MAX_DISTANCE + 1])
def test_a_distance_that_matches_anything_is_refused(distance: int) -> None:
    with pytest.raises(ValueError, match="max_distance"):
        KnownPictures.build([(listed("near", max_distance=distance), [])])


def test_two_lists_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two lists"):
        KnownPictures.build([(listed("one"), []), (listed("one", kind="sha256"), [])])


def test_matches_come_weightiest_first_and_block_wins() -> None:
    sha, pdq = "12" * 32, random_hashes(1)[0]
    known = KnownPictures.build(
        [
            (listed("far", max_distance=20), hexes(off(pdq, list(range(20)))[None])),
            (listed("near"), [*hexes(off(pdq, list(range(9)))[None]), *hexes(off(pdq, [1, 2])[None])]),
            (listed("fine", "allow", "sha256"), [OTHER, sha]),
            (listed("bad", "block", "sha256"), random_hashes(5)),
            (listed("worse", "block", "sha256"), [sha.upper()]),
            (listed("too far", max_distance=5), hexes(off(pdq, list(range(6)))[None])),
        ]
    )
    matches = known.match(sha.upper(), pdq.tobytes().hex(), 50)
    assert matches == (
        Match("worse", "block", "sha256", sha, 0),
        Match("near", "block", "pdq", off(pdq, [1, 2]).tobytes().hex(), 2),
        Match("far", "block", "pdq", off(pdq, list(range(20))).tobytes().hex(), 20),
        Match("fine", "allow", "sha256", sha, 0),
    )
    assert verdict(matches) == "block"
    assert verdict(matches[3:]) == "allow"
    assert verdict(()) is None


@pytest.mark.parametrize(("quality", "known_then"), [(0, False), (49, False), (50, True), (100, True)])
def test_hashes_of_low_quality_are_not_matched(quality: int, *, known_then: bool) -> None:
    known = KnownPictures.build([(listed("near"), [OTHER])])
    assert bool(known.match("12" * 32, OTHER, quality)) is known_then


def test_a_picture_without_perceptual_hash_is_matched_by_its_bytes() -> None:
    known = KnownPictures.build([(listed("near"), [OTHER]), (listed("bytes", kind="sha256"), [OTHER])])
    assert [match.list for match in known.match(OTHER)] == ["bytes"]
    assert KnownPictures.build().match(OTHER, OTHER, 100) == ()


def test_a_change_gives_new_lists_and_leaves_the_old_ones() -> None:
    octets = random_hashes(20)
    first = KnownPictures.build([(listed("near"), octets), (listed("bytes", kind="sha256"), octets)])
    wider = first.with_list(listed("near", max_distance=40))
    wanted = off(octets[3], list(range(35))).tobytes().hex()
    assert (bool(first.match(OTHER, wanted, 100)), bool(wider.match(OTHER, wanted, 100))) == (False, True)
    assert wider._lists["near"].parts == first._lists["near"].parts
    assert wider._lists["bytes"] is first._lists["bytes"]
    assert [(made.name, made.entries) for made in wider.lists] == [("near", 20), ("bytes", 20)]
    emptied = wider.with_list(listed("near"), [])
    assert not emptied.match(OTHER, wanted, 100)
    assert [made.name for made in emptied.without("near").without("never").lists] == ["bytes"]
    assert first.match(octets[3].tobytes().hex())
    changed = first.with_list(listed("near", kind="sha256"))
    assert changed.lists[0].entries == 0


@pytest.mark.parametrize("kind", ["pdq", "sha256"])
def test_added_hashes_are_found_beside_and_within(monkeypatch: pytest.MonkeyPatch, kind: ListKind) -> None:
    monkeypatch.setattr(known_pictures, "SHORT_PART", 50)
    octets = random_hashes(400)
    known = KnownPictures.build([(listed("grows", kind=kind), octets[:100])])
    parts = []
    for start in range(100, 400, 20):
        known = known.adding("grows", hexes(octets[start : start + 20]))
        parts.append(len(known._lists["grows"].parts))
        assert known.lists[0].entries == start + 20
        for row in (0, 99, start - 1, start, start + 19):
            asked = octets[row].tobytes().hex()
            matches = known.match(asked, asked, 100)
            assert [(match.hash, match.distance) for match in matches] == [(asked, 0)]
    assert parts[:4] == [2, 2, 1, 2]
    assert known.adding("grows", random_hashes(60, seed=9)).lists[0].entries == 460


@pytest.mark.parametrize("kind", ["pdq", "sha256"])
def test_removed_hashes_are_not_found_any_more(monkeypatch: pytest.MonkeyPatch, kind: ListKind) -> None:
    monkeypatch.setattr(known_pictures, "SHORT_PART", 50)
    octets = random_hashes(120)
    octets[1, :8] = octets[0, :8]  # the same first word
    known = KnownPictures.build([(listed("shrinks", kind=kind), octets[:100])]).adding("shrinks", octets[100:])
    less = known.removing("shrinks", hexes(octets[[0, 50, 110]]))
    for row in range(120):
        asked = octets[row].tobytes().hex()
        assert bool(less.match(asked, asked, 100)) is (row not in {0, 50, 110})
        assert known.match(asked, asked, 100), "the old lists stay"
    assert (known.lists[0].entries, less.lists[0].entries) == (120, 117)
    same = less.removing("shrinks", random_hashes(3, seed=8))
    assert same._lists["shrinks"].parts == less._lists["shrinks"].parts
    assert less.removing("shrinks", octets).lists[0].entries == 0


def test_the_nearest_over_all_parts_is_given() -> None:
    octets = random_hashes(1)[0]
    far, near = off(octets, [1, 2, 3]), off(octets, [7])
    for first, second in ((far, near), (near, far), (octets, near)):
        known = KnownPictures.build([(listed("near"), np.repeat(first[None], known_pictures.SHORT_PART, axis=0))])
        known = known.adding("near", second[None])
        assert len(known._lists["near"].parts) == 2
        best = min((first, second), key=lambda one: int(np.unpackbits(one ^ octets).sum()))
        [match] = known.match(OTHER, octets.tobytes().hex(), 100)
        assert match.hash == best.tobytes().hex()


def test_memory_stays_within_what_is_said() -> None:
    octets, index = large()
    assert ExactIndex(words_of(octets)).nbytes == 32 * len(octets)
    assert index.nbytes <= 96 * len(octets) + 4.2e6


def test_threads_may_share_the_lists() -> None:
    octets, _ = large()
    known = KnownPictures.build([(listed("near"), octets)])
    asked = hexes(octets[5_000:5_050])
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: known.match(OTHER, one, 100)[0].hash, asked * 4))
    assert found == asked * 4
