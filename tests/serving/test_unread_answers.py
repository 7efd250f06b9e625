"""Faults 111 and 112: clients that ask and do not read cost no memory, hold nobody up, and are let go."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Self

import httpx2
import pytest

from scripts.flood import listener, resident_mib
from tests.conftest import Stack
from tests.support.drawings import encoded, shape
from tests.support.fault_table import FaultLog
from tests.support.gateway_processes import more_gateways
from tests.support.raw_http import head
from tests.support.waiting import UNTIL_S

pytestmark = pytest.mark.heavy

WRITE_TIMEOUT_S = 2.0
PROMPT_S = 5.0  # on a machine that does other work too; it was 3.5 s for one such client, 20 s for twenty
GROWN_MIB = 48
JSON = "Content-Type: application/json"
SETTINGS = {"WRITE_TIMEOUT_S": str(WRITE_TIMEOUT_S), "MAX_LABELS": "1000", "LOG_LEVEL": "error"}


def many_labels() -> bytes:
    image = {"base64": base64.b64encode(encoded(shape("a red circle"))).decode()}
    body = json.dumps({"images": [image] * 8, "labels": [f"thing {number}" for number in range(1000)]}).encode()
    return head(JSON, f"Content-Length: {len(body)}") + body


def get(path: str) -> bytes:
    return head(method="GET", path=path)


ASKED: dict[str, bytes] = {
    "a large file": get("/openapi.json"),
    "metrics": get("/metrics"),
    "decisions as lines": get("/v1/decisions?format=jsonl"),
    "1,000 labels for each of 8 pictures": many_labels(),
}


@dataclass(frozen=True)
class Gateway:
    """A gateway whose clients have ``WRITE_TIMEOUT_S`` to read, and its port."""

    address: str
    port: int


@pytest.fixture(scope="module")
def impatient(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with more_gateways(stack, 1, tmp_path_factory.mktemp("impatient"), **SETTINGS) as (address,):
        httpx2.get(f"{address}/openapi.json", timeout=UNTIL_S)  # made once
        # Empty answers would be so short that a busy machine needs minutes to fill the kernel's buffers with them.
        image = {"base64": base64.b64encode(encoded(shape("a red circle"))).decode()}
        for _ in range(4):
            logged = httpx2.post(f"{address}/v1/moderate", json={"images": [image] * 32}, timeout=UNTIL_S)
            assert logged.status_code == 200, logged.text
        yield Gateway(address, int(address.rsplit(":", 1)[1]))


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """Connect with as small a buffer for answers as the kernel has."""
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(UNTIL_S)
        made.connect(("127.0.0.1", port))
        yield made


def asks_on(port: int, request: bytes, read: Callable[[socket.socket], object] = lambda _: None) -> bool:
    """Ask again and again on one connection, and read as told; return whether the server ended it in time."""
    end = time.monotonic() + UNTIL_S
    with connected(port) as made:
        made.settimeout(0.2)
        sent = 0
        pipelined = request * max(1, 65536 // len(request))
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                try:
                    sent = (sent + made.send(pipelined[sent:])) % len(pipelined)
                    read(made)
                except (BrokenPipeError, ConnectionResetError):
                    return True
    return False


class Watch:
    """Asks ``/livez`` and looks at the memory, over and over, while its block runs."""

    def __init__(self, gateway: Gateway) -> None:
        self.slowest_s = self.grown_mib = 0.0
        self.count = 0
        self._gateway = gateway
        self._process = listener(gateway.port)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._before = resident_mib([self._process])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            begin = time.monotonic()
            assert httpx2.get(f"{self._gateway.address}/livez", timeout=UNTIL_S).status_code == 200
            self.count += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - begin)
            self.grown_mib = max(self.grown_mib, resident_mib([self._process]) - self._before)


@pytest.mark.parametrize("clients", [1, pytest.param(20, marks=pytest.mark.heavy)])
def test_111_requests_are_not_read_ahead_of_answers_that_nobody_reads(
    impatient: Gateway, faults: FaultLog, clients: int
) -> None:
    with futures.ThreadPoolExecutor(clients) as threads, Watch(impatient) as watch:
        ended = list(threads.map(lambda _: asks_on(impatient.port, get("/")), range(clients)))
    assert watch.count > 0
    seen = [f"memory grew by {watch.grown_mib:.0f} MiB"] * (watch.grown_mib > GROWN_MIB)
    seen += [f"/livez took {watch.slowest_s:.1f} s"] * (watch.slowest_s > PROMPT_S)
    seen += [f"{ended.count(False)} connections not ended"] * (not all(ended))
    what = f"requests without end from {clients} that read no answer"
    faults.expect(111, what, ", ".join(seen) or "memory flat, others served", "memory flat, others served")


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.heavy] * (what == "decisions as lines")) for what in ASKED]
)
def test_112_who_does_not_read_is_let_go(impatient: Gateway, faults: FaultLog, what: str) -> None:
    with futures.ThreadPoolExecutor(4) as threads, Watch(impatient) as watch:
        ended = list(threads.map(lambda _: asks_on(impatient.port, ASKED[what]), range(4)))
    faults.expect(112, f"a client that does not read, {what}", "closed" if all(ended) else "open", "closed")
    assert watch.grown_mib < GROWN_MIB


def test_112_a_byte_now_and_then_buys_no_time(impatient: Gateway, faults: FaultLog) -> None:
    ended = asks_on(impatient.port, ASKED["a large file"], lambda made: made.recv(1))
    faults.expect(112, "a client that reads a byte at a time", "closed" if ended else "open", "closed")


@pytest.mark.heavy
def test_a_slow_reader_in_time_gets_all_of_its_answers(impatient: Gateway) -> None:
    count = 60
    with connected(impatient.port) as made, futures.ThreadPoolExecutor(1) as thread:
        sending = thread.submit(made.sendall, ASKED["a large file"] * count + head("Connection: close", method="GET"))
        answers = bytearray()
        pause = 0
        while piece := made.recv(1 << 16):
            answers += piece
            if len(answers) > pause:
                time.sleep(WRITE_TIMEOUT_S / 2)
                pause += 2 << 20
        sending.result()
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == count
    assert answers.count(b"HTTP/1.1 405 ") == 1
