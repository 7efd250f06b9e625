"""Labelled images out of a folder for each class, or out of a table: which images there are, and what is true of them.

A folder's name is a label, or several joined by ``+``, or ``harmless``. A table is CSV, JSON Lines or Parquet. One of
its columns names the image (``path``, ``url`` or ``decision_id``), ``labels`` says what is true of it, ``group`` which
images belong together, and every other column is a slice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gateway.evaluation.image_files import is_image_file
from gateway.evaluation.judged import LabelledImage
from gateway.evaluation.tables import Row, SourceUnusable, rows_of

HARMLESS = "harmless"
JOINED_BY = "+"
SEPARATORS = ";|"
NAMING = ("path", "url", "decision_id")
MAX_IMAGES = 100_000
MAX_SLICES = 30
MAX_CELL_CHARS = 4096
FOLDER_SLICE = "folder"
NOT_LOOKED_INTO = frozenset({"__MACOSX"})

Kind = Literal["images", "decisions"]


@dataclass(frozen=True, slots=True)
class LabelledSource:
    """What is to be asked about.

    Attributes:
        kind: images, or decisions in the gateway's log.
        images: each ``source`` once.
        skipped: files in folders that are no images.
    """

    kind: Kind
    images: tuple[LabelledImage, ...]
    skipped: tuple[str, ...] = ()


def read_source(path: Path, known: Collection[str]) -> LabelledSource:
    """Read a folder or a table.

    Args:
        path: of it.
        known: labels that there are; the policy's categories.

    Raises:
        SourceUnusable: it cannot be used; the text names row and column, or the folder.
        OSError: it cannot be read.
    """
    source = _folder(path, known) if path.is_dir() else _table(path, known)
    if not source.images:
        raise SourceUnusable(f"{path} holds no image")
    return source


def labels_of(names: Sequence[str], known: Collection[str]) -> frozenset[str]:
    """Return labels; none of what is harmless.

    Raises:
        SourceUnusable: one is not known, or ``harmless`` stands beside others.
    """
    given = frozenset(name.strip() for name in names) - {""}
    unknown = sorted(given - set(known) - {HARMLESS})
    if unknown:
        raise SourceUnusable(f"“{unknown[0]}” is none of {', '.join([*known, HARMLESS])}")
    if HARMLESS in given and len(given) > 1 and HARMLESS not in known:
        raise SourceUnusable(f"“{HARMLESS}” stands beside “{min(given - {HARMLESS})}”")
    return given if HARMLESS in known else given - {HARMLESS}


def _folder(path: Path, known: Collection[str]) -> LabelledSource:
    images: list[LabelledImage] = []
    skipped: list[str] = []
    for file in sorted(path.rglob("*")):
        parts = file.relative_to(path).parts
        if any(part.startswith(".") or part in NOT_LOOKED_INTO for part in parts) or file.is_dir():
            continue
        broken_link = file.is_symlink() and not file.exists()  # asked about, so that it counts as a failure
        if not broken_link and not (file.is_file() and is_image_file(file)):
            skipped.append(str(file))
            continue
        if len(parts) == 1:
            raise SourceUnusable(f"{file} lies in no folder that says what it shows")
        if len(images) == MAX_IMAGES:
            raise SourceUnusable(f"{path} holds more than {MAX_IMAGES} images")
        try:
            labels = labels_of([parts[0]] if parts[0] in known else parts[0].split(JOINED_BY), known)
        except SourceUnusable as fault:
            raise SourceUnusable(f"folder {path / parts[0]}: {fault}") from None
        inner = "/".join(parts[1:-1])
        images.append(LabelledImage(str(file), labels, {FOLDER_SLICE: inner} if inner else {}))
    return LabelledSource("images", tuple(images), tuple(skipped))


def _table(path: Path, known: Collection[str]) -> LabelledSource:
    images: dict[str, LabelledImage] = {}
    places: dict[str, str] = {}
    kind: Kind = "images"
    for row in rows_of(path):
        if len(images) == MAX_IMAGES:
            raise SourceUnusable(f"{path} holds more than {MAX_IMAGES} rows")
        naming = naming_column(row)
        kind = "decisions" if naming == "decision_id" else "images"
        made = _labelled(row, naming, path.parent, known)
        if made.source in images:
            raise row.unusable(naming, f"“{row.values[naming]}” is there already, in {places[made.source]}")
        images[made.source], places[made.source] = made, row.place
    return LabelledSource(kind, tuple(images.values()))


def naming_column(row: Row) -> str:
    """Return the column that names a row's image.

    Raises:
        SourceUnusable: there is none, or more than one.
    """
    found = [name for name in NAMING if name in row.values]
    if len(found) != 1:
        told = f"both {' and '.join(found)}" if found else f"none of {', '.join(NAMING)}"
        raise SourceUnusable(f"{row.place}: a table has one column that names the image; this one has {told}")
    return found[0]


def _labelled(row: Row, naming: str, folder: Path, known: Collection[str]) -> LabelledImage:
    if "labels" not in row.values:
        raise row.unusable("labels", "is not there")
    name = row.text(naming, MAX_CELL_CHARS)
    if not name:
        raise row.unusable(naming, "is empty")
    if naming == "url" and not name.startswith(("http://", "https://")):
        raise row.unusable(naming, f"“{name}” begins with neither http:// nor https://")
    source = str(folder / name) if naming == "path" and "://" not in name else name
    try:
        labels = labels_of(list(_names(row, known)), known)
    except SourceUnusable as fault:
        raise row.unusable("labels", str(fault)) from None
    columns = [column for column in row.values if column not in {naming, "labels", "group"}]
    if len(columns) > MAX_SLICES:
        raise SourceUnusable(f"{row.place}: more than {MAX_SLICES} columns beside image, labels and group")
    slices = {column: row.text(column, MAX_CELL_CHARS) for column in columns}
    group = row.text("group", MAX_CELL_CHARS) if "group" in row.values else ""
    return LabelledImage(source, labels, _filled(slices), group or None)


def _names(row: Row, known: Collection[str]) -> Iterator[str]:
    """Yield the names in ``labels``: a list's, or those of a text, which may be one name that holds a separator."""
    given: Any = row.values["labels"]
    if isinstance(given, list):
        if not all(isinstance(name, str) for name in given):
            raise row.unusable("labels", "holds what is no text")
        yield from given
        return
    text = row.text("labels", MAX_CELL_CHARS)
    if text in known:
        yield text
        return
    for separator in SEPARATORS[1:]:
        text = text.replace(separator, SEPARATORS[0])
    yield from text.split(SEPARATORS[0])


def _filled(slices: Mapping[str, str]) -> dict[str, str]:
    return {column: value for column, value in slices.items() if value}
