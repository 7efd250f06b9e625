"""Reads uploads of hashes: a JSON list, one hash a line, or CSV as hash-sharing programmes give it.

What it is shows in the content: ``[`` opens a JSON list and ``{`` an object with a list ``entries``; a first line that
names a known column is the header of CSV (comma, semicolon or tab); all else is one hash a line. ``#`` begins a
comment, blank lines are nothing, line ends may be of any kind, hexadecimal digits of either case. SHA-256 and PDQ
hashes both have 64 digits: that a file holds the kind which the list is of can be seen from a column's name only.

Some 2 s for 1,000,000 lines, in plain Python: for a thread.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.decoding.pdq import MIN_QUALITY
from gateway.errors import InvalidRequest
from gateway.hash_matching.matcher import HEX_DIGITS
from gateway.store.lists import ListKind

MAX_ENTRIES: Final = 1_000_000

_HASH: Final = re.compile(f"[0-9a-f]{{{HEX_DIGITS}}}")
_JSON: Final = re.compile(r"\s*[\[{]")
_HEX: Final = re.compile("[0-9a-fA-F]+")
_DELIMITERS: Final = (",", ";", "\t")
_HASH_COLUMNS: Final[Mapping[ListKind, tuple[str, ...]]] = {
    "sha256": ("sha256", "sha-256", "sha_256", "hash"),
    "pdq": ("pdq", "pdq_hash", "pdqhash", "hash"),
}
_QUALITY_COLUMNS: Final = ("quality", "pdq_quality")
_REFUSED_COLUMNS: Final = ("md5", "sha1", "sha-1", "sha_1", "photodna")
_KIND_NAMES: Final[Mapping[ListKind, str]] = {"sha256": "SHA-256", "pdq": "PDQ"}
_OTHER_KINDS: Final[Mapping[int, str]] = {32: "an MD5", 40: "a SHA-1", 128: "a SHA-512"}
_SHOWN_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class ImportedHashes:
    """What an upload held.

    Attributes:
        hashes: 64 lower-case hexadecimal digits each, every one once, in the order of the upload.
        repeated: hashes that stood there before.
        low_quality: PDQ hashes left out because their quality is given as under 50 of 100.
        without_hash: rows of CSV whose cell for the hash is empty.
    """

    hashes: tuple[str, ...]
    repeated: int = 0
    low_quality: int = 0
    without_hash: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    """A hash as it stands there, its quality if one is given, and where, for messages."""

    place: str
    text: str
    quality: Any = None


def read_hashes(upload: bytes, kind: ListKind, *, max_entries: int = MAX_ENTRIES) -> ImportedHashes:
    """Read an upload.

    Args:
        upload: UTF-8, with or without a byte order mark.
        kind: of hash that the list holds.
        max_entries: different hashes at most.

    Raises:
        InvalidRequest: nothing in it, too many, or an entry that is no hash of that kind; names the line or entry.
    """
    try:
        text = upload.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = upload.count(b"\n", 0, error.start) + 1
        raise InvalidRequest(f"Line {line} is not UTF-8 text; {_accepted(kind)}") from None
    entries = _json_entries(text, kind) if _JSON.match(text) else _text_entries(text, kind)
    return _collect(entries, kind, max_entries)


def _collect(entries: Iterable[_Entry], kind: ListKind, max_entries: int) -> ImportedHashes:
    found: dict[str, None] = {}
    repeated = low_quality = without_hash = 0
    for entry in entries:
        if not entry.text:
            without_hash += 1
            continue
        hashed = entry.text.lower()
        if not _HASH.fullmatch(hashed):
            raise InvalidRequest(f"{entry.place}: {_fault(entry.text)}; {_accepted(kind)}")
        if kind == "pdq" and _quality(entry) < MIN_QUALITY:
            low_quality += 1
        elif hashed in found:
            repeated += 1
        elif len(found) == max_entries:
            raise InvalidRequest(f"{entry.place}: one upload may hold {max_entries:,} hashes; send the rest in others.")
        else:
            found[hashed] = None
    if not found and not low_quality:
        raise InvalidRequest(f"The upload holds no hash; {_accepted(kind)}")
    return ImportedHashes(tuple(found), repeated, low_quality, without_hash)


def _accepted(kind: ListKind) -> str:
    names = _HASH_COLUMNS[kind]
    return (
        f"accepted are {_KIND_NAMES[kind]} hashes of {HEX_DIGITS} hexadecimal digits: a JSON list, one a line, "
        f"or CSV with a header that names a column {names[0]} or {names[-1]}."
    )


def _fault(text: str) -> str:
    if _HEX.fullmatch(text):
        other = _OTHER_KINDS.get(len(text))
        return f"{len(text)} hexadecimal digits" + (f", which is {other} hash" if other else "")
    return f"{_shown(text)} is no hash"


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


def _quality(entry: _Entry) -> float:
    """Return the quality given, 0..100, or 100 where none is."""
    if entry.quality is None or entry.quality == "":
        return 100.0
    try:
        quality = float(entry.quality) if isinstance(entry.quality, (str, int, float)) else math.nan
    except (ValueError, OverflowError):
        quality = math.nan
    if not 0 <= quality <= 100:  # noqa: PLR2004
        raise InvalidRequest(f"{entry.place}: quality {_shown(str(entry.quality))} is not a number from 0 to 100.")
    return quality


def _json_entries(text: str, kind: ListKind) -> Iterator[_Entry]:
    try:
        listed = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"Line {error.lineno}: not valid JSON; {_accepted(kind)}") from None
    if isinstance(listed, dict):
        listed = listed.get("entries")
    if not isinstance(listed, list):
        raise InvalidRequest(f'The JSON object has no list "entries"; {_accepted(kind)}')
    for number, item in enumerate(listed, start=1):
        place = f"Entry {number}"
        if isinstance(item, str):
            yield _Entry(place, item.strip())
            continue
        value = quality = None
        if isinstance(item, dict):
            value = next((item[name] for name in _HASH_COLUMNS[kind] if item.get(name) is not None), None)
            quality = next((item[name] for name in _QUALITY_COLUMNS if item.get(name) is not None), None)
        if not isinstance(value, str):
            raise InvalidRequest(f"{place} is neither a text nor an object with a hash; {_accepted(kind)}")
        yield _Entry(place, value.strip(), quality)


def _text_entries(text: str, kind: ListKind) -> Iterator[_Entry]:
    header = next((line for line in _lines(text) if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    columns = [name.strip().strip('"').lower() for name in header.split(delimiter)]
    known = {*_QUALITY_COLUMNS, *_REFUSED_COLUMNS, *(name for names in _HASH_COLUMNS.values() for name in names)}
    if known.intersection(columns):
        return _csv_entries(text, delimiter, columns, kind)
    return _line_entries(text, kind)


def _lines(text: str) -> Iterator[str]:
    """Yield all lines, with their ends, those that are comments as blank ones: the count of lines stays right."""
    for line in io.StringIO(text, newline=None):
        yield "\n" if line.lstrip().startswith("#") else line


def _line_entries(text: str, kind: ListKind) -> Iterator[_Entry]:
    for number, line in enumerate(_lines(text), start=1):
        entry = line.partition("#")[0].strip()
        if any(delimiter in entry for delimiter in _DELIMITERS):
            raise InvalidRequest(f"Line {number} has several columns, and no header says which; {_accepted(kind)}")
        if entry:
            yield _Entry(f"Line {number}", entry)


def _csv_entries(text: str, delimiter: str, columns: list[str], kind: ListKind) -> Iterator[_Entry]:
    column = next((columns.index(name) for name in _HASH_COLUMNS[kind] if name in columns), None)
    quality = next((columns.index(name) for name in _QUALITY_COLUMNS if name in columns), None)
    if column is None:
        refused = [name for name in columns if name in _REFUSED_COLUMNS]
        why = f" ({', '.join(refused)}: not a kind of hash that lists here can be of)" if refused else ""
        raise InvalidRequest(f"The header names no column of {_KIND_NAMES[kind]} hashes{why}; {_accepted(kind)}")
    rows = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    filled = (cells for row in rows if any(cells := [cell.strip() for cell in row]))
    try:
        next(filled)  # the header
        for cells in filled:
            place = f"Line {rows.line_num}"
            if len(cells) <= column:
                raise InvalidRequest(f"{place} has {len(cells)} cells, the header {len(columns)}.")
            given = cells[quality] if quality is not None and len(cells) > quality else None
            yield _Entry(place, cells[column], given)
    except csv.Error:
        raise InvalidRequest(f"Line {rows.line_num}: not valid CSV (an open quote?); {_accepted(kind)}") from None
