"""Faults 70-83: broken, hostile and slow HTTP on the running stack, by hand where no client would send it."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.conftest import Stack
from tests.support.drawings import encoded, shape
from tests.support.fault_table import FaultLog
from tests.support.gateway_processes import more_gateways
from tests.support.raw_http import RawAnswer, connection, field, form, head, read_answer, send_raw
from tests.support.waiting import until

pytestmark = pytest.mark.heavy

JSON = "Content-Type: application/json"
PICTURE = encoded(shape("a red circle"))
WORDS = ["a red circle", "a blue square"]
INLINE = {"base64": base64.b64encode(PICTURE).decode()}
GOOD: dict[str, Any] = {"images": [INLINE], "labels": WORDS}
MIB = 1 << 20
TIGHT = {
    "HEADER_TIMEOUT_S": "1",
    "BODY_TIMEOUT_S": "3",
    "MAX_BODY_BYTES": str(4 * MIB),
    "MAX_REQUESTS_IN_FLIGHT": "8",
    "MAX_CONNECTIONS": "400",
    "LOG_LEVEL": "error",
}


@pytest.fixture(scope="module")
def tight(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway of its own with short waits and low caps, on the same Triton; yields its address."""
    with more_gateways(stack, 1, tmp_path_factory.mktemp("tight"), **TIGHT) as (address,):
        yield address


def is_problem(answer: RawAnswer) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) - {"error"} == {"type", "title", "status", "code", "detail", "request_id"}
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    for name in ("x-content-type-options", "content-security-policy", "x-frame-options", "referrer-policy"):
        assert name in answer.headers
    assert "server" not in answer.headers


def post_json(client: httpx2.Client, body: bytes) -> httpx2.Response:
    return client.post("/v1/classify", content=body, headers={"content-type": "application/json"})


def post_form(client: httpx2.Client, body: bytes, boundary: str = "b") -> httpx2.Response:
    kind = f"multipart/form-data; boundary={boundary}"
    return client.post("/v1/classify", content=body, headers={"content-type": kind})


def serves(address: str) -> bool:
    """Return whether another client is answered now.

    On a machine that starves Triton its probes fail, and nothing is asked of it for a moment: that is not meant here.
    """
    answers: list[httpx2.Response] = []

    def asked() -> bool:
        answers.append(httpx2.post(f"{address}/v1/classify", json=GOOD, timeout=20))
        return answers[-1].status_code == 200 or answers[-1].json()["code"] != "model_unavailable"

    until(asked)
    assert answers[-1].status_code == 200, answers[-1].text
    return True


def test_70_71_a_body_over_the_cap_is_refused_before_it_is_all_read(tight: str, faults: FaultLog) -> None:
    answer = send_raw(tight, head(JSON, f"Content-Length: {4 * MIB + 1}"))
    faults.expect(70, "a Content-Length over the cap, and not one byte sent", answer, "413 payload_too_large")
    is_problem(answer)
    answer = send_raw(tight, head(JSON, f"Content-Length: {4 * MIB + 1}", "Expect: 100-continue"))
    faults.expect(70, "the same, asking first (Expect: 100-continue)", answer, "413 payload_too_large")
    sent = 0
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for kind in (JSON, "Content-Type: multipart/form-data; boundary=b"):
        with connection(tight) as endless:
            endless.sendall(head(kind, "Transfer-Encoding: chunked"))
            for _ in range(200):
                endless.sendall(
                    chunk if kind == JSON or sent else b"10000\r\n" + (b"--b\r\n" * 13108)[:65536] + b"\r\n"
                )
                sent += 1
            answer = read_answer(endless)
            faults.expect(
                71,
                f"chunked without a length or an end, {kind[14:]}",
                answer,
                "413 payload_too_large",
                *([] if kind == JSON else ["400 multipart_malformed"]),
            )
            is_problem(answer)
            assert answer.headers["connection"] == "close"
    assert serves(tight)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "GET", "HEAD"])
