"""The boxes of a HEIC that say what its picture is made of (ISO/IEC 14496-12, 23008-12), and those to be hidden.

libheif knows many more boxes, codecs and metadata than a phone's picture needs. Every box that is not named here is
overwritten with the type ``skip`` before libheif sees the file, so that what was not judged is not parsed either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import ImageCorrupt, UnsupportedImage
from gateway.image_avif_data import Extent, item_extents

MAX_BOXES: Final = 4096
"""A grid of 1,000 tiles has about 1,100 boxes, and one reference to all of them."""

_CUT = "This HEIC is cut short or its boxes are broken; send the complete file."
_TOP = frozenset({b"ftyp", b"meta", b"mdat"})
_META = frozenset({b"hdlr", b"pitm", b"iinf", b"iloc", b"iprp", b"iref", b"idat"})
_PROPERTIES = frozenset({b"hvcC", b"ispe", b"colr", b"pixi", b"auxC", b"clap", b"irot", b"imir"})


@dataclass(frozen=True, slots=True)
class Property:
    """A property of an item: the box's type and body."""

    kind: bytes
    body: bytes


@dataclass(slots=True)
class Item:
    """A part of the file: a picture, a grid of pictures, metadata.

    Attributes:
        kind: its type.
        name_at: offset of its type in the file.
        properties: in the order in which they are applied.
        extents: where its data lies.
    """

    kind: bytes
    name_at: int
    properties: list[Property] = field(default_factory=list)
    extents: list[Extent] = field(default_factory=list)

    def the(self, kind: bytes) -> bytes:
        """Return the body of the only property of this type.

        Raises:
            ImageCorrupt: there is none, or several.
        """
        found = [part.body for part in self.properties if part.kind == kind]
        if len(found) != 1:
            raise ImageCorrupt(_CUT)
        return found[0]


@dataclass(frozen=True, slots=True)
class Reference:
    """What an item says about others: of what type, where that type stands, from whom, about whom."""

    kind: bytes
    name_at: int
    source: int
    targets: tuple[int, ...]


