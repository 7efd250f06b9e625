"""Known pictures: matching against brute force, what wins, and what a change shares."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.hash_matching.matcher import MAX_DISTANCE, HashMatcher, Match, verdict
from gateway.store.lists import HashList, ListAction, ListKind

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


def listed(name: str, action: ListAction = "block", kind: ListKind = "pdq", max_distance: int = 31) -> HashList:
    return HashList(name, action, kind, max_distance)


def built(*lists: tuple[HashList, list[str]]) -> HashMatcher:
    known = HashMatcher()
    for made, hashes in lists:
        known = known.with_list(made, hashes)
    return known


def by_hand(octets: Octets, wanted: Octets, max_distance: int) -> tuple[int, str] | None:
    distances = np.unpackbits(octets ^ wanted, axis=1).sum(axis=1)
    row = int(distances.argmin())
    return (int(distances[row]), octets[row].tobytes().hex()) if distances[row] <= max_distance else None


@cache
def large() -> tuple[Octets, HashMatcher]:
    """More than are compared at a time: some apart from each other, some in crowds of 1 to 60 bits around one."""
    rng = np.random.default_rng(5)
    octets = random_hashes(66_536, seed=5)
    for row in range(0, 4_000, 2):
        octets[row] = off(octets[row + 1], rng.choice(256, rng.integers(1, 60), replace=False).tolist())
    return octets, HashMatcher().with_list(listed("near"), hexes(octets))


def nearest(known: HashMatcher, wanted: Octets, max_distance: int) -> tuple[int, str] | None:
    matches = known.with_list(listed("near", max_distance=max_distance)).match(OTHER, wanted.tobytes().hex(), 100)
    return (matches[0].distance, matches[0].hash) if matches else None


@given(
    row=st.one_of(st.integers(0, 4_999), st.integers(65_500, 66_535)),
    bits=st.lists(st.integers(0, 255), max_size=60, unique=True),
    max_distance=st.sampled_from(DISTANCES),
)
@settings(max_examples=100, deadline=None)
def test_a_long_list_finds_what_brute_force_finds(row: int, bits: list[int], max_distance: int) -> None:
    octets, known = large()
    wanted = off(octets[row], bits)
    assert nearest(known, wanted, max_distance) == by_hand(octets, wanted, max_distance)


@given(data=st.data(), count=st.integers(0, 40), max_distance=st.sampled_from(DISTANCES))
@settings(max_examples=150, deadline=None)
def test_a_short_list_finds_what_brute_force_finds(data: st.DataObject, count: int, max_distance: int) -> None:
    octets = random_hashes(count, seed=data.draw(st.integers(0, 9)))
    bits = data.draw(st.lists(st.integers(0, 255), max_size=140, unique=True))
    wanted = off(octets[data.draw(st.integers(0, count - 1))], bits) if count else random_hashes(1)[0]
    known = HashMatcher().with_list(listed("near"), hexes(octets))
    assert nearest(known, wanted, max_distance) == (by_hand(octets, wanted, max_distance) if count else None)


@pytest.mark.parametrize("distance", [0, 1, 31, 32])
def test_the_limit_is_inclusive(distance: int) -> None:
    octets, known = large()
    wanted = off(octets[-1], [(17 * number) % 256 for number in range(distance)])
    assert nearest(known, wanted, 31) == ((distance, octets[-1].tobytes().hex()) if distance <= 31 else None)
    assert nearest(known, wanted, distance) == (distance, octets[-1].tobytes().hex())
    assert nearest(known, wanted, distance - 1) is None if distance else True


def test_of_equally_near_hashes_the_first_is_given() -> None:
    octets, known = large()
    wanted = random_hashes(1, seed=7)[0]
    for first, second in ((off(wanted, [3]), off(wanted, [200])), (off(wanted, [200]), off(wanted, [3]))):
        both = (
            known.adding("near", hexes(first[None])).adding("near", hexes(octets)).adding("near", hexes(second[None]))
        )
        assert nearest(both, wanted, 31) == (1, first.tobytes().hex())


def test_a_hash_nearer_by_one_bit_is_found_behind_tens_of_thousands() -> None:
    octets, _ = large()
    wanted = random_hashes(1, seed=7)[0]
    far, near = hexes(off(wanted, [1, 2, 3, 4, 5])[None]), hexes(off(wanted, [1, 2, 3, 4])[None])
    for first, last in ((far, near), (near, far)):
        known = built((listed("near"), first)).adding("near", hexes(octets)).adding("near", last)
        assert nearest(known, wanted, 31) == (4, near[0])


def test_of_what_is_no_hash_80_characters_are_repeated() -> None:
    with pytest.raises(ValueError, match=f"^'{'x' * 80}' is not a hash"):
        built((listed("near"), ["x" * 200]))


def test_an_exact_match_comes_before_a_perceptual_one_at_no_distance() -> None:
    known = built((listed("a near"), [OTHER]), (listed("z exact", kind="sha256"), [OTHER]))
    assert [match.list for match in known.match(OTHER, OTHER, 100)] == ["z exact", "a near"]


@given(st.lists(st.binary(min_size=2, max_size=2), max_size=30), st.binary(min_size=2, max_size=2))
def test_exact_finds_what_a_set_finds(ends: list[bytes], wanted: bytes) -> None:
    """Hashes that share the first word, or differ in it only, or are all zero."""
    held = [(end[:1] + bytes(30) + end[1:]).hex() for end in ends]
    known = HashMatcher().with_list(listed("bytes", kind="sha256"), held)
    asked = (wanted[:1] + bytes(30) + wanted[1:]).hex()
    assert [match.hash for match in known.match(asked)] == ([asked] if asked in held else [])


@pytest.mark.parametrize("bad", ["", "a" * 63, "a" * 65, "g" * 64, " " * 64, "a" * 62 + " \n", "\u0661" * 64])
def test_what_is_no_hash_is_refused(bad: str) -> None:
    known = built((listed("near"), [OTHER]))
    for ask in (
        lambda: built((listed("near"), [OTHER, bad])),
        lambda: known.adding("near", [bad]),
        lambda: known.match(bad),
        lambda: known.match(OTHER, bad, 100),
    ):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            ask()


def test_an_allow_list_is_never_perceptual() -> None:
    with pytest.raises(ValueError, match="SHA-256 only"):
        built((listed("soft", "allow"), []))
    with pytest.raises(ValueError, match="SHA-256 only"):
        HashMatcher().with_list(listed("soft", "allow"), [OTHER])
    known = built((listed("soft"), [OTHER]))
    with pytest.raises(ValueError, match="SHA-256 only"):
        known.with_list(listed("soft", "allow"))


@pytest.mark.parametrize("distance", [-1, MAX_DISTANCE + 1])
def test_a_distance_that_matches_anything_is_refused(distance: int) -> None:
    with pytest.raises(ValueError, match="max_distance"):
        built((listed("near", max_distance=distance), []))


def test_matches_come_weightiest_first_and_block_wins() -> None:
    sha, pdq = "12" * 32, random_hashes(1)[0]
    known = built(
        (listed("far", max_distance=20), hexes(off(pdq, list(range(20)))[None])),
        (listed("near"), [*hexes(off(pdq, list(range(9)))[None]), *hexes(off(pdq, [1, 2])[None])]),
        (listed("fine", "allow", "sha256"), [OTHER, sha]),
        (listed("bad", "block", "sha256"), hexes(random_hashes(5))),
        (listed("worse", "block", "sha256"), [sha.upper()]),
        (listed("too far", max_distance=5), hexes(off(pdq, list(range(6)))[None])),
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
    known = built((listed("near"), [OTHER]))
    assert bool(known.match("12" * 32, OTHER, quality)) is known_then


def test_a_picture_without_perceptual_hash_is_matched_by_its_bytes() -> None:
    known = built((listed("near"), [OTHER]), (listed("bytes", kind="sha256"), [OTHER]))
    assert [match.list for match in known.match(OTHER)] == ["bytes"]
    assert HashMatcher().match(OTHER, OTHER, 100) == ()


def test_a_change_gives_new_lists_and_leaves_the_old_ones() -> None:
    octets = random_hashes(20)
    first = built((listed("near"), hexes(octets)), (listed("bytes", kind="sha256"), hexes(octets)))
    wider = first.with_list(listed("near", max_distance=40))
    wanted = off(octets[3], list(range(35))).tobytes().hex()
    assert (bool(first.match(OTHER, wanted, 100)), bool(wider.match(OTHER, wanted, 100))) == (False, True)
    assert np.shares_memory(wider._lists["near"].words, first._lists["near"].words)
    assert wider._lists["bytes"] is first._lists["bytes"]
    assert [(made.name, made.entries) for made in wider.lists] == [("near", 20), ("bytes", 20)]
    emptied = wider.with_list(listed("near"), [])
    assert not emptied.match(OTHER, wanted, 100)
    assert [made.name for made in emptied.without("near").without("never").lists] == ["bytes"]
    assert first.match(octets[3].tobytes().hex())
    changed = first.with_list(listed("near", kind="sha256"))
    assert changed.lists[0].entries == 0


@pytest.mark.parametrize("kind", ["pdq", "sha256"])
def test_added_hashes_are_found_and_removed_ones_are_not(kind: ListKind) -> None:
    octets = random_hashes(120)
    octets[1, :8] = octets[0, :8]  # the same first word
    hashes = hexes(octets)
    some = built((listed("list", kind=kind), hashes[:100]))
    more = some.adding("list", hashes[100:])
    less = more.removing("list", [hashes[0], hashes[50], hashes[110].upper()])
    for row, asked in enumerate(hashes):
        for known, held in ((some, row < 100), (more, True), (less, row not in {0, 50, 110})):
            assert [match.distance for match in known.match(asked, asked, 100)] == ([0] if held else [])
    assert [known.lists[0].entries for known in (some, more, less)] == [100, 120, 117]
    assert less.removing("list", hexes(random_hashes(3, seed=8))).lists[0].entries == 117
    assert less.removing("list", hashes).lists[0].entries == 0
    assert less.nbytes == 32 * 117


def test_threads_may_share_the_lists() -> None:
    octets, known = large()
    asked = hexes(octets[5_000:5_050])
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: known.match(OTHER, one, 100)[0].hash, asked * 4))
    assert found == asked * 4
