"""Which lists is this picture on? Asked before any model.

A list holds hashes of one kind: SHA-256 of the file's bytes, or PDQ of what is to be seen (see ``gateway.perceptual``),
which matches within a distance. Block wins over allow. A list that allows is by SHA-256 only: pictures that come near
an allowed one by PDQ can be made on purpose. PDQ hashes of quality under 50 say too little and are not matched.

Everything here is immutable: a change gives another ``KnownPictures`` that shares what stayed the same, and the old one
keeps answering meanwhile. Building from hex is for a thread, not for the event loop: about a second for 1,000,000
hashes of each kind. Adding a few hashes to a long list touches a short part beside it only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from gateway.hash_index import MAX_DISTANCE, ExactIndex, HashIndex, NearIndex, Words, words_of
from gateway.perceptual import MIN_QUALITY
from gateway.store.lists import ListAction, ListKind, PictureList

Hashes = Sequence[str] | npt.NDArray[np.uint8]
"""64 hexadecimal digits each, or uint8 [N, 32]."""

SHORT_PART: Final = 65_536
"""Hashes. Added ones are kept beside a long list until they are more; then they are merged into it."""


@dataclass(frozen=True, slots=True)
class Match:
    """A list that knows the picture.

    Attributes:
        list: its name.
        action: what it says.
        kind: of hash.
        hash: the list's own hash, lower-case hexadecimal: of PDQ the nearest one.
        distance: bits between that and the picture's, 0..``max_distance`` of the list; 0 for SHA-256.
    """

    list: str
    action: ListAction
    kind: ListKind
    hash: str
    distance: int


def verdict(matches: Iterable[Match]) -> ListAction | None:
    """Return what the lists together say: block wins over allow; None if no list knows the picture."""
    actions = {match.action for match in matches}
    return "block" if "block" in actions else "allow" if actions else None


@dataclass(frozen=True, slots=True)
class _Listed:
    """A list and its hashes: usually one part, and a short one for those added since."""

    made: PictureList
    parts: tuple[HashIndex, ...]

    @classmethod
    def of(cls, made: PictureList, words: Words) -> Self:
        part = ExactIndex(words) if made.kind == "sha256" else NearIndex(words)
        return cls(replace(made, entries=len(part)), (part,))

    def with_words(self, words: Words) -> _Listed:
        kept: tuple[HashIndex, ...] = self.parts
        if len(self.parts[-1]) + len(words) <= SHORT_PART:
            kept, words = self.parts[:-1], np.concatenate([self.parts[-1].words(), words])
        elif len(self.parts) > 1 or len(words) > SHORT_PART:
            kept, words = (), np.concatenate([*(part.words() for part in self.parts), words])
        parts = (*kept, *_Listed.of(self.made, words).parts)
        return _Listed(replace(self.made, entries=sum(map(len, parts))), parts)

    def without_words(self, words: Words) -> _Listed:
        gone = {row.tobytes() for row in words}
        parts: list[HashIndex] = []
        for part in self.parts:
            held = part.words()
            keep = np.ones(len(held), dtype=np.bool_)
            for row in np.flatnonzero(np.isin(held[:, 0], words[:, 0])):  # few: those that share a first word
                keep[row] = held[row].tobytes() not in gone
            parts.append(part if keep.all() else type(part)(held[keep]))
        return _Listed(replace(self.made, entries=sum(map(len, parts))), tuple(parts))

    def match(self, wanted: Words) -> Match | None:
        made, limit, best = self.made, self.made.max_distance, None
        for part in self.parts:
            found = part.nearest(wanted, limit)
            if found is not None:
                best, limit = found, found[0] - 1
            if limit < 0:
                break
        if best is None:
            return None
        return Match(list=made.name, action=made.action, kind=made.kind, hash=best[1], distance=best[0])


class KnownPictures:
    """All lists at one moment; safe to ask from several threads."""

    def __init__(self, lists: Mapping[str, _Listed]) -> None:
        """Not for callers: see :meth:`build`."""
        self._lists = MappingProxyType(dict(lists))

    @classmethod
    def build(cls, lists: Iterable[tuple[PictureList, Hashes]] = ()) -> Self:
        """Index lists with their hashes; for a thread.

        Raises:
            ValueError: a list that allows by PDQ, a distance out of 0..``MAX_DISTANCE``, two lists of one name, or a
                hash that is no hash.
        """
        made: dict[str, _Listed] = {}
        for one, hashes in lists:
            if one.name in made:
                raise ValueError(f"two lists are named {one.name!r}")
            made[one.name] = _Listed.of(_checked(one), words_of(hashes))
        return cls(made)

    def with_list(self, made: PictureList, hashes: Hashes | None = None) -> Self:
        """Return these lists with one added or replaced; for a thread, unless ``hashes`` is None.

        Args:
            made: the list; ``entries`` is counted here.
            hashes: all of it, or None to keep those that the list of that name and kind has (none, if it is new).

        Raises:
            ValueError: as :meth:`build`.
        """
        held = self._lists.get(made.name)
        if hashes is None and held is not None and held.made.kind == made.kind:
            listed = _Listed(replace(_checked(made), entries=held.made.entries), held.parts)
        else:
            listed = _Listed.of(_checked(made), words_of(() if hashes is None else hashes))
        return type(self)({**self._lists, made.name: listed})

    def adding(self, name: str, hashes: Hashes) -> Self:
        """Return these lists with hashes added to one: milliseconds for a few, seconds for a million.

        A hash that the list has already is held twice, which changes no answer but the count of entries.

        Raises:
            KeyError: no list of that name.
            ValueError: a hash that is no hash.
        """
        return type(self)({**self._lists, name: self._lists[name].with_words(words_of(hashes))})

    def removing(self, name: str, hashes: Hashes) -> Self:
        """Return these lists with hashes taken out of one: up to a second for one of a million hashes.

        Raises:
            KeyError: no list of that name.
            ValueError: a hash that is no hash.
        """
        return type(self)({**self._lists, name: self._lists[name].without_words(words_of(hashes))})

    def without(self, name: str) -> Self:
        """Return these lists without one; the same lists if there is none of that name."""
        return type(self)({other: listed for other, listed in self._lists.items() if other != name})

    @property
    def lists(self) -> tuple[PictureList, ...]:
        """All lists, with the number of hashes held as ``entries``."""
        return tuple(listed.made for listed in self._lists.values())

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the hashes and their indexes hold."""
        return sum(part.nbytes for listed in self._lists.values() for part in listed.parts)

    def match(self, sha256_hex: str, pdq_hex: str | None = None, pdq_quality: int = 0) -> tuple[Match, ...]:
        """Return a match for each list that knows the picture, the weightiest first: block, exact, nearest, by name.

        Args:
            sha256_hex: of the file's bytes, 64 hexadecimal digits.
            pdq_hex: of the upright picture, likewise; None where none was computed.
            pdq_quality: 0..100; under 50 the PDQ hash is not matched.

        Raises:
            ValueError: a hash that is no hash.
        """
        wanted: dict[ListKind, Words] = {"sha256": words_of([sha256_hex])[0]}
        if pdq_hex is not None and pdq_quality >= MIN_QUALITY:
            wanted["pdq"] = words_of([pdq_hex])[0]
        found = (
            listed.match(wanted[listed.made.kind]) for listed in self._lists.values() if listed.made.kind in wanted
        )
        return tuple(sorted((match for match in found if match is not None), key=_weight))


def _checked(made: PictureList) -> PictureList:
    if made.kind == "pdq" and made.action == "allow":
        raise ValueError(f"list {made.name!r}: pictures are allowed by SHA-256 only, since near ones can be made")
    if made.kind == "pdq" and not 0 <= made.max_distance <= MAX_DISTANCE:
        raise ValueError(f"list {made.name!r}: max_distance must be 0..{MAX_DISTANCE}, not {made.max_distance}")
    return made


def _weight(match: Match) -> tuple[bool, bool, int, str]:
    return match.action != "block", match.kind != "sha256", match.distance, match.list