@dataclass(slots=True)
class HeicBoxes:
    """What a HEIC's boxes say.

    Attributes:
        data: the whole file.
        primary: id of the item that is the picture.
        items: by id.
        references: between items.
        idat: body of the box that small items lie in.
        hidden: offsets of the types of boxes that are not to be parsed.
        stretches: of the file, [start, end), that hold the content of items looked at so far.
    """

    data: bytes
    primary: int = 0
    items: dict[int, Item] = field(default_factory=dict)
    references: list[Reference] = field(default_factory=list)
    idat: bytes = b""
    hidden: list[int] = field(default_factory=list)
    stretches: list[tuple[int, int]] = field(default_factory=list)
    _boxes: int = 0
    _taken: int = 0

    def item(self, number: int) -> Item:
        """Return the item of this id.

        Raises:
            ImageCorrupt: there is none.
        """
        if number not in self.items:
            raise ImageCorrupt(_CUT)
        return self.items[number]

    def content(self, item: Item) -> bytes:
        """Return an item's data.

        Raises:
            ImageCorrupt: it does not lie in the file, or all items together are far larger than the file.
        """
        parts = []
        for extent in item.extents:
            whole = self.idat if extent.inside else self.data
            end = extent.offset + extent.length
            self._taken += extent.length
            # Extents may overlap, but not multiply.
            if not extent.length or end > len(whole) or self._taken > 2 * len(self.data):
                raise ImageCorrupt(_CUT)
            if not extent.inside:
                self.stretches.append((extent.offset, end))
            parts.append(whole[extent.offset : end])
        return b"".join(parts)

    def read(self) -> None:
        """Walk the file.

        Raises:
            ImageCorrupt: cut short, broken, or a box that must be the only one of its kind is not.
            UnsupportedImage: it holds a sequence of pictures.
        """
        meta = self._only(0, len(self.data), _TOP, {b"meta", b"ftyp"}, last_may_be_open=True)
        parts = self._only(meta[b"meta"][0] + 4, meta[b"meta"][1], _META, {b"pitm", b"iinf", b"iloc", b"iprp"})
        if b"idat" in parts:
            self.idat = self.data[slice(*parts[b"idat"])]
        self._read_items(*parts[b"iinf"])
        body, end = parts[b"pitm"]
        self.primary = self._number(body + 4, 4 if self.data[body] else 2, end)[0]
        for extent in item_extents(self.data[slice(*parts[b"iloc"])]):
            if extent.item in self.items:
                self.items[extent.item].extents.append(extent)
        self._read_properties(*parts[b"iprp"])
        if b"iref" in parts:
            self._read_references(*parts[b"iref"])

    def _walk(self, start: int, end: int, *, last_may_be_open: bool = False) -> Iterator[tuple[bytes, int, int, int]]:
        """Yield (type, offset of the type, body start, body end) of each box (14496-12, 4.2)."""
        while start < end:
            self._boxes += 1
            size, kind, head = self._number(start, 4, end)[0], self.data[start + 4 : start + 8], 8
            if size == 1:
                size, head = self._number(start + 8, 8, end)[0], 16
            elif size == 0 and last_may_be_open:
                size = end - start
            if self._boxes > MAX_BOXES or size < head or start + size > end:
                raise ImageCorrupt(_CUT)
            yield kind, start + 4, start + head, start + size
            start += size

    def _only(
        self, start: int, end: int, known: frozenset[bytes], needed: set[bytes], *, last_may_be_open: bool = False
    ) -> dict[bytes, tuple[int, int]]:
        """Return (body start, body end) of each known box, hide the others."""
        found: dict[bytes, tuple[int, int]] = {}
        for kind, name_at, body, stop in self._walk(start, end, last_may_be_open=last_may_be_open):
            if kind == b"moov":
                raise UnsupportedImage("Sequences of pictures in a HEIC are not read; send a single picture, or a GIF.")
            if kind not in known:
                self.hidden.append(name_at)
            elif kind in found and kind != b"mdat":
                raise ImageCorrupt(_CUT)
            else:
                found[kind] = (body, stop)
        if not needed <= found.keys():
            raise ImageCorrupt(_CUT)
        return found

    def _number(self, at: int, size: int, end: int) -> tuple[int, int]:
        """Return a big-endian number and the offset behind it."""
        if at + size > end:
            raise ImageCorrupt(_CUT)
        return int.from_bytes(self.data[at : at + size], "big"), at + size

    def _read_items(self, body: int, end: int) -> None:
        """Read ``iinf`` (14496-12, 8.11.6)."""
        self._number(body, 6, end)
        for kind, name_at, start, stop in self._walk(body + (8 if self.data[body] else 6), end):
            version = self.data[start] if stop > start else 0
            if kind != b"infe" or version not in {2, 3}:
                self.hidden.append(name_at)
                continue
            number, at = self._number(start + 4, 2 if version == 2 else 4, stop)  # noqa: PLR2004
            self._number(at, 6, stop)
            if number in self.items:
                raise ImageCorrupt(_CUT)
            self.items[number] = Item(self.data[at + 2 : at + 6], at + 2)

    def _read_properties(self, body: int, end: int) -> None:
        """Read ``iprp``: the properties, and which item has which (23008-12, 9.3)."""
        parts = self._only(body, end, frozenset({b"ipco", b"ipma"}), {b"ipco", b"ipma"})
        known: list[Property | None] = [None]
        for kind, name_at, start, stop in self._walk(*parts[b"ipco"]):
            if kind not in _PROPERTIES:
                self.hidden.append(name_at)
            known.append(Property(kind, self.data[start:stop]) if kind in _PROPERTIES else None)
        at, stop = parts[b"ipma"]
        head, at = self._number(at, 4, stop)
        id_bytes, index_bytes = 4 if head >> 24 else 2, 2 if head & 1 else 1
        count, at = self._number(at, 4, stop)
        seen: set[int] = set()
        for _ in range(count):
            number, at = self._number(at, id_bytes, stop)
            associations, at = self._number(at, 1, stop)
            if number in seen:
                raise ImageCorrupt(_CUT)
            seen.add(number)
            for _ in range(associations):
                index, at = self._number(at, index_bytes, stop)
                index &= 0x7FFF if index_bytes == 2 else 0x7F  # noqa: PLR2004 - the highest bit says "essential"
                if index >= len(known):
                    raise ImageCorrupt(_CUT)
                part = known[index]
                if number in self.items and part is not None:
                    self.items[number].properties.append(part)

    def _read_references(self, body: int, end: int) -> None:
        """Read ``iref`` (14496-12, 8.11.12)."""
        self._number(body, 4, end)
        id_bytes = 4 if self.data[body] else 2
        for kind, name_at, start, stop in self._walk(body + 4, end):
            source, at = self._number(start, id_bytes, stop)
            count, at = self._number(at, 2, stop)
            self._number(at, count * id_bytes, stop)
            targets = tuple(self._number(at + id_bytes * index, id_bytes, stop)[0] for index in range(count))
            self.references.append(Reference(kind, name_at, source, targets))
