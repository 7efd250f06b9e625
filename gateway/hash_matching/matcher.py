"""Which hash lists an image is on: compared before any model is asked.

A list holds hashes of one kind: SHA-256 of the file's bytes, or PDQ of what is to be seen (see ``decoding/pdq.py``),
which matches within a distance. Block wins over allow. A list that allows is by SHA-256 only: images that come near an
allowed one by PDQ can be made on purpose. PDQ hashes of quality under 50 say too little and are not matched.

There is no index: every hash of a list is compared, 32 bytes of memory each. Of 1,000,000 a lookup by PDQ takes some
4 ms and one by SHA-256 0.2 ms (``scripts/bench_known.py``), in numpy, which lets other threads run meanwhile: for a
thread, as are all changes. Everything here is immutable: a change gives another ``HashMatcher`` that shares the lists
that stayed the same, and the old one keeps answering.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from gateway.decoding.pdq import MIN_QUALITY
from gateway.store.lists import HashList, ListAction, ListKind

Words = npt.NDArray[np.uint64]
HEX_DIGITS: Final = 64
MAX_DISTANCE: Final = 127
"""Bits. Two unrelated hashes differ in 128 of 256 on average, so that 128 or more would match any image."""

_WORDS: Final = 4
_PORTION: Final = 16_384
"""Hashes read from hex at a time: the interpreter's lock is free in between."""

_BLOCK: Final = 65_536
"""Hashes compared at a time: what that needs (2.8 MB) fits a processor's cache."""

