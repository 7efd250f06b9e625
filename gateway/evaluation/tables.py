"""Rows of a table in CSV, JSON Lines or Parquet, each with its place for error texts."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DELIMITERS = ",;\t"
PARQUET_BATCH = 1000


class SourceUnusable(Exception):
    """Labelled images cannot be used as they are given; the text is for people."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        place: for people: file and line or number.
        values: by column, as the format has them.
    """

    place: str
    values: Mapping[str, Any]

    def text(self, column: str, most_chars: int) -> str:
        """Return a cell as text; "" of one that is empty.

        Raises:
            SourceUnusable: it is a list or an object, too long, or no text.
        """
        value = self.values[column]
        if isinstance(value, (list, dict, bytes)):
            raise self.unusable(column, "holds no plain value")
        text = "" if value is None else str(value).strip()
        if len(text) > most_chars:
            raise self.unusable(column, f"is longer than {most_chars} characters")
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            raise self.unusable(column, "holds what is no character")
        return text

    def unusable(self, column: str, why: str) -> SourceUnusable:
        """Return the error about a cell."""
        return SourceUnusable(f"{self.place}, column “{column}”: {why}")


def rows_of(path: Path) -> Iterator[Row]:
    """Yield a table's rows; the name's ending says the format.

    Raises:
        SourceUnusable: it is none, or broken.
        OSError: it cannot be read.
    """
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    read = readers.get(path.suffix.lower())
    if read is None:
        path.stat()
        raise SourceUnusable(f"{path} is neither a folder nor a table: *.csv, *.jsonl or *.parquet")
    try:
        yield from read(path)
    except UnicodeDecodeError as fault:
        raise SourceUnusable(f"{path} is not UTF-8: save it as that") from fault


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        rows = csv.DictReader(file, delimiter=max(DELIMITERS, key=first.count), strict=True)
        try:
            names = rows.fieldnames or []
            if len(set(names)) < len(names):
                raise SourceUnusable(f"{path}: two columns have one name")
            for values in rows:
                place = f"{path}, line {rows.line_num}"
                if None in values or None in values.values():
                    raise SourceUnusable(f"{place}: not as many cells as the {len(names)} columns of the first line")
                yield Row(place, {str(name).strip(): value for name, value in values.items()})
        except csv.Error as fault:
            raise SourceUnusable(
                f"{path}, line {rows.line_num}: no CSV: a quote is not closed, or stands where none may, or a cell is "
                f"longer than {csv.field_size_limit():,} characters"
            ) from fault


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                raise SourceUnusable(f"{place}: no JSON") from None
            if not isinstance(values, dict):
                raise SourceUnusable(f"{place}: no JSON object")
            yield Row(place, values)


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - of an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise SourceUnusable(
            f"{path}: Parquet needs the extra: pip install 'clip-moderation-gateway[evaluate]'"
        ) from None
    path.stat()
    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=PARQUET_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}, row {number}", values)
    except pa.ArrowException as fault:
        raise SourceUnusable(f"{path} is no Parquet, or is broken") from fault
