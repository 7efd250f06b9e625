"""Bodies of requests, in process: whatever they are and however they arrive, they are read or refused by us."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from gateway.api.body.images import read_fields
from gateway.api.body.multipart import MultipartReader, Part
from gateway.api.body.reader import BodyRules
from gateway.api.body.strict_json import parse_object
from gateway.api.schemas.requests import ClassifyBody, ClassifyFields, ClassifyForm
from gateway.errors import GatewayError, MultipartMalformed
from gateway.limits.admission import Admission, AdmissionLimits
from scripts.fuzz.mutate import mutated
from scripts.fuzz.seeds import BOUNDARY

CORPUS = Path(__file__).parents[1] / "corpus"
FORMS = {path.name: path.read_bytes() for path in sorted((CORPUS / "forms").iterdir())}
OBJECTS = {path.name: path.read_bytes() for path in sorted((CORPUS / "objects").iterdir())}
RULES = BodyRules(max_body_bytes=20_000, max_json_bytes=5_000, max_images=4, timeout_s=5)
REFUSED = {"invalid_json", "invalid_labels", "invalid_request", "multipart_malformed", "payload_too_large"}
REFUSED |= {"http_malformed", "unsupported_media_type"}
FORM, JSON = f"multipart/form-data; boundary={BOUNDARY.decode()}", "application/json"
# The same examples in every run, so that the suite says the same thing twice.
BOUNDED = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
Outcome = list[Part] | str


def damaged(whole: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    return st.randoms(use_true_random=False).map(lambda dice: mutated(dice.choice(whole), whole, dice))


def apart(body: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cut a body into chunks at the given offsets, some of which may be empty."""
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(edges)]


def outcome_of_form(chunks: Sequence[bytes]) -> Outcome:
    try:
        reader = MultipartReader(BOUNDARY)
        for chunk in chunks:
            reader.feed(chunk)
        return reader.parts()
    except GatewayError as fault:
        return fault.code


@pytest.mark.parametrize("name", FORMS)
def test_whole_forms(name: str) -> None:
    broken = {"cut", "no-name", "line-feeds", "preamble"}
    got = outcome_of_form([FORMS[name]])
    assert got == "multipart_malformed" if name in broken else isinstance(got, list)


@BOUNDED
@given(damaged(list(FORMS.values())), st.lists(st.integers(0, 1000), max_size=6))
def test_a_form_is_the_same_however_it_arrives(body: bytes, cuts: list[int]) -> None:
    whole = outcome_of_form([body])
    assert outcome_of_form(apart(body, cuts)) == whole
    assert outcome_of_form([bytes((one,)) for one in body[:2000]]) == outcome_of_form([body[:2000]])
    assert isinstance(whole, list) or whole in {"multipart_malformed", "invalid_request"}


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\;'), min_size=1, max_size=20)
crumbs = st.sampled_from([b"\r", b"\n", b"-", b"--", b"\r\n--", BOUNDARY])  # of which a boundary line is made
contents = st.binary(max_size=200) | st.lists(crumbs).map(b"".join)


@BOUNDED
@given(st.lists(st.tuples(names, st.booleans(), contents), max_size=6), st.lists(st.integers(0, 2000), max_size=6))
def test_what_is_sent_is_what_is_read(parts: list[tuple[str, bool, bytes]], cuts: list[int]) -> None:
    parts = [part for part in parts if b"\r\n--" + BOUNDARY not in b"\r\n" + part[2]]
    body = b""
    for name, is_file, content in parts:
        file = b'; filename="a.png"' if is_file else b""
        head = b'Content-Disposition: form-data; name="' + name.encode() + b'"' + file
        body += b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"
    body += b"--" + BOUNDARY + b"--\r\n"
    assert outcome_of_form(apart(body, cuts)) == [Part(*part) for part in parts]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("--B\r\n{head}\r\n\r\nx\r\n--B \t\r\n{head}\r\n\r\ny\r\n--B--", None, id="padding"),
        pytest.param("--B\r\n{head}\r\n\r\nx\r\n--Bx\r\n--B--", None, id="begins like the boundary"),
        pytest.param("--B\r\n{head}\r\n\r\n\r\n--B--", [""], id="empty"),
        pytest.param("\r\n\r\n--B\r\n{head}\r\n\r\nx\r\n--B--\r\nanything", ["x"], id="line ends and epilogue"),
        pytest.param("--B--", [], id="no parts"),
        pytest.param("--B\r\nX: a\nb\r\n{head}\r\n\r\nx\r\n--B--", None, id="a line end in a header"),
        pytest.param("--B\r\n\r\nx\r\n--B--", None, id="no headers"),
        pytest.param("--B\r\n{head}\r\nX: " + "x" * 5000 + "\r\n\r\nx\r\n--B--", None, id="a long header"),
        pytest.param("--B\r\n: a\r\n{head}\r\n\r\nx\r\n--B--", None, id="a header without a name"),
    ],
)
def test_what_is_a_form(body: str, expected: list[str] | None) -> None:
    whole = body.replace("{head}", 'Content-Disposition: form-data; name="a"').encode()
    for step in (1, 2, 7, len(whole)):
        reader = MultipartReader(b"B")
        try:
            for start in range(0, len(whole), step):
                reader.feed(whole[start : start + step])
            got = [part.content.decode() for part in reader.parts()]
        except MultipartMalformed:
            got = None
        assert got == expected, step


