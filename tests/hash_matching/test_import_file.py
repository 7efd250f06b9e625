"""Uploads of hashes: every accepted form, and refusals that say where and what."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.hash_matching.import_file import ImportedHashes, read_hashes
from gateway.store.lists import ListKind

A, B, C = "a1" * 32, "b2" * 32, "c3" * 32


def refused(upload: bytes | str, kind: ListKind = "sha256", *, max_entries: int = 100) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read_hashes(upload.encode() if isinstance(upload, str) else upload, kind, max_entries=max_entries)
    assert caught.value.status == 422
    return caught.value.detail


@pytest.mark.parametrize(
    "upload",
    [
        f"{A}\n{B}\n{C}\n",
        f"{A}\r\n{B}\r\n{C}",
        f"{A}\r{B}\r{C}\r",
        f"# list of tuesday, for us\n\n{A}\n   \n  {B.upper()}  # seen twice\n#{B}\n{C}",
        f"\ufeff{A}\n{B}\n{C}\n",
        json.dumps([A, B.upper(), f" {C} "]),
        f" \n[\n{json.dumps(A)},\n{json.dumps(B)}, {json.dumps(C)}]",
        json.dumps({"entries": [A, B, C]}),
        json.dumps([{"hash": A}, {"sha256": B, "md5": "00"}, C]),
        f"hash\n{A}\n{B}\n{C}\n",
        f'# exported\n\nid,SHA256,note\n1,{A},x\n\n2,{B},"a, quoted"\n3,{C}\n',
        f"md5;sha256\r\n{'0' * 32};{A}\r\n;{B}\r\n;{C}\r\n",
        f'"sha-256"\t"md5"\n"{A}"\t\n# {B}\n{B}\t\n{C}\t',
        f'sha256,note\n{A},"two\nlines"\n{B},\n{C},',
    ],
)
def test_forms_that_are_accepted(upload: str) -> None:
    assert read_hashes(upload.encode(), "sha256") == ImportedHashes((A, B, C))


def test_repeated_hashes_are_counted_once() -> None:
    assert read_hashes(f"{A}\n{B}\n{A.upper()}\n".encode(), "sha256") == ImportedHashes((A, B), repeated=1)


def test_pdq_of_low_quality_is_left_out() -> None:
    upload = f"hash,quality,file\n{A},50,x\n{B},49.9,y\n{C},,z\n".encode()
    assert read_hashes(upload, "pdq") == ImportedHashes((A, C), low_quality=1)
    listed = json.dumps([{"pdq": A, "quality": 100}, {"hash": B, "quality": 0}, {"hash": C, "quality": "77"}]).encode()
    assert read_hashes(listed, "pdq") == ImportedHashes((A, C), low_quality=1)
    assert read_hashes(f"hash,quality\n{A},3\n".encode(), "pdq") == ImportedHashes((), low_quality=1)
    assert read_hashes(f"sha256,quality\n{A},3\n".encode(), "sha256") == ImportedHashes((A,))


def test_rows_without_that_hash_are_counted() -> None:
    upload = f"md5,sha256,pdq\n{'0' * 32},{A},\n{'1' * 32},{B},{C}\n".encode()
    assert read_hashes(upload, "sha256").hashes == (A, B)
    assert read_hashes(upload, "pdq") == ImportedHashes((C,), without_hash=1)


def test_the_kind_chooses_the_column_before_the_plain_one() -> None:
    upload = f"hash,pdq\n{A},{B}\n".encode()
    assert read_hashes(upload, "pdq").hashes == (B,)
    assert read_hashes(upload, "sha256").hashes == (A,)


@pytest.mark.parametrize(
    ("upload", "kind", "says"),
    [
        (f"{A}\n{'0' * 32}\n", "sha256", ["Line 2", "32 hexadecimal digits", "MD5", "SHA-256 hashes of 64"]),
        (f"{A}\r\n# x\r\n{'0' * 40}", "pdq", ["Line 3", "SHA-1", "PDQ hashes of 64"]),
        (f"{A}\n{A[:-1]}\n", "sha256", ["Line 2", "63 hexadecimal digits"]),
        (f"{A}\nnot a hash\n", "sha256", ["Line 2", "'not a hash' is no hash", "one a line"]),
        (f"{A}\n{A[:-1]}\u0665\n", "sha256", ["Line 2", "\\u0665"]),
        ("x" * 5000, "sha256", ["Line 1", "x..."]),
        (f"{A},100,cat.jpg\n", "pdq", ["Line 1", "several columns", "no header"]),
        (f"{A}\n{B};1\n", "pdq", ["Line 2", "several columns"]),
        (f"md5,name\n{'0' * 32},x\n", "sha256", ["header", "md5", "column sha256 or hash"]),
        (f"sha256\n{A}\n", "pdq", ["header names no column of PDQ", "column pdq or hash"]),
        (f"hash,quality\n{A},80\n{B},high\n", "pdq", ["Line 3", "'high'", "0 to 100"]),
        (f"hash,quality\n{A},101\n", "pdq", ["Line 2", "'101'"]),
        (f"hash,quality\n{A},nan\n", "pdq", ["Line 2", "'nan'"]),
        (f"note,hash\n# c\nx,{A}\ny\n", "sha256", ["Line 4", "1 cells", "2"]),
        (f'hash,note\n{A},"open\n{B},x\n', "sha256", ["not valid CSV"]),
        ("hash\n" + "a" * 200_000 + "\n", "sha256", ["Line 2"]),
        (f'["{A}",\n"{B}"', "sha256", ["Line 2", "not valid JSON"]),
        (json.dumps([A, 7]), "sha256", ["Entry 2"]),
        (json.dumps([A, {"md5": "0"}]), "sha256", ["Entry 2"]),
        (json.dumps([{"hash": A, "quality": [1]}]), "pdq", ["Entry 1", "quality"]),
        (json.dumps({"hashes": [A]}), "sha256", ['"entries"']),
        ("", "sha256", ["holds no hash"]),
        ("# nothing\n\n", "pdq", ["holds no hash"]),
        ("hash\n", "pdq", ["holds no hash"]),
        ("[]", "pdq", ["holds no hash"]),
    ],
)
def test_refusals_say_where_and_what_is_accepted(upload: str, kind: ListKind, says: list[str]) -> None:
    detail = refused(upload, kind)
    for text in says:
        assert text in detail
    assert len(detail) < 500


@pytest.mark.parametrize("upload", [b"\xff\xfea\x001\x00", f"{A}\n".encode() + b"\xff\n", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_text_is_refused(upload: bytes) -> None:
    assert "is not UTF-8 text" in refused(upload)


def test_the_cap_counts_different_hashes() -> None:
    lines = [f"{number:064x}" for number in range(5)]
    assert read_hashes("\n".join(lines * 2).encode(), "sha256", max_entries=5).repeated == 5
    assert "Line 5: one upload may hold 4 hashes" in refused("\n".join(lines), max_entries=4)


def test_a_long_upload_takes_seconds_at_most() -> None:
    lines = "\n".join(f"{number:064x}" for number in range(100_000)).encode()
    start = time.process_time()
    assert len(read_hashes(lines, "sha256").hashes) == 100_000
    assert time.process_time() - start < 2


@given(st.text(max_size=300) | st.binary(max_size=300), st.sampled_from(["sha256", "pdq"]))
def test_any_upload_is_read_or_refused(upload: str | bytes, kind: ListKind) -> None:
    data = upload.encode(errors="surrogatepass") if isinstance(upload, str) else upload
    try:
        found = read_hashes(data, kind)
    except InvalidRequest:
        return
    assert all(len(one) == 64 for one in found.hashes)
