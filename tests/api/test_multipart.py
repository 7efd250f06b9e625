"""Forms as clients of all ages send them: boundaries, names and headers of parts, pieces of any size."""

from __future__ import annotations

import contextlib
import re
import time
import tracemalloc
from collections.abc import Sequence

import pytest

from gateway.api.body.multipart import MAX_FOLDED_LINES, MAX_HEADER_BYTES, MultipartReader, Part, read_options
from gateway.errors import GatewayError, MultipartMalformed
from tests.support.in_process_app import Web, is_problem, png

NAMED = b'Content-Disposition: form-data; name="file"'
FIELDS = tuple((b'Content-Disposition: form-data; name="labels"', word) for word in (b"cat", b"dog"))


def form(boundary: bytes, *parts: tuple[bytes, bytes]) -> bytes:
    """Return a multipart body of parts, each its header lines and its content."""
    whole = b"".join(b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary, head, content) for head, content in parts)
    return whole + b"--%s--\r\n" % boundary


def read(chunks: Sequence[bytes], boundary: bytes = b"b") -> list[Part]:
    reader = MultipartReader(boundary)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.parts()


def each_way(body: bytes) -> list[list[bytes]]:
    """Return a body whole, and byte by byte."""
    return [[body], [body[at : at + 1] for at in range(len(body))]]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("caf\xe9.png".encode("latin-1"), id="latin-1"),
        pytest.param("写真.png".encode("shift-jis"), id="shift-jis"),
        pytest.param("表".encode("shift-jis"), id="shift-jis that ends with a backslash"),
        pytest.param("图片.png".encode("gbk"), id="gbk"),
        pytest.param("写真.png".encode(), id="utf-8"),
        pytest.param(b"\xff\xfe\x80", id="nothing"),
    ],
)
@pytest.mark.parametrize("head", [b'form-data; name="file"; filename="%s"', b'form-data; filename="%s"; name="file"'])
def test_a_files_name_is_ignored_in_whatever_charset(web: Web, head: bytes, name: bytes) -> None:
    """Part of fault 83."""
    lines = b"Content-Disposition: " + head % name + b"\r\nContent-Description: " + name
    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = web.client.post("/v1/classify", content=form(b"b", (lines, png()), *FIELDS), headers=kind)
    assert answer.status_code == 200, answer.text
    assert read([form(b"b", (lines, b"x"))]) == [Part("file", is_file=True, content=b"x")]


@pytest.mark.parametrize(
    ("option", "boundary"),
    [
        ("; boundary=----=_Part_1_2.3", "----=_Part_1_2.3"),
        ("; boundary=a/b:c?d(e)", "a/b:c?d(e)"),
        (";\tboundary=q", "q"),
        (";boundary=q \t; charset=utf-8", "q"),
        ("; charset=utf-8; Boundary = q", "q"),
        ('; boundary="----=_Part_1; x"', "----=_Part_1; x"),
        ('; boundary="q" ; charset=utf-8', "q"),
        ("; boundary='q'", "'q'"),
        ('; title="a; boundary=wrong"; boundary=q', "q"),
        ("; boundary=q; boundary=wrong", "q"),
    ],
)
def test_boundaries_as_clients_write_them(web: Web, option: str, boundary: str) -> None:
    body = form(boundary.encode(), (NAMED + b'; filename="a"', png()), *FIELDS)
    answer = web.client.post("/v1/classify", content=body, headers={"content-type": "multipart/form-data" + option})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("option", ["; boundary", "; boundary=", "; boundary= ;", '; boundary=""', "; xboundary=b", ""])
def test_no_boundary(web: Web, option: str) -> None:
    kind = {"content-type": "multipart/form-data" + option}
    answer = web.client.post("/v1/classify", content=form(b"b", *FIELDS), headers=kind)
    is_problem(answer, 400, "multipart_malformed")
    assert "has no boundary" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (b'form-data; name="file"', Part("file", is_file=False, content=b"x")),
        (b'form-data;\tname="file"', Part("file", is_file=False, content=b"x")),
        (b'Form-Data ;NAME = "file";\tFileName=a/b=c.png', Part("file", is_file=True, content=b"x")),
        (b"form-data; name=a/b", Part("a/b", is_file=False, content=b"x")),
        (b'form-data; name="a\\"b\\\\c; filename=d"', Part('a"b\\c; filename=d', is_file=False, content=b"x")),
        (b'form-data; name="file"; filename="C:\\"', Part("file", is_file=True, content=b"x")),
        (b'form-data; filename="C:\\"; name="file"', Part("file", is_file=True, content=b"x")),
        (b'form-data; name="file"; filename="a; name=b', Part("file", is_file=True, content=b"x")),
        (b"form-data; name=\"file\"; filename*=UTF-8''a", Part("file", is_file=True, content=b"x")),
        (b'form-data; name="file"; filename*0="a"; filename*1="b"', Part("file", is_file=True, content=b"x")),
        (b'form-data; name="filename*"', Part("filename*", is_file=False, content=b"x")),
        (b'form-data; name="file";\r\n\tfilename="a.png"', Part("file", is_file=True, content=b"x")),
        (b'form-data; name=""', Part("", is_file=False, content=b"x")),
        (b'form-data; name="\xc3\xa9"', Part("é", is_file=False, content=b"x")),
        (b'form-data; name="\xe9"', Part("\ufffd", is_file=False, content=b"x")),
        (b'form-data; filename="a.png"', None),
        (b'form-data; filename="name=a"', None),
        (b'form-data; filename="; name=a"', None),
        (b"form-data; name", None),
        (b"form-data", None),
        (b'attachment; name="file"', None),
        (b"", None),
    ],
)
def test_a_parts_name_and_whether_it_is_a_file(value: bytes, part: Part | None) -> None:
    for chunks in each_way(form(b"b", (b"Content-Disposition: " + value, b"x"))):
        if part is None:
            with pytest.raises(MultipartMalformed):
                read(chunks)
        else:
            assert read(chunks) == [part]