@BOUNDED
@given(st.binary(max_size=300))
def test_a_boundary_of_any_bytes(boundary: bytes) -> None:
    body = b"--" + boundary + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--' + boundary + b"--\r\n"
    try:
        reader = MultipartReader(boundary)
        reader.feed(body)
        reader.parts()
    except MultipartMalformed:
        return


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@BOUNDED
@given(st.dictionaries(st.text(), values, max_size=5), st.booleans())
def test_an_object_is_read_as_it_is(value: dict[str, Any], ascii_only: bool) -> None:  # noqa: FBT001
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_object(text.encode(), 10_000) == value


@BOUNDED
@given(damaged(list(OBJECTS.values())) | st.binary(max_size=200))
def test_anything_else_is_no_object(body: bytes) -> None:
    try:
        assert isinstance(parse_object(body, 1000), dict)
    except GatewayError as fault:
        assert fault.code in {"invalid_json", "invalid_request", "payload_too_large"}  # noqa: PT017


class Sent:
    """A request whose body arrives in chunks; counts those that were asked for."""

    def __init__(self, kind: bytes, chunks: Sequence[bytes], length: bytes | None) -> None:
        self.taken = 0
        self._chunks = chunks
        headers = [(b"content-type", kind), *([(b"content-length", length)] if length is not None else [])]
        self.request = Request({"type": "http", "method": "POST", "headers": headers}, self._receive)

    async def _receive(self) -> dict[str, Any]:
        self.taken += 1
        last = self.taken >= len(self._chunks)
        return {"type": "http.request", "body": self._chunks[self.taken - 1], "more_body": not last}


def outcome_of(sent: Sent) -> ClassifyFields | str:
    """Read a body and the question in it."""
    admission = Admission(AdmissionLimits(1, 1_000_000, 1_000_000, 1.0), lambda _: None)
    try:
        with admission.request() as reservation:
            return asyncio.run(read_fields(sent.request, RULES, reservation, ClassifyBody, ClassifyForm))[0]
    except GatewayError as fault:
        is_shown = fault.status < 500 and fault.detail.isprintable()
        return fault.code if is_shown else repr(fault)


kinds = st.sampled_from([FORM.encode(), JSON.encode(), b"Application/JSON; charset=utf-8"]) | st.binary(max_size=80)
lengths = st.none() | st.integers(0, 10**30).map(lambda value: str(value).encode()) | st.binary(max_size=8)
bodies = damaged(list(FORMS.values())) | damaged(list(OBJECTS.values())) | st.binary(max_size=300)


@BOUNDED
@given(kinds, bodies, st.lists(st.integers(0, 1000), max_size=4), lengths)
def test_any_body_of_any_type_is_read_or_refused(
    kind: bytes, body: bytes, cuts: list[int], length: bytes | None
) -> None:
    outcome = outcome_of(Sent(kind, apart(body, cuts), length))
    assert isinstance(outcome, ClassifyFields) or outcome in REFUSED


@pytest.mark.parametrize("kind", [FORM, JSON])
def test_a_length_of_thousands_of_digits(kind: str) -> None:
    assert outcome_of(Sent(kind.encode(), [b""], b"9" * 5000)) in REFUSED


@BOUNDED
@given(st.sampled_from([FORM, JSON]), st.integers(1, 5000), st.booleans())
def test_reading_stops_at_the_cap(kind: str, size: int, declared: bool) -> None:  # noqa: FBT001
    start = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\n' if kind == FORM else b""
    chunks = [start, *[b" " * size] * (2 * RULES.max_body_bytes // size + 2)]
    sent = Sent(kind.encode(), chunks, str(sum(map(len, chunks))).encode() if declared else None)
    assert outcome_of(sent) == "payload_too_large"
    assert sent.taken <= (0 if declared else RULES.max_body_bytes // size + 2)