@pytest.mark.parametrize(
    ("length", "wanted"),
    [
        *((str(number), 413) for number in (10**18 - 1, 10**18, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 5)),
        *(("9" * digits, 413) for digits in (19, 20, 30, 100, 5000)),
        *(("0" * zeros + str(4 * MIB + 1), 413) for zeros in (1, 20, 5000)),
        *(
            (text, 400)
            for text in ("+5", "5, 5", "5,5", "5;", "-1", "", "1 2", "0x5", "5.0", "5_0", "\xb2", "\xd9\xa5")
        ),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_a_length_that_is_none_or_beyond_all_caps(
    tight: str, method: str, length: str, wanted: int, faults: FaultLog
) -> None:
    path = "/v1/lists/none" if method in {"PUT", "DELETE"} else "/v1/classify" if method == "POST" else "/livez"
    answer = send_raw(tight, head(JSON, f"Content-Length: {length}", method=method, path=path))
    assert answer.status_code == wanted
    assert answer.closed
    if method != "HEAD":
        is_problem(answer)
        code = {413: "payload_too_large", 400: "http_malformed"}[wanted]
        shown = length if len(length) < 40 else f"{length[0]}… of {len(length)} characters"
        faults.expect(113, f"{method} with the Content-Length {shown!a}", answer, f"{wanted} {code}")


def test_a_length_with_zeros_or_blanks_around_it_is_that_length(tight: str) -> None:
    body = b'{"labels": ["a"]}'
    for length in (f"000{len(body)}", "0" * 5000 + str(len(body)), f"{len(body)} ", f" {len(body)}\t"):
        answer = send_raw(tight, head(JSON, f"Content-Length: {length}") + body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), length
        assert not answer.closed


def test_72_to_75_malformed_forms(client: httpx2.Client, stack: Stack, faults: FaultLog) -> None:
    wanted = "400 multipart_malformed"
    kind = {"content-type": "multipart/form-data"}
    faults.expect(72, "no boundary", client.post("/v1/classify", content=b"--b--", headers=kind), wanted)
    faults.expect(72, "a boundary of 257 bytes", post_form(client, b"", "b" * 257), wanted)
    nine = field("file", "x.png") + "\r\n" + "\r\n".join(f"X-{number}: y" for number in range(8))
    body = form("b", (nine, PICTURE), (field("labels"), b"a"), (field("labels"), b"b"))
    faults.expect(73, "a part with nine headers", post_form(client, body), wanted)
    faults.expect(74, "200 kB before the first part", post_form(client, b"x" * 200_000), wanted)
    good = form("b", (field("labels"), b"a"), (field("labels"), b"b"), (field("file", "x.png"), PICTURE))
    for cut in (5, 100, len(good) - 10):
        faults.expect(75, "the closing boundary is missing", post_form(client, good[:-cut]), wanted)
    lines = head("Content-Type: multipart/form-data; boundary=b", f"Content-Length: {len(good)}")
    answer = send_raw(stack.gateway_url, lines + good[:-50], half_close=True)
    faults.expect(75, "the connection ends before the form does", answer, wanted)
    is_problem(answer)


def test_76_77_forms_that_ask_nothing_answerable(client: httpx2.Client, faults: FaultLog) -> None:
    wanted = "422 invalid_request"
    words = [(field("labels"), word.encode()) for word in WORDS]
    body = form("b", *[(field("labels"), b"x")] * 1001)
    faults.expect(76, "1,001 parts", post_form(client, body), wanted)
    faults.expect(77, "no file", post_form(client, form("b", *words)), wanted)
    both = {"images": [{"url": "https://example.com/a.png", **INLINE}], "labels": WORDS}
    faults.expect(77, "url and base64 for one image", client.post("/v1/classify", json=both), wanted)
    empty = form("b", (field("file", "x"), PICTURE), (field("url"), b""))  # an empty field counts as not sent
    faults.expect(77, "a file, an empty url and no labels", post_form(client, empty), "422 invalid_labels")


def ended_after(made: socket.socket, begin: float) -> float:
    """Read to the end of a connection; return when it came, seconds after ``begin``."""
    with contextlib.suppress(ConnectionResetError):
        while made.recv(65536):
            pass
    return time.monotonic() - begin


def test_78_slow_clients_are_ended_and_others_are_served_meanwhile(tight: str, faults: FaultLog) -> None:
    starts = {
        "a head that never ends": head(JSON)[:-2] + b"X-Slow: ",
        "a body that never comes": head(JSON, "Content-Length: 100000"),
        "chunks that never come": head(JSON, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n",
        "nothing at all": b"",
    }
    slow: list[tuple[str, socket.socket]] = []
    with contextlib.ExitStack() as exits:
        begin = time.monotonic()
        for number in range(200):
            what = list(starts)[number % len(starts)]
            made = exits.enter_context(connection(tight))
            made.sendall(starts[what])
            slow.append((what, made))
        assert serves(tight), "200 slow clients held up another one"
        seen = {what: RawAnswer(0, {}, b"", closed=True) for what in starts}
        for what, made in slow[: len(starts)]:
            if what != "nothing at all":
                seen[what] = read_answer(made)
                is_problem(seen[what])
        last = max(ended_after(made, begin) for _, made in slow)
    assert last < 15, last
    for what, answer in seen.items():
        silent = what == "nothing at all"
        phrase = "closed" if silent else f"{answer.status_code} {answer.json()['code']}, closed"
        faults.expect(78, f"50 clients, {what}", phrase, "closed" if silent else "408 request_timeout, closed")
    assert serves(tight)


def test_78_a_trickle_of_bytes_buys_no_time(tight: str, faults: FaultLog) -> None:
    for what, lines in {
        "a header byte at a time": head(JSON)[:-2] + b"X-Slow: ",
        "a body byte at a time": head(JSON, f"Content-Length: {3 * MIB}"),
    }.items():
        with connection(tight) as made:
            made.sendall(lines)
            made.settimeout(0.1)
            begin = time.monotonic()
            got = b""
            while not got and time.monotonic() - begin < 10:
                made.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    got = made.recv(65536)
        seen = "408, closed" if got.startswith(b"HTTP/1.1 408 ") else repr(got[:40])
        faults.expect(78, what, seen, "408, closed")


def test_79_80_json_that_is_refused(client: httpx2.Client, faults: FaultLog) -> None:
    malformed, invalid = "400 invalid_json", "422 invalid_request"
    for what, body in {
        "100,000 levels of nesting": b"[" * 100_000,
        "the same as a value": b'{"labels": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "an integer of 5,000 digits": b'{"top_k": ' + b"1" * 5000 + b"}",
        "bytes that are no UTF-8": b'{"labels": ["\xff", "b"]}',
        "cut short": json.dumps(GOOD).encode()[:-1],
        "nothing": b"",
    }.items():
        faults.expect(79, what, post_json(client, body), malformed)
    nan = json.dumps(GOOD)[:-1] + ', "top_k": '
    for what, body in {
        "a key twice": b'{"labels": ["a", "b"], "labels": ["c", "d"]}',
        "a key twice, deep inside": b'{"images": [{"base64": "aa", "base64": "bb"}], "labels": ["a", "b"]}',
        "NaN": nan.encode() + b"NaN}",
        "Infinity": nan.encode() + b"-Infinity}",
    }.items():
        faults.expect(80, what, post_json(client, body), invalid)
    packed: Any = {"file": PICTURE, "options": (None, '{"labels": ["a", "b"], "top_k": NaN}')}
    faults.expect(80, "NaN in options", client.post("/v1/classify", files=packed), invalid)


def test_81_other_content_types(client: httpx2.Client, faults: FaultLog) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "image/png", "application/jsonp", ""):
        answer = client.post("/v1/classify", content=b"{}", headers={"content-type": kind})
        faults.expect(81, f"Content-Type “{kind}”", answer, "415 unsupported_media_type")
    form_there = client.post("/v1/embeddings", files={"file": PICTURE})
    faults.expect(81, "a form where only JSON is read", form_there, "415 unsupported_media_type")


SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
MALFORMED: dict[str, bytes] = {
    "no Host": head(method="GET", path="/livez", host=None),
    "two Hosts": head("Host: y", method="GET", path="/livez"),
    "Host with a path": head(method="GET", path="/livez", host="x/y"),
    "Host with a query": head(method="GET", path="/v1/lists", host="x?"),
    "Host with a fragment": head(method="GET", path="/v1/lists", host="x#y"),
    "Host with the path of another route": head(JSON, "Content-Length: 2", host="x/livez?") + b"{}",
    "Host with a backslash": head(method="GET", path="/v1/lists", host="x\\y"),
    "a target with a query for its Host": head(method="GET", path="http://x?/livez", host="x?"),
    "Host with user information": head(method="GET", path="/livez", host="user@x"),
    "Host with a blank": head(method="GET", path="/livez", host="a b"),
    "Host with a port of letters": head(method="GET", path="/livez", host="x:http"),
    "Host with NUL": head(method="GET", path="/livez", host="x\x00y"),
    "an empty Host": head(method="GET", path="/livez", host=""),
    "CL+TE": head(JSON, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED,
    "TE+CL": head(JSON, "Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n" + SMUGGLED,
    "two Content-Lengths": head(JSON, "Content-Length: 2", "Content-Length: 40") + b"{}" + SMUGGLED,
    "a negative Content-Length": head(JSON, "Content-Length: -2") + b"{}",
    "Content-Length +2": head(JSON, "Content-Length: +2") + b"{}",
    "Transfer-Encoding xchunked": head(JSON, "Transfer-Encoding: xchunked") + b"2\r\n{}\r\n0\r\n\r\n",
    "gzip within chunked": head(JSON, "Transfer-Encoding: gzip, chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    "gzip within chunked, in two headers": head(JSON, "Transfer-Encoding: gzip", "Transfer-Encoding: chunked")
    + b"2\r\n{}\r\n0\r\n\r\n",
    "chunked twice": head(JSON, "Transfer-Encoding: chunked, chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    "a blank before the colon": head(JSON, "Transfer-Encoding : chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    "a folded header": head("X-A: b\r\n c", method="GET", path="/livez"),
    "lines that end in LF alone": b"GET /livez HTTP/1.1\nHost: localhost\n\n",
    "CR within a header": head("X-A: b\rX-B: c", method="GET", path="/livez"),
    "a chunk of no size": head(JSON, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2 without being asked": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


def test_82_malformed_http(stack: Stack, faults: FaultLog) -> None:
    for what, request in MALFORMED.items():
        answer = send_raw(stack.gateway_url, request)
        faults.expect(82, what, answer, "400 http_malformed")
        is_problem(answer)
        if "Host" not in what:
            assert answer.closed, f"{what}: what follows could be taken for another request"
    log = stack.log.read_text(errors="replace")
    assert "smuggled" not in log


def test_82_a_head_without_end_is_refused(stack: Stack, faults: FaultLog) -> None:
    for what, request in {
        "a header of 40 kB": head("X-A: " + "a" * 40_000, method="GET", path="/livez"),
        "a header that does not end": head("X-A: " + "a" * 40_000, method="GET", path="/livez")[:-4],
        "10,000 headers": head(*["X: y"] * 10_000, method="GET", path="/livez"),
        "a path of 70 kB": head(method="GET", path="/" + "a" * 70_000),
        "trailers of 50 kB": head(JSON, "Transfer-Encoding: chunked")
        + b"2\r\n{}\r\n0\r\nX: "
        + b"a" * 50_000
        + b"\r\n\r\n",
    }.items():
        answer = send_raw(stack.gateway_url, request)
        faults.expect(82, what, answer, "431 headers_too_large")
        is_problem(answer)


def test_83_a_files_name_means_nothing(stack: Stack, faults: FaultLog) -> None:
    words = [(field("labels"), word.encode()) for word in WORDS]
    for name in (
        "../../../../etc/passwd",
        "/etc/cron.d/x",
        "C:\\x\\..\\y.png",
        "a\x00.png",
        "",
        "x" * 1000,
        ".",
        "con",
    ):
        body = form("b", (field("file", name), PICTURE), *words)
        lines = head("Content-Type: multipart/form-data; boundary=b", f"Content-Length: {len(body)}")
        answer = send_raw(stack.gateway_url, lines + body)
        shown = ascii(name)[1:-1]
        faults.expect(83, f"filename {shown[:40]}", answer, "200")
        assert answer.json()["results"][0]["scores"][0]["label"] == "a red circle"
    temporary = [path for path in stack.data_dir.parent.rglob("*") if path.suffix == ".png"]
    assert temporary == []


def test_one_connection_serves_on_and_answers_stay_in_order(stack: Stack) -> None:
    body = json.dumps(GOOD).encode()
    ask = head(JSON, f"Content-Length: {len(body)}") + body
    with connection(stack.gateway_url) as made:
        made.sendall(ask + head(method="GET", path="/livez") + b"\x00 no HTTP")
        # What follows is not HTTP: all before it is answered, and then the connection ends by saying so.
        answers = b""
        while piece := made.recv(65536):
            answers += piece
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200", b"400"]
    with connection(stack.gateway_url) as made:
        for _ in range(3):
            made.sendall(ask)
            assert read_answer(made).status_code == 200


UPGRADES = {
    "WebSocket": (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: " + "a" * 24,
    ),
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
}


def test_110_an_offer_to_upgrade_is_ignored(stack: Stack, faults: FaultLog) -> None:
    body = json.dumps(GOOD).encode()
    for what, lines in UPGRADES.items():
        whole = head(JSON, *lines, f"Content-Length: {len(body)}")
        asked = {
            "a request without a body": [head(*lines, method="GET", path="/livez")],
            "a body behind its head": [whole + body],
            "a body that comes later, in two pieces": [whole, body[:100], body[100:]],
            "a body in chunks": [
                head(JSON, *lines, "Transfer-Encoding: chunked"),
                b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
            ],
        }
        with connection(stack.gateway_url) as made:
            for which, pieces in asked.items():
                for piece in pieces:
                    made.sendall(piece)
                    time.sleep(0.05)
                answer = read_answer(made)
                faults.expect(110, f"{what} offered with {which}", answer, "200")
                assert "connection" not in answer.headers, "the connection serves on"


def test_114_a_half_close_behind_a_whole_request_is_no_departure(stack: Stack, faults: FaultLog) -> None:
    body = json.dumps(GOOD).encode()
    ask = head(JSON, f"Content-Length: {len(body)}") + body
    livez = head(method="GET", path="/livez")
    for what, sent, count in (
        ("GET", livez, 1),
        ("a picture", ask, 1),
        ("a picture over HTTP/1.0", ask.replace(b"HTTP/1.1", b"HTTP/1.0", 1), 1),
        ("five requests", livez + ask + livez + ask + livez, 5),
    ):
        with connection(stack.gateway_url) as made:
            made.sendall(sent)
            made.shutdown(socket.SHUT_WR)
            answers = b""
            while piece := made.recv(65536):
                answers += piece
        seen = re.findall(rb"HTTP/1.1 ([2-5]\d\d)", answers)
        faults.expect(114, f"{what}, then a half-close", b" ".join(seen).decode(), " ".join(["200"] * count))


def test_one_connection_too_many_is_told_so(stack: Stack, tmp_path: Any) -> None:
    with (
        more_gateways(stack, 1, tmp_path, MAX_CONNECTIONS="4", LOG_LEVEL="error") as (address,),
        contextlib.ExitStack() as exits,
    ):
        held = [exits.enter_context(connection(address)) for _ in range(4)]
        ask = head(method="GET", path="/livez")
        until(lambda: send_raw(address, ask).status_code == 503)  # those held may not be accepted yet
        answer = send_raw(address, ask)
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        is_problem(answer)
        for made in held:
            made.sendall(ask)
            assert read_answer(made).status_code == 200
