"""What the log says of a request, and that nothing which a client sent stands in it."""

from __future__ import annotations

import base64
import json
import socket
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from gateway.observability.tracebacks import LINES, as_trace, trace
from tests.conftest import ROOT, Stack, free_ports
from tests.support.awkward_images import chunk, png_with
from tests.support.gateway_processes import more_gateways
from tests.support.in_process_app import b64
from tests.support.waiting import until

SECRET = "Zwiebelkuchen"  # stands in everything that is sent below
LABELS = [f"a {SECRET} circle", "a square"]
PICTURE = png_with(chunk(b"tEXt", f"Comment\0{SECRET}".encode()))
PNG_BASE64 = base64.b64encode(PICTURE).decode()


def lines_of(text: str) -> list[dict[str, Any]]:
    """Every line as an object: one that is no JSON fails here."""
    return [json.loads(line) for line in text.splitlines()]


def holds_secret(text: str) -> bool:
    """Whether the word, its base64 in any alignment, or the picture's bytes as text stand in a log."""
    shifted = [base64.b64encode(b"\0" * pad + SECRET.encode())[4 * (pad > 0) : -4] for pad in range(3)]
    return any(word.lower() in text.lower() for word in (SECRET, PNG_BASE64[:40], "IHDR")) or any(
        part.decode() in text for part in shifted
    )


def test_the_log_of_a_gateway_names_every_request_and_keeps_no_secret(stack: Stack, tmp_path: Path) -> None:
    closed = free_ports(2)[1]  # the gateway takes the first
    settings = {
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "debug",
        "FETCH_TEST_ALLOWED_HOSTS": f"127.0.0.1:{closed}",
        "MAX_BODY_BYTES": "200000",
    }
    with more_gateways(stack, 1, tmp_path, **settings) as (address,), httpx2.Client(base_url=address) as client:
        answers = requests_of_many_kinds(client, closed)
        leave_while_sending(address)
        garbage = raw(address, f"{SECRET} /?{SECRET} HTTP/9\r\n\r\n".encode())
        with closing(sqlite3.connect(tmp_path / "gateway.sqlite")) as database, database:
            database.execute("ALTER TABLE decisions RENAME TO gone")  # faults whose statements hold what was sent
        answers.append(client.get("/v1/decisions", params={"external_id": SECRET}))
        moderate = {"images": [b64(PICTURE)], "external_id": SECRET}
        answers.append(client.post("/v1/moderate", json=moderate))
        until(lambda: '"status": 499' in (tmp_path / "gateway-0.log").read_text(encoding="utf-8"))
    assert garbage.startswith(b"HTTP/1.1 400")
    assert {answer.status_code for answer in answers} >= {200, 400, 404, 405, 413, 415, 422}
    log = (tmp_path / "gateway-0.log").read_text(encoding="utf-8")
    assert not holds_secret(log), [line for line in log.splitlines() if holds_secret(line)][:3]
    access = {line["request_id"]: line for line in lines_of(log) if line["event"] == "request"}
    for answer in answers:
        line = access[answer.headers["x-request-id"]]
        assert line["status"] == answer.status_code
        assert line["bytes_out"] == (0 if answer.request.method == "HEAD" else len(answer.content))
        assert line["elapsed_ms"] >= 0
        assert {"timestamp", "level", "logger", "method", "route"} <= set(line)
        if answer.content and answer.headers["content-type"] == "application/problem+json":
            assert line["code"] == answer.json()["code"]
    assert access["batch-of-two"]["images"] == 2
    unread = [line for line in access.values() if line["route"] == "unread"]
    assert [(line["status"], line["code"]) for line in unread] == [(400, "http_malformed")]
    assert unread[0]["request_id"].encode() in garbage
    assert access["batch-of-two"]["bytes_in"] > 2 * len(PICTURE)
    assert access["one-decision"]["route"] == "/v1/decisions/{decision_id}"
    left = [line for line in access.values() if line["status"] == 499]
    assert left, "the client that left while it sent its body has no line"
    assert all("exception" not in line for line in left)