def test_a_file_without_a_name_is_malformed(web: Web) -> None:
    kind = {"content-type": "multipart/form-data; boundary=b"}
    for head in (
        b'Content-Disposition: form-data; filename="a.png"',
        b"Content-Disposition: form-data; filename=a.png",
    ):
        body = form(b"b", (head, png()), *FIELDS)
        is_problem(web.client.post("/v1/classify", content=body, headers=kind), 400, "multipart_malformed")


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 1",
        b"content-length: 3",
        b"CONTENT-LENGTH : 1",
        b"Content-Length: many",
        b"Content-Length: -1",
        b"Content-Length: " + b"9" * 4000,
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 1\r\n 2",
        b"Content-Type: ;;=;charset=\xff",
        b"X.Y!: a",
    ],
)
def test_other_headers_of_a_part_mean_nothing(header: bytes) -> None:
    """RFC 7578, 4.8."""
    for head in (header + b"\r\n" + NAMED, NAMED + b"\r\n" + header):
        for chunks in each_way(form(b"b", (head, b"four"), (NAMED, b""))):
            assert [part.content for part in read(chunks)] == [b"four", b""]


@pytest.mark.parametrize("header", [b"X", b": a", b"X Y: a", b"X\x00: a", b"\xe9: a", b"\nX: a", b"X: a\nY: b"])
def test_what_is_no_header(header: bytes) -> None:
    for head in (header + b"\r\n" + NAMED, NAMED + b"\r\n" + header):
        for chunks in each_way(form(b"b", (head, b"x"))):
            with pytest.raises(MultipartMalformed):
                read(chunks)


@pytest.mark.parametrize("name", [b"X", b"X" * 4000, b"Content-Length", b"Content-Disposition"])
@pytest.mark.parametrize("folded", [False, True])
def test_the_size_of_a_header_is_bounded_whatever_it_is(name: bytes, folded: bool) -> None:  # noqa: FBT001
    start = b'Content-Disposition: form-data; name="file"; x=' if name == b"Content-Disposition" else name + b": "
    for over in (-3, 0, 1, 3):
        line = start + b"x" * (MAX_HEADER_BYTES + over - len(start))
        sent = line if not folded else line[:4100] + b"\r\n " + line[4101:]
        head = sent if name == b"Content-Disposition" else sent + b"\r\n" + NAMED
        for chunks in each_way(form(b"b", (head, b"x"))):
            if over > folded:  # the library's own count, which is of one more
                with pytest.raises(MultipartMalformed):
                    read(chunks)
            else:
                assert read(chunks)[0].content == b"x"


def test_a_header_is_not_folded_without_end() -> None:
    few = NAMED + b';\r\n filename="a"'
    assert len(read([form(b"b", *[(few, b"x")] * 1000)])) == 1000
    many = NAMED + b";" + b"\r\n x" * 1000
    parts = MAX_FOLDED_LINES // 1000 + 1
    assert len(read([form(b"b", *[(many, b"x")] * (parts - 1))])) == parts - 1
    with pytest.raises(MultipartMalformed, match="folded"):
        read([form(b"b", *[(many, b"x")] * parts)])


def test_content_in_tiny_pieces_is_held_once() -> None:
    reader = MultipartReader(b"b")
    reader.feed(b"--b\r\n" + NAMED + b"\r\n\r\n")
    tracemalloc.start()
    try:
        for number in range(50_000):
            reader.feed(b"%02d" % (number % 100))
        kept = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    ours = kept.filter_traces(
        [tracemalloc.Filter(inclusive=True, filename_pattern="*multipart*")]
    )  # other threads of the tests allocate too
    assert sum(one.size for one in ours.statistics("filename")) < 2 * 100_000
    reader.feed(b"\r\n--b--")
    assert reader.parts()[0].content == b"".join(b"%02d" % number for number in range(100)) * 500


def test_content_in_pieces_of_any_size_is_whole_and_large_ones_are_not_copied() -> None:
    pieces = [bytes((size % 251,)) * size for size in (1, 2, 5000, 3, 4, 4095, 4096, 4097, 1, 200_000, 7)]
    head = b"--b\r\n" + NAMED + b"\r\n\r\n"
    assert read([head, *pieces, b"\r\n--b--"])[0].content == b"".join(pieces)
    large = b"x" * 100_000
    assert read([head, large, b"\r\n--b--"])[0].content is large


