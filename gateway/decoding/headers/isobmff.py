"""The boxes of an AVIF or HEIC that say how large its images are (ISO/IEC 14496-12 and 23008-12).

Neither items' data nor bitstreams are looked at. A container may lie about them: what decoding takes is bounded where
it is done, in a process with limits of memory and time (``worker.py``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from gateway.errors import ImageCorrupt

MAX_PARTS: Final = 20_000
"""Boxes and associations of properties with items. A grid of 1,000 cells has about 5,000."""

_PARENTS: Final = {
    b"meta": b"",
    b"iprp": b"meta",
    b"ipco": b"iprp",
    b"moov": b"",
    b"trak": b"moov",
    b"mdia": b"trak",
    b"minf": b"mdia",
    b"stbl": b"minf",
}
"""Boxes that hold boxes, and in which they lie: at the top of the file, or in another one of these."""

_CUT: Final = "This image is cut short or its boxes are broken; send the complete file."


@dataclass(frozen=True, slots=True)
class Property:
    """A property of an item: the box's type and body."""

    kind: bytes
    body: bytes


@dataclass(slots=True)
class Track:
    """A track of a sequence.

    Attributes:
        handler: ``pict`` of images, ``auxv`` of their alpha, ``soun`` of sound.
        codec: type of the first sample entry.
        width: pixels.
        height: pixels.
        samples: frames.
        ticks_a_second: unit of the samples' durations.
        runs: (samples, duration of each in ticks), in their order.
    """

    handler: bytes = b""
    codec: bytes = b""
    width: int = 0
    height: int = 0
    samples: int = 0
    ticks_a_second: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)

    def durations_ms(self) -> Iterator[float]:
        """Yield the duration of each sample, as many as the track states: that may be billions."""
        for samples, ticks in self.runs:
            yield from itertools.repeat(1000 * ticks / max(1, self.ticks_a_second), samples)