def requests_of_many_kinds(client: httpx2.Client, closed_port: int) -> list[httpx2.Response]:
    """Answers to requests that hold the secret wherever a request can hold anything."""
    headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"a={SECRET}", "User-Agent": SECRET, "Referer": SECRET}
    image, form = b64(PICTURE), {"labels": LABELS}
    upload = {"file": (f"{SECRET}.png", PICTURE, "image/png")}

    def classify(**body: Any) -> httpx2.Response:
        return client.post("/v1/classify", params={"token": SECRET}, headers=headers, json={"labels": LABELS, **body})

    def by_url(url: str) -> httpx2.Response:
        return classify(images=[{"url": url}])

    kind = {"Content-Type": "application/json"}
    return [
        client.post("/v1/classify", headers=headers, files=upload, data=form),
        client.post("/v1/classify", headers={"X-Request-ID": "batch-of-two"}, json={"images": [image] * 2, **form}),
        classify(images=[{"base64": PNG_BASE64[:80]}]),
        classify(images=[image], labels=[*LABELS, LABELS[0]]),
        classify(images=[image], labels=[f"{SECRET} " * 90, "b"]),
        classify(images=[image], templates=[SECRET]),
        classify(images=[image], classifier=SECRET),
        classify(images=[image], **{SECRET: SECRET}),
        by_url(f"http://user:{SECRET}@example.com/"),
        by_url(f"http://127.0.0.1:{closed_port}/{SECRET}?key={SECRET}#{SECRET}"),
        by_url(f"http://169.254.169.254/{SECRET}"),
        by_url(f"gopher://{SECRET}"),
        by_url(SECRET),
        client.post("/v1/classify", headers=kind, content=f'{{"{SECRET}": '),
        client.post("/v1/classify", headers={"Content-Type": f"text/{SECRET}"}, content=SECRET),
        client.post("/v1/classify", headers={"Content-Type": "multipart/form-data"}, content=SECRET),
        client.post("/v1/classify", headers=kind, content=SECRET * 20_000),
        client.post("/v1/moderate", json={"images": [image], "external_id": SECRET}),
        client.post("/v1/moderate", json={"images": [image], "policy": SECRET.lower()}),
        client.post("/v1/moderations", json={"input": SECRET}),
        client.post("/v1/embeddings", json={"input": [SECRET, {"image": image}]}),
        client.put("/v1/classifiers/words", json={"labels": [{"label": SECRET, "prompts": [SECRET] * 2}]}),
        client.put("/v1/classifiers/words", headers={"If-Match": SECRET}, json={"labels": [{"label": SECRET}]}),
        client.get(f"/v1/policies/{SECRET.lower()}"),
        client.get(f"/v1/decisions/{SECRET}", headers={"X-Request-ID": "one-decision"}),
        client.get("/v1/decisions", params={"external_id": SECRET}),
        client.get("/v1/decisions", params={"cursor": SECRET}),
        client.delete("/v1/decisions", params={"external_id": SECRET}),
        client.get(f"/{SECRET}", params={"a": SECRET}),
        client.get(f"/{SECRET}", headers={"X-Request-ID": f"{SECRET} with a space"}),
        client.request("PATCH", "/v1/classify", params={"a": SECRET}),
        client.request("HEAD", f"/{SECRET}"),
    ]


def leave_while_sending(address: str) -> None:
    """Announce a body, send a part of it and go."""
    parts = urlsplit(address)
    kind = "Host: localhost\r\nContent-Length: 9000\r\nContent-Type: application/json"
    head = f"POST /v1/classify?{SECRET} HTTP/1.1\r\n{kind}\r\n"
    with socket.create_connection((str(parts.hostname), int(parts.port or 0))) as leaver:
        leaver.sendall(f'{head}Expect: 100-continue\r\n\r\n{{"{SECRET}'.encode())
        assert leaver.recv(4096).startswith(b"HTTP/1.1 100 ")  # somebody reads
        leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no good-bye


def raw(address: str, data: bytes) -> bytes:
    """What the server answers to these bytes."""
    parts = urlsplit(address)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10) as sender:
        sender.sendall(data)
        return sender.recv(4096)