@pytest.mark.parametrize(
    ("header", "kind", "options"),
    [
        ("", "", {}),
        (" Text/HTML ", "text/html", {}),
        ("a/b; c=d;E=f g ;h", "a/b", {"c": "d", "e": "f g"}),
        (';;=x; =y;a="b"c;d="e', "", {"a": '"b"c', "d": '"e'}),
        ('a; b="\\"; c="d"', "a", {"b": "\\", "c": "d"}),
        ('a; b="c\\"; d=e"; f=g', "a", {"b": 'c"; d=e', "f": "g"}),
    ],
)
def test_options(header: str, kind: str, options: dict[str, str]) -> None:
    assert read_options(header) == (kind, options)
    assert re.fullmatch(r"[^;]*", read_options(header)[0])


# Five after the holes that other readers of forms had from 2024 to 2026. Times are generous: what was quadratic took
# minutes, or for ever.
QUICK_S = 5.0


def took(body: bytes, chunk_bytes: int, boundary: bytes = b"b") -> float:
    """Return the processor time of reading a body in chunks, whatever comes of it."""
    begin = time.process_time()
    with contextlib.suppress(GatewayError):
        read([body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)], boundary)
    return time.process_time() - begin


@pytest.mark.parametrize("crumb", [b"\r", b"\n", b"\r\n", b"-", b"\r\n--", b"\r\n--bb", b"\r\n--b\r", b"x"])
def test_what_stands_before_and_behind_the_parts_costs_little(crumb: bytes) -> None:
    """CVE-2024-53981: a log line for each byte there."""
    noise = crumb * (4_000_000 // len(crumb))
    whole = form(b"b", (NAMED, b"x"))
    for chunk_bytes in (1 << 16, 1 << 18):
        assert took(noise + whole, chunk_bytes) < QUICK_S
        assert took(whole + noise, chunk_bytes) < QUICK_S
    assert took(whole + noise[:100_000], 1) < QUICK_S
    assert read([whole, noise]) == [Part("file", is_file=False, content=b"x")]
    tracemalloc.start()
    read([whole, noise])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000, "what means nothing is not kept"


def test_headers_of_a_part_are_few_and_short_however_they_arrive() -> None:
    many = b"\r\n".join([NAMED, *[b"X-%d: y" % number for number in range(100_000)]])
    long = NAMED + b"\r\nX: " + b"y" * 1_000_000
    endless = b"--b\r\n" + NAMED + b"\r\nX: " + b"y" * 1_000_000
    folded = b"--b\r\n" + NAMED + b"\r\n y" * 100_000
    for body in (form(b"b", (many, b"x")), form(b"b", (long, b"x")), endless, folded):
        for chunk_bytes in (100, 1 << 16):
            assert took(body, chunk_bytes) < QUICK_S
            with pytest.raises(MultipartMalformed):
                read([body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)])


@pytest.mark.parametrize(
    "option",
    [b"; a=1", b';a="', b';a="\\', b'; "', b';a="b"c', b";;;=", b'\\";', b"; a", b"=" * 9, b'; filename*0*="'],
)
def test_options_of_a_header_take_linear_time(option: bytes) -> None:
    """CVE-2024-24762 and its kind: a pattern that goes back and forth over them."""
    long = NAMED + option * ((MAX_HEADER_BYTES - len(NAMED)) // len(option))
    assert took(form(b"b", *[(long, b"x")] * 900), 1 << 16) < QUICK_S
    begin = time.process_time()
    read_options("form-data" + option.decode() * (200_000 // len(option)))
    assert time.process_time() - begin < QUICK_S


@pytest.mark.parametrize("length", [b"-1", b"+1", b"-0", b"1_0", b"0x10", b"1e3", b"\xb2", b"1,1", b"1 1", b"99999999"])
def test_a_parts_content_length_means_nothing(length: bytes) -> None:
    for name in (b"Content-Length", b"content-length"):
        lines = name + b": " + length + b"\r\n" + NAMED
        assert read([form(b"b", (lines, b"x"))]) == [Part("file", is_file=False, content=b"x")]


@pytest.mark.parametrize(
    "option",
    [
        *(b"filename*=utf-8''a.png", b"filename*0=a; filename*1=.png", b"filename*0*=utf-8''a; filename*1*=%2epng"),
        *(b"filename*99999999999=a", b"filename*0*=x'y'z", b"filename*=", b"FILENAME*0*=%ff", b'filename*1*="'),
    ],
)
def test_names_of_rfc_2231_make_a_file_and_nothing_else(option: bytes) -> None:
    for lines in (NAMED + b"; " + option, b"Content-Disposition: form-data; " + option + b'; name="file"'):
        assert read([form(b"b", (lines, b"x"))]) == [Part("file", is_file=True, content=b"x")]
    for hidden in (b"name*=utf-8''labels; name=\"file\"", b'name*0=la; name*1=bels; name="file"'):
        assert read([form(b"b", (b"Content-Disposition: form-data; " + hidden, b"x"))])[0].name == "file"