@dataclass(slots=True)
class Container:
    """What an AVIF's or HEIC's boxes say.

    Attributes:
        brand: the major one.
        sequence: there is a box ``moov``.
        tracks: in their order.
        sizes: (width, height) of everything that states one.
        deep: something has more than 8 bits a sample.
        auxiliary: something is an alpha plane, depth or gain map.
    """

    brand: bytes = b""
    sequence: bool = False
    tracks: list[Track] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    deep: bool = False
    auxiliary: bool = False
    _primary: int | None = None
    _properties: list[Property] = field(default_factory=list)
    _associations: dict[int, list[int]] = field(default_factory=dict)
    _parts: int = 0

    def primary(self) -> list[Property]:
        """Return the properties of the item that is the image, in the order in which they apply; none without it."""
        numbers = self._associations.get(self._primary, []) if self._primary is not None else []
        return [self._properties[number - 1] for number in numbers if 1 <= number <= len(self._properties)]

    def count_part(self) -> None:
        """Count one more box or association.

        Raises:
            ImageCorrupt: there are absurdly many.
        """
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise ImageCorrupt(f"This image has more than {MAX_PARTS:,} parts; save it again with a common program.")

    def read(self, data: bytes, start: int, end: int, within: bytes = b"") -> None:
        """Walk the boxes of ``data[start:end]``, which lie in one of the type ``within``."""
        for kind, body, stop in self._boxes(data, start, end):
            if within == b"ipco":
                self._properties.append(Property(kind, data[body:stop]))
            if kind == b"trak" and within == b"moov":
                self.tracks.append(Track())
            self.sequence |= kind == b"moov"
            if _PARENTS.get(kind) == within:
                self.read(data, body + (4 if kind == b"meta" else 0), stop, kind)  # meta: behind version and flags
            elif within in {b"trak", b"mdia", b"stbl"}:
                self._note_track(self.tracks[-1], kind, data, body, stop)
            else:
                self._note(kind, data, body, stop)

    def _boxes(self, data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield (type, body start, body end) of each box (ISO/IEC 14496-12, 4.2)."""
        while start + 8 <= end:
            self.count_part()
            size, kind, head = _number(data, start, 4, end), data[start + 4 : start + 8], 8
            if size == 1:
                size, head = _number(data, start + 8, 8, end), 16
            elif size == 0:
                size = end - start
            if size < head or start + size > end:
                raise ImageCorrupt(_CUT)
            yield kind, start + head, start + size
            start += size

    def _note(self, kind: bytes, data: bytes, body: int, stop: int) -> None:
        match kind:
            case b"ftyp":
                self.brand = data[body : body + 4]
            case b"pitm":  # 14496-12, 8.11.4
                self._primary = _number(data, body + 4, 4 if data[body : body + 1] > b"\0" else 2, stop)
            case b"ispe":  # 23008-12, 6.5.3
                self.sizes.append(_size(data[body:stop]))
            case b"av1C":  # AV1-ISOBMFF 2.3.3: the third byte is tier, high_bitdepth, twelve_bit, ...
                self.deep |= bool(_number(data, body, 4, stop) & 0x4000)
            case b"hvcC":  # 14496-15, 8.3.3.1.2: bits a sample less 8, of luma and of chroma
                self.deep |= bool(_number(data, body + 17, 2, stop) & 0x0707)
            case b"auxC":
                self.auxiliary = True
            case b"ipma":
                self._note_associations(data, body, stop)

    def _note_associations(self, data: bytes, body: int, stop: int) -> None:
        """Note which items have which properties (23008-12, 9.3)."""
        head, at = _number(data, body, 4, stop), body + 8
        id_bytes, index_bytes = 4 if head >> 24 else 2, 2 if head & 1 else 1
        for _ in range(_number(data, body + 4, 4, stop)):
            item, count = _number(data, at, id_bytes, stop), _number(data, at + id_bytes, 1, stop)
            at += id_bytes + 1
            found = self._associations.setdefault(item, [])
            self.count_part()
            for _ in range(count):
                self.count_part()
                found.append(_number(data, at, index_bytes, stop) & (0x7FFF if index_bytes == 2 else 0x7F))  # noqa: PLR2004
                at += index_bytes

    def _note_track(self, track: Track, kind: bytes, data: bytes, body: int, stop: int) -> None:
        if kind == b"hdlr":  # 14496-12, 8.4.3
            track.handler = data[body + 8 : body + 12]
        elif kind == b"tkhd":  # 8.3.2: times grow with the version; sides are 16.16 fixed-point numbers
            at = body + (88 if data[body : body + 1] > b"\0" else 76)
            track.width, track.height = (_number(data, place, 4, stop) >> 16 for place in (at, at + 4))
            self.sizes.append((track.width, track.height))
        elif kind == b"stsz":  # 8.7.3.2
            track.samples = _number(data, body + 8, 4, stop)
        elif kind == b"mdhd":  # 8.4.2.2
            track.ticks_a_second = _number(data, body + (20 if data[body : body + 1] > b"\0" else 12), 4, stop)
        elif kind == b"stts":  # 8.6.1.2
            for at in range(body + 8, body + 8 + 8 * _number(data, body + 4, 4, stop), 8):
                self.count_part()
                track.runs.append((_number(data, at, 4, stop), _number(data, at + 4, 4, stop)))
        elif kind == b"stsd":  # 8.5.2 and 12.1.3.2
            for codec, entry, end in self._boxes(data, body + 8, stop):
                track.codec = track.codec or codec
                if codec == b"av01":
                    self.sizes.append((_number(data, entry + 24, 2, end), _number(data, entry + 26, 2, end)))
                    self.read(data, entry + 78, end, codec)


def read_container(data: bytes) -> Container:
    """Walk the boxes of an AVIF or HEIC, given whole.

    Raises:
        ImageCorrupt: cut short, broken, or absurdly many parts.
    """
    found = Container()
    found.read(data, 0, len(data))
    return found


def stored_size(properties: list[Property]) -> tuple[int, int] | None:
    """Return (width, height) that an item states; None where it states none."""
    return next((_size(part.body) for part in properties if part.kind == b"ispe"), None)


def shown_size(properties: list[Property]) -> tuple[int, int] | None:
    """Return the same once the item is cropped and turned, in the order of its properties.

    Raises:
        ImageCorrupt: nothing would be left.
    """
    size = stored_size(properties)
    if size is None:
        return None
    width, height = size
    for part in properties:
        if part.kind == b"clap":  # 14496-12, 12.1.4: width, height and offsets, each a fraction
            numbers = [int.from_bytes(part.body[at : at + 4], "big", signed=True) for at in range(0, 32, 4)]
            if not all(numbers[1::2]):
                raise ImageCorrupt(_CUT)
            across, down, right, low = (Fraction(*numbers[at : at + 2]) for at in range(0, 8, 2))
            width, height = _cropped(width, across, right), _cropped(height, down, low)
        elif part.kind == b"irot" and part.body[:1] and part.body[0] & 1:  # 23008-12, 6.5.10: quarter turns
            width, height = height, width
    return width, height


def _cropped(side: int, wanted: Fraction, offset: Fraction) -> int:
    """Return the pixels of a side that lie within a crop around its middle plus an offset, rounded as libheif does."""
    first = math.trunc(offset + Fraction(side - 1, 2) - (wanted - 1) / 2)
    last = math.floor(wanted - 1 + first + Fraction(1, 2))
    left = min(last, side - 1) - max(first, 0) + 1
    if left < 1:
        raise ImageCorrupt(_CUT)
    return left


def _size(ispe: bytes) -> tuple[int, int]:
    return int.from_bytes(ispe[4:8], "big"), int.from_bytes(ispe[8:12], "big")


def _number(data: bytes, at: int, size: int, end: int) -> int:
    if at + size > end:
        raise ImageCorrupt(_CUT)
    return int.from_bytes(data[at : at + size], "big")