_HEX: Final = re.compile(f"[0-9a-fA-F]{{{HEX_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Match:
    """A list that knows the image.

    Attributes:
        list: its name.
        action: what it says.
        kind: of hash.
        hash: the list's own hash, lower-case hexadecimal: of PDQ the nearest one, the first added of equally near ones.
        distance: bits between that and the image's, 0..``max_distance`` of the list; 0 for SHA-256.
        withhold: whether what the list matches is never stored or shown.
    """

    list: str
    action: ListAction
    kind: ListKind
    hash: str
    distance: int
    withhold: bool = False


def verdict(matches: Iterable[Match]) -> ListAction | None:
    """Return what the lists together say: block wins over allow; None if no list knows the image."""
    actions = {match.action for match in matches}
    return "block" if "block" in actions else "allow" if actions else None


@dataclass(frozen=True, slots=True)
class _Listed:
    """A list and its hashes, uint64 [4, N], the first word the most significant."""

    made: HashList
    words: Words

    @classmethod
    def of(cls, made: HashList, words: Words) -> Self:
        if made.kind == "pdq" and made.action == "allow":
            raise ValueError(f"list {made.name!r}: images are allowed by SHA-256 only, since near ones can be made")
        if made.kind == "pdq" and not 0 <= made.max_distance <= MAX_DISTANCE:
            raise ValueError(f"list {made.name!r}: max_distance must be 0..{MAX_DISTANCE}, not {made.max_distance}")
        return cls(replace(made, entries=words.shape[1]), words)

    def without_words(self, words: Words) -> _Listed:
        gone = {word.tobytes() for word in words.T}
        keep = np.ones(self.words.shape[1], dtype=np.bool_)
        for row in np.flatnonzero(np.isin(self.words[0], words[0])):  # few: those that share a first word
            keep[row] = self.words[:, row].tobytes() not in gone
        return self.of(self.made, self.words[:, keep])

    def match(self, wanted: Words) -> Match | None:
        made = self.made
        found = _equal(self.words, wanted) if made.kind == "sha256" else _nearest(self.words, wanted, made.max_distance)
        if found is None:
            return None
        row, distance = found
        hash_hex = self.words[:, row].astype(">u8").tobytes().hex()
        return Match(made.name, made.action, made.kind, hash_hex, distance, made.withhold)


class HashMatcher:
    """All lists at one moment; safe to ask from several threads."""

    def __init__(self, lists: Mapping[str, _Listed] | None = None) -> None:
        """Begin with no lists; with some is for the methods here."""
        self._lists = MappingProxyType(dict(lists or {}))

    def with_list(self, made: HashList, hashes: Iterable[str] | None = None) -> Self:
        """Return these lists with one added or replaced.

        Args:
            made: the list; ``entries`` is counted here.
            hashes: all of it, 64 hexadecimal digits each; None to keep those that the list of that name and kind has
                (none, if it is new).

        Raises:
            ValueError: a list that allows by PDQ, a distance out of 0..``MAX_DISTANCE``, or a hash that is no hash.
        """
        held = self._lists.get(made.name)
        kept = hashes is None and held is not None and held.made.kind == made.kind
        words = held.words if held is not None and kept else _words_of(hashes or ())
        return type(self)({**self._lists, made.name: _Listed.of(made, words)})

    def adding(self, name: str, hashes: Iterable[str]) -> Self:
        """Return these lists with hashes added to one.

        A hash that the list has already is held twice, which changes no answer but the count of entries.

        Raises:
            KeyError: no list of that name.
            ValueError: a hash that is no hash.
        """
        held = self._lists[name]
        words = np.concatenate([held.words, _words_of(hashes)], axis=1)
        return type(self)({**self._lists, name: _Listed.of(held.made, words)})

    def removing(self, name: str, hashes: Iterable[str]) -> Self:
        """Return these lists with hashes taken out of one: up to a second for one of a million hashes.

        Raises:
            KeyError: no list of that name.
            ValueError: a hash that is no hash.
        """
        return type(self)({**self._lists, name: self._lists[name].without_words(_words_of(hashes))})

    def without(self, name: str) -> Self:
        """Return these lists without one; the same lists if there is none of that name."""
        return type(self)({other: listed for other, listed in self._lists.items() if other != name})

    @property
    def lists(self) -> tuple[HashList, ...]:
        """All lists, with the number of hashes held as ``entries``."""
        return tuple(listed.made for listed in self._lists.values())

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the hashes hold."""
        return sum(listed.words.nbytes for listed in self._lists.values())

    def match(self, sha256_hex: str, pdq_hex: str | None = None, pdq_quality: int = 0) -> tuple[Match, ...]:
        """Return a match for each list that knows the image, the weightiest first: block, exact, nearest, by name.

        Args:
            sha256_hex: of the file's bytes, 64 hexadecimal digits.
            pdq_hex: of the upright image, likewise; None where none was computed.
            pdq_quality: 0..100; under 50 the PDQ hash is not matched.

        Raises:
            ValueError: a hash that is no hash.
        """
        wanted: dict[ListKind, Words] = {"sha256": _words_of([sha256_hex])[:, 0]}
        if pdq_hex is not None and pdq_quality >= MIN_QUALITY:
            wanted["pdq"] = _words_of([pdq_hex])[:, 0]
        found = (
            listed.match(wanted[listed.made.kind]) for listed in self._lists.values() if listed.made.kind in wanted
        )
        return tuple(sorted((match for match in found if match is not None), key=_weight))


def _weight(match: Match) -> tuple[bool, bool, int, str]:
    return match.action != "block", match.kind != "sha256", match.distance, match.list


def _words_of(hashes: Iterable[str]) -> Words:
    """Return hashes of 64 hexadecimal digits as uint64 [4, N].

    Raises:
        ValueError: another length, or no hexadecimal digits.
    """
    rows = np.concatenate([np.empty((0, _WORDS), dtype=np.uint64), *_portions(hashes)])
    return np.ascontiguousarray(rows.T)


def _portions(hashes: Iterable[str]) -> Iterator[Words]:
    left = iter(hashes)
    while portion := list(islice(left, _PORTION)):
        for one in portion:
            if not _HEX.fullmatch(one):
                raise ValueError(f"{one[:80]!r} is not a hash of {HEX_DIGITS} hexadecimal digits")
        octets = np.frombuffer(bytes.fromhex("".join(portion)), dtype=">u8")
        yield octets.astype(np.uint64).reshape(-1, _WORDS)


def _equal(words: Words, wanted: Words) -> tuple[int, int] | None:
    """Return (row, 0) of the first hash [4] that is the wanted one; None if it is not there."""
    rows = np.flatnonzero(words[0] == wanted[0])
    rows = rows[(words[:, rows] == wanted[:, None]).all(axis=0)]
    return (int(rows[0]), 0) if rows.size else None


def _nearest(words: Words, wanted: Words, max_distance: int) -> tuple[int, int] | None:
    """Return row and distance in bits of the nearest hash within a distance, the first of equally near ones."""
    found = None
    for start in range(0, words.shape[1], _BLOCK):
        differing = np.bitwise_count(words[:, start : start + _BLOCK] ^ wanted[:, None])
        distances = differing.sum(axis=0, dtype=np.uint16)
        row = int(distances.argmin())
        if distances[row] <= max_distance:
            found, max_distance = (start + row, int(distances[row])), int(distances[row]) - 1
    return found
