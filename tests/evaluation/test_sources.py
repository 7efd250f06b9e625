"""Labelled images out of folders and tables: what each format may hold, and what is said of what it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from gateway.evaluation.judged import LabelledImage
from gateway.evaluation.sources import MAX_SLICES, LabelledSource, read_source
from gateway.evaluation.tables import SourceUnusable
from tests.support.in_process_app import png

KNOWN = ("nudity", "gore", "salt+pepper")


def text_file(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def image_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png())
    return path


def read(path: Path) -> list[LabelledImage]:
    return list(read_source(path, KNOWN).images)


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(SourceUnusable) as caught:
        read_source(path, KNOWN)
    for part in parts:
        assert part in str(caught.value)


def test_a_folder_names_what_its_images_show(tmp_path: Path) -> None:
    for name in ("gore/a.png", "gore/ink/b.png", "nudity+gore/c", "salt+pepper/d.png", "harmless/e.webp"):
        image_file(tmp_path / name)
    image_file(tmp_path / "gore/.hidden/f.png")
    image_file(tmp_path / ".cache/g.png")
    image_file(tmp_path / "__MACOSX/gore/h.png")
    (tmp_path / "gore/notes.txt").write_text("no image")
    (tmp_path / "gore/.DS_Store").write_text("nothing")
    found = read_source(tmp_path, KNOWN)
    assert {Path(one.source).name: (set(one.labels), dict(one.slices)) for one in found.images} == {
        "a.png": ({"gore"}, {}),
        "b.png": ({"gore"}, {"folder": "ink"}),
        "c": ({"nudity", "gore"}, {}),
        "d.png": ({"salt+pepper"}, {}),
        "e.webp": (set(), {}),
    }
    assert [Path(name).name for name in found.skipped] == ["notes.txt"]


def test_a_folder_that_says_nothing_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "holds no image")
    image_file(tmp_path / "gore/a.png")
    image_file(tmp_path / "goer/b.png")
    refused(tmp_path, "goer", "“goer” is none of nudity, gore, salt+pepper, harmless")
    (tmp_path / "goer/b.png").rename(tmp_path / "b.png")
    refused(tmp_path, "b.png lies in no folder")


def test_a_csv_with_a_byte_order_mark_several_labels_slices_and_groups(tmp_path: Path) -> None:
    rows = ["path,labels,hand,group", "a.png,nudity;gore,ink,g1", 'b.png,,"flat, thin",', "/c.png,harmless,,g1"]
    text = "\n".join([*rows, "d.png,nudity|gore,,"])
    found = read(text_file(tmp_path, "l.csv", text, "utf-8-sig"))
    assert found == [
        LabelledImage(str(tmp_path / "a.png"), frozenset({"nudity", "gore"}), {"hand": "ink"}, "g1"),
        LabelledImage(str(tmp_path / "b.png"), frozenset(), {"hand": "flat, thin"}),
        LabelledImage("/c.png", frozenset(), {}, "g1"),
        LabelledImage(str(tmp_path / "d.png"), frozenset({"nudity", "gore"})),
    ]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_csv_as_other_countries_write_it(tmp_path: Path, delimiter: str) -> None:
    rows = [["path", "labels", "hand"], ["a.png", "nudity|gore", "ink"]]
    path = text_file(tmp_path, "l.csv", "\r\n".join(delimiter.join(row) for row in rows))
    assert read(path) == [LabelledImage(str(tmp_path / "a.png"), frozenset({"nudity", "gore"}), {"hand": "ink"})]


ROWS: list[dict[str, Any]] = [
    {"path": "sub/a.png", "labels": ["nudity", "gore"], "year": 2024, "hand": None},
    {"path": "b.png", "labels": [], "year": None, "hand": "ink"},
    {"path": "c.png", "labels": None, "year": 2025, "hand": "ink"},
]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_lists_of_labels_in_json_lines_and_parquet(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"l.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS))
    else:
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    assert read(path) == [
        LabelledImage(str(tmp_path / "sub/a.png"), frozenset({"nudity", "gore"}), {"year": "2024"}),
        LabelledImage(str(tmp_path / "b.png"), frozenset(), {"hand": "ink"}),
        LabelledImage(str(tmp_path / "c.png"), frozenset(), {"year": "2025", "hand": "ink"}),
    ]


def test_urls_and_decisions_are_taken_as_they_are(tmp_path: Path) -> None:
    urls = text_file(tmp_path, "u.csv", "url,labels\nhttps://example.org/a.png,gore\n")
    assert read(urls) == [LabelledImage("https://example.org/a.png", frozenset({"gore"}))]
    decisions: LabelledSource = read_source(text_file(tmp_path, "d.csv", "decision_id,labels\n0a1b,gore\n"), KNOWN)
    assert decisions == LabelledSource("decisions", (LabelledImage("0a1b", frozenset({"gore"})),))
    mixed = read(text_file(tmp_path, "m.csv", "path,labels\nhttps://example.org/a.png,\n"))
    assert mixed[0].source == "https://example.org/a.png", "a path that is a URL is one"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("path,labels\na.png,blood\n", ("line 2", "column “labels”", "“blood” is none of nudity, gore")),
        ("path,labels\na.png,gore\na.png,gore\n", ("line 3", "“a.png” is there already", "line 2")),
        ("path,labels\n,gore\n", ("line 2", "column “path”", "is empty")),
        ("path,labels\na.png,harmless;gore\n", ("line 2", "“harmless” stands beside “gore”")),
        ("path,labels\na.png\n", ("line 2", "not as many cells as the 2 columns")),
        ("path,labels\na.png,gore,x\n", ("line 2", "not as many cells")),
        ("path,hand\na.png,ink\n", ("line 2", "column “labels”")),
        ("image,labels\na.png,gore\n", ("line 2", "none of path, url, decision_id")),
        ("path,url,labels\na.png,b,gore\n", ("line 2", "both path and url")),
        ("path,path,labels\na.png,b,gore\n", ("two columns have one name",)),
        ("url,labels\nfile:///a.png,gore\n", ("line 2", "column “url”", "neither http:// nor https://")),
        ('path,labels\n"a.png,gore\n', ("a quote is not closed",)),
        ("path,labels\n", ("holds no image",)),
        ("", ("holds no image",)),
        (f"path,labels,hand\na.png,,{'x' * 5000}\n", ("line 2", "column “hand”", "longer than")),
        (
            f"path,labels,{','.join(str(number) for number in range(MAX_SLICES + 1))}\na.png,{',' * MAX_SLICES},\n",
            ("more than 30 columns",),
        ),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_by_row_and_column(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    refused(text_file(tmp_path, "l.csv", text), "l.csv", *parts)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("[1]", ("line 1", "no JSON object")),
        ("{", ("line 1", "no JSON")),
        ("[" * 100_000, ("line 1", "no JSON")),
        ('{"path": "a.png", "labels": [1]}', ("line 1", "column “labels”", "no text")),
        ('{"path": "a.png", "labels": "", "hand": {"a": 1}}', ("line 1", "column “hand”", "no plain value")),
    ],
)
def test_json_lines_that_cannot_be_used(tmp_path: Path, line: str, parts: tuple[str, ...]) -> None:
    refused(text_file(tmp_path, "l.jsonl", line), *parts)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    refused(text_file(tmp_path, "l.csv", "path,labels\nä.png,gore\n", "latin-1"), "not UTF-8")
    refused(text_file(tmp_path, "l.parquet", "no parquet"), "is no Parquet")
    refused(text_file(tmp_path, "l.xlsx", ""), "neither a folder nor a table")


def test_a_class_may_be_called_harmless(tmp_path: Path) -> None:
    """Of a classifier that has such a label, it is one."""
    image_file(tmp_path / "harmless/a.png")
    assert read_source(tmp_path, ("harmless", "gore")).images[0].labels == {"harmless"}


@pytest.mark.parametrize("named", ["a\\u0000b.png", "\\ud800.png"])
def test_what_is_no_character_is_refused_by_row(tmp_path: Path, named: str) -> None:
    path = tmp_path / "images.jsonl"
    path.write_text(f'{{"path": "{named}", "labels": []}}\n', encoding="utf-8")
    with pytest.raises(SourceUnusable, match="line 1, column “path”: holds what is no character"):
        read_source(path, ["gore"])


@pytest.mark.parametrize("text", ['path,labels\n"a,gore\n', 'path,labels\n"' + "x" * 200_000 + '",gore\n'])
def test_a_broken_csv_is_told_in_our_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "images.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SourceUnusable, match="no CSV: a quote is not closed"):
        read_source(path, ["gore"])