FAULTS = f"""
import asyncio, gc, logging, sys, warnings
import structlog
from gateway.observability.log_format import configure_logging

configure_logging(sys.argv[1], "info")
log = structlog.get_logger("part")

def fail(value):
    raise ValueError(value)

try:
    try:
        fail("https://user:{SECRET}@example.com/?{SECRET}")
    except ValueError as error:
        raise OSError(28, "{SECRET}", "/{SECRET}") from error
except OSError:
    log.exception("first")
try:
    raise ExceptionGroup("{SECRET}", [KeyError("{SECRET}"), ValueError("{SECRET}")])
except ExceptionGroup as error:
    log.error("second", exc_info=error)
try:
    fail("{SECRET}")
except ValueError:
    logging.getLogger("library").exception("cannot read %s", "{SECRET}")
    import traceback
    logging.getLogger("uvicorn.error").error(traceback.format_exc())
logging.getLogger("library").warning("put together: {SECRET}")
logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
warnings.warn("{SECRET}", stacklevel=1)

async def forgotten():
    fail("{SECRET}")

async def main():
    asyncio.get_running_loop().call_soon(fail, b"{SECRET}")
    task = asyncio.create_task(forgotten())
    await asyncio.sleep(0.01)
    del task
    gc.collect()

asyncio.run(main())
"""


def logged_faults(form: str) -> str:
    run = subprocess.run([sys.executable, "-c", FAULTS, form], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    return run.stdout


def test_exceptions_and_libraries_lines_say_what_and_where_but_no_values() -> None:
    found = logged_faults("json")
    assert not holds_secret(found), found
    lines = lines_of(found)
    assert [(line["logger"], line["event"]) for line in lines] == [
        ("part", "first"),
        ("part", "second"),
        ("library", "cannot read %s"),
        ("uvicorn.error", "ValueError\n  <string>:24 <module>\n  <string>:10 fail"),
        ("library", "text withheld"),
        ("uvicorn.error", "Invalid HTTP request received."),
        ("warnings", "UserWarning"),
        ("asyncio", "Exception in callback fail"),
        ("asyncio", "Task exception was never retrieved"),
    ]
    by_event = {line["event"]: line for line in lines}
    first = by_event["first"]["exception"]
    assert first.startswith("OSError errno 28\n")
    assert "\ncaused by ValueError\n" in first
    assert first.rstrip().endswith("fail")
    assert by_event["second"]["exception"].startswith("ExceptionGroup of KeyError, ValueError")
    assert by_event["Task exception was never retrieved"]["exception"].startswith("ValueError")
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_a_trace_that_another_process_sent_is_kept_as_far_as_it_is_one() -> None:
    def fail() -> None:
        raise ValueError(SECRET)

    with pytest.raises(ValueError, match=SECRET) as caught:
        fail()
    sent = trace(caught.value)
    assert as_trace(sent) == sent
    assert sent.startswith("ValueError\n  tests/observability/test_log_format.py:")
    for forged in (
        f"ValueError: {SECRET}",
        f'  File "{SECRET}"',
        f"\x1b[2J{SECRET}",
        f"a {SECRET}",
        f"  {SECRET} here",
    ):
        assert as_trace(f"{sent}\n{forged}") == sent
    assert len(as_trace("\n".join(["  a.py:1 f"] * 10_000)).splitlines()) == LINES


def test_the_form_for_people_keeps_no_values_either() -> None:
    found = logged_faults("console")
    assert not holds_secret(found)
    assert "OSError errno 28" in found


def test_a_line_that_cannot_be_written_fails_nobody() -> None:
    code = """
import os, sys, structlog
from gateway.observability.log_format import configure_logging
configure_logging("json", "info")
read, write = os.pipe()
os.close(read)
os.dup2(write, 1)
for _ in range(1000):
    structlog.get_logger().warning("nobody reads this")
print("alive", file=sys.stderr, flush=True)
os._exit(0)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (run.returncode, run.stderr) == (0, "alive\n")
