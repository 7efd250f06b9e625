"""Where in an AVIF or HEIC the coded data lies: item locations, sample tables (ISO/IEC 14496-12, 8.11.3 and 8.7)."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.errors import ImageCorrupt

SAMPLE_TABLES = frozenset({b"stsz", b"stsc", b"stco", b"co64"})

MAX_EXTENTS = 4096
"""Of all items. One may take no byte at all, so that a few bytes could announce billions."""

_BROKEN = "This picture does not say where its data lies; send the complete file."
_WHOLE_FILE, _ITEM_DATA_BOX = 0, 1  # construction_method


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of an item: in the file, or in the box ``idat`` when ``inside`` is set; length 0 is up to the end."""

    item: int
    inside: bool
    offset: int
    length: int


class _Reader:
    """Reads big-endian numbers one after another."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at

    def number(self, size: int) -> int:
        """Return the next number of ``size`` bytes; 0 where a field is absent (size 0)."""
        self._at += size
        if self._at > len(self._data):
            raise ImageCorrupt(_BROKEN)
        return int.from_bytes(self._data[self._at - size : self._at], "big")


def item_extents(iloc: bytes) -> Iterator[Extent]:
    """Yield what an item location box says (8.11.3.2).

    Args:
        iloc: the box's body.

    Raises:
        ImageCorrupt: cut short, too many, or an item that is put together from other items.
    """
    reader = _Reader(iloc)
    version = reader.number(4) >> 24
    sizes = reader.number(2)
    offset_size, length_size, base_size = sizes >> 12, (sizes >> 8) & 15, (sizes >> 4) & 15
    index_size = sizes & 15 if version else 0
    room = MAX_EXTENTS
    for _ in range(reader.number(4 if version > 1 else 2)):
        item = reader.number(4 if version > 1 else 2)
        method = reader.number(2) & 15 if version else _WHOLE_FILE
        if method not in {_WHOLE_FILE, _ITEM_DATA_BOX}:
            raise ImageCorrupt(_BROKEN)
        reader.number(2)  # data_reference_index
        base = reader.number(base_size)
        extents = reader.number(2)
        room -= extents
        if room < 0:
            raise ImageCorrupt(_BROKEN)
        for _ in range(extents):
            reader.number(index_size)
            offset = base + reader.number(offset_size)
            yield Extent(item, method == _ITEM_DATA_BOX, offset, reader.number(length_size))


def sample_count(tables: Mapping[bytes, bytes]) -> int:
    """Return how many samples a track's size table announces (8.7.3.2)."""
    return _Reader(tables[b"stsz"], 8).number(4) if b"stsz" in tables else 0


def sample_extents(tables: Mapping[bytes, bytes]) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of each sample of a track.

    Args:
        tables: bodies of the track's sample tables, by type.

    Raises:
        ImageCorrupt: a table is missing or cut short.
    """
    wide = 8 if b"co64" in tables else 4
    if not {b"stsz", b"stsc"} <= tables.keys() or not {b"stco", b"co64"} & tables.keys():
        raise ImageCorrupt(_BROKEN)
    sizes, chunks = _Reader(tables[b"stsz"], 4), _Reader(tables[b"co64" if wide == 8 else b"stco"], 4)  # noqa: PLR2004
    runs = _Reader(tables[b"stsc"], 4)
    same, left = sizes.number(4), sizes.number(4)
    runs_left, per_chunk, next_run = runs.number(4), 0, 0
    for chunk in range(1, chunks.number(4) + 1):
        if runs_left and not next_run:
            next_run = runs.number(4)
        if runs_left and chunk == next_run:
            per_chunk, _ = runs.number(4), runs.number(4)
            runs_left, next_run = runs_left - 1, 0
        offset = chunks.number(wide)
        for _ in range(min(per_chunk, left)):
            length = same or sizes.number(4)
            yield offset, length
            offset, left = offset + length, left - 1
        if not left:
            return
    raise ImageCorrupt(_BROKEN)


def keep_apart(names: Iterable[int], stretches: Iterable[tuple[int, int]]) -> None:
    """Make sure that overwriting type names changes no coded data.

    Args:
        names: offsets of the names, 4 bytes each.
        stretches: of the file, [start, end), that coded data is taken from.

    Raises:
        ImageCorrupt: a name lies in coded data, so that overwriting it would make another picture.
    """
    at = sorted(names)
    for start, end in stretches:
        first = bisect.bisect_left(at, start - 3)
        if first < len(at) and at[first] < end:
            raise ImageCorrupt(_BROKEN)
