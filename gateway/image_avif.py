"""AVIF (AV1 Image File Format 1.1 over ISO/IEC 14496-12 and 23008-12): size and frames, from its boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.errors import ImageCorrupt
from gateway.image_av1 import MAX_OBUS, coded_sizes
from gateway.image_avif_data import SAMPLE_TABLES, Extent, item_extents, keep_apart, sample_count, sample_extents
from gateway.image_header import ImageHeader

_CUT = "This AVIF is cut short or its boxes are broken; send the complete file."
_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}
"""Boxes that hold boxes, and how many bytes stand before those (version and flags)."""

MAX_BOXES = 4096
"""A grid of 256 tiles with its properties needs about 1,000."""

MAX_DEPTH = 8
"""moov, trak, mdia, minf, stbl are five."""


@dataclass(slots=True)
class _Found:
    """What the walk has seen so far.

    Attributes:
        sizes: (width, height) that items and tracks announce.
        deep: more than 8 bits a sample.
        exif_items: offsets of the type names of EXIF items.
        pictures: ids of the items that hold AV1.
        extents: where items lie.
        idat: body of the box that items may lie in.
        tracks: sample tables of each track, by type.
        boxes: walked so far.
    """

    sizes: list[tuple[int, int]] = field(default_factory=list)
    deep: bool = False
    exif_items: list[int] = field(default_factory=list)
    pictures: set[int] = field(default_factory=set)
    extents: list[Extent] = field(default_factory=list)
    idat: bytes = b""
    tracks: list[dict[bytes, bytes]] = field(default_factory=list)
    boxes: int = 0


def read_avif(data: bytes, *, max_frames: int) -> ImageHeader:
    """Walk an AVIF's boxes, and the sequence headers of the AV1 data that they point at.

    The size is the largest that any item, track or bitstream states, so that no smaller one can hide it.

    Args:
        data: the whole file, starting with its ``ftyp`` box.
        max_frames: with more than this many frames, their bitstreams are not looked at.

    Raises:
        ImageCorrupt: cut short, no size or no data in it, or absurdly many parts.
    """
    found = _Found()
    _walk(data, 0, len(data), found, depth=0)
    frames = max([1, *(sample_count(tables) for tables in found.tracks)])
    if frames <= max_frames:
        found.sizes += _bitstream_sizes(data, found)
    if not found.sizes:
        raise ImageCorrupt("This AVIF holds no picture; send the complete file.")
    width, height = max(w for w, _ in found.sizes), max(h for _, h in found.sizes)
    if not width or not height:
        raise ImageCorrupt("This AVIF says that it is empty: its width or height is zero.")
    # Planes of the decoder (3 samples of 1 or 2 bytes) with the references that it keeps, RGB bytes, Pillow's image
    # and the composed result.
    planes = 3 * (2 if found.deep else 1)
    return ImageHeader(
        format="avif",
        width=width,
        height=height,
        frames=frames,
        orientation=1,
        bytes_per_pixel=planes * (4 if frames > 1 else 2) + 10,
        keep=((0, len(data)),),
        blank=tuple(found.exif_items),
    )


def _boxes(data: bytes, start: int, end: int, found: _Found) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, body start, body end) of each box in ``data[start:end]`` (ISO/IEC 14496-12, 4.2)."""
    while start + 8 <= end:
        found.boxes += 1
        if found.boxes > MAX_BOXES:
            raise ImageCorrupt(f"This AVIF has more than {MAX_BOXES:,} boxes; save it again with a common encoder.")
        size, kind, head = _u32(data, start), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            raise ImageCorrupt(_CUT)
        yield kind, start + head, start + size
        start += size


def _walk(data: bytes, start: int, end: int, found: _Found, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ImageCorrupt(_CUT)
    for kind, body, stop in _boxes(data, start, end, found):
        if kind in _CONTAINERS:
            if kind == b"stbl":
                found.tracks.append({})
            _walk(data, body + _CONTAINERS[kind], stop, found, depth=depth + 1)
        elif kind in SAMPLE_TABLES and found.tracks:
            found.tracks[-1][kind] = data[body:stop]
        elif kind == b"stsd":
            _walk_sample_entries(data, body + 8, stop, found)
        elif kind == b"iinf":
            _walk_items(data, body, stop, found)
        else:
            _note(kind, data, body, stop, found)


def _note(kind: bytes, data: bytes, body: int, stop: int, found: _Found) -> None:
    if kind == b"ispe":  # ISO/IEC 23008-12, 6.5.3: version and flags, width, height
        found.sizes.append((_u32(data, body + 4), _u32(data, body + 8)))
    elif kind == b"av1C":  # AV1-ISOBMFF 2.3.3: third byte is tier, high_bitdepth, twelve_bit, ...
        found.deep |= bool(_u32(data, body) & 0x4000)
    elif kind == b"idat":
        found.idat = data[body:stop]
    elif kind == b"iloc":
        found.extents += item_extents(data[body:stop])


def _walk_sample_entries(data: bytes, start: int, end: int, found: _Found) -> None:
    """Note the size that a track's sample description announces (ISO/IEC 14496-12, 12.1.3.2)."""
    for kind, body, _ in _boxes(data, start, end, found):
        if kind == b"av01":
            found.sizes.append((_u32(data, body + 24) >> 16, _u32(data, body + 24) & 0xFFFF))


def _walk_items(data: bytes, start: int, end: int, found: _Found) -> None:
    """Note which items hold AV1 and which EXIF (ISO/IEC 14496-12, 8.11.6: ids grow with the box's version)."""
    for kind, body, stop in _boxes(data, start + (6 if _u32(data, start) < 1 << 24 else 8), end, found):
        version = _u32(data, body) >> 24
        wide = 2 if version == 2 else 4  # noqa: PLR2004
        name = body + 4 + wide + 2
        if kind != b"infe" or version not in {2, 3} or name + 4 > stop:
            continue
        if data.startswith(b"Exif", name):
            found.exif_items.append(name)
        elif data.startswith(b"av01", name):
            found.pictures.add(int.from_bytes(data[body + 4 : body + 4 + wide], "big"))


def _bitstream_sizes(data: bytes, found: _Found) -> list[tuple[int, int]]:
    """Return (width, height) of each sequence header in all pictures and samples."""
    streams: dict[int, bytes] = {}
    room = 2 * len(data)  # stretches may overlap, but not multiply
    for extent in found.extents:
        if extent.item in found.pictures:
            whole = found.idat if extent.inside else data
            length = extent.length or len(whole)
            stretch = whole[extent.offset : extent.offset + length]
            streams[extent.item] = streams.get(extent.item, b"") + stretch
            room -= len(streams[extent.item])
        if room < 0:
            raise ImageCorrupt(_CUT)
    parts = list(streams.values())
    keep_apart(
        found.exif_items,
        ((at.offset, at.offset + (at.length or len(data))) for at in found.extents if not at.inside),
    )
    for tables in found.tracks:
        samples = list(sample_extents(tables))
        keep_apart(found.exif_items, ((offset, offset + length) for offset, length in samples))
        for offset, length in samples:
            parts.append(data[offset : offset + length])
            room -= length
            if room < 0:
                raise ImageCorrupt(_CUT)
    sizes: list[tuple[int, int]] = []
    budget = MAX_OBUS
    for part in parts:
        more, budget = coded_sizes(part, budget)
        sizes += more
    if not sizes:
        raise ImageCorrupt("This AVIF holds no picture; send the complete file.")
    return sizes


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
