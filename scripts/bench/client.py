"""A load client that costs next to nothing, since it shares the cores with what it measures.

Requests are bytes made beforehand; answers are read for their status and length alone. It speaks just enough HTTP/1.1
for this gateway and trusts it: a benchmark's client, no user's.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

OK = 200
LEAD = 0.2
GENERATIONS, LONGEST = 3, 10
"""A load ends when each place has had so many answers on average, be it later, but within so many times its seconds: a
server that answers 64 requests together after 7 s would otherwise have answered none within 3 s."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load measured.

    Attributes:
        latencies_s: of each answer, in the order they came; with arrivals by the clock from the time the request was
            due, so that a client that falls behind does not hide it.
        ended_s: when each of them came, counted from the first request.
        elapsed_s: from the first request to the last answer.
        asked_s: from the first request to when fewer than wanted were in flight, because one was not followed by
            another.
        client_s: processor seconds that the client itself took.
        status_of: of each answer.
        warm: answers beforehand, which are in none of these figures; for who compares what servers spent before and
            after.
    """

    latencies_s: list[float]
    ended_s: list[float]
    elapsed_s: float
    asked_s: float
    client_s: float
    status_of: list[int]
    warm: int = 0

    @property
    def statuses(self) -> dict[int, int]:
        """How many answers had which status."""
        return dict(Counter(self.status_of))

    @property
    def rate(self) -> float:
        """Answers a second, from a fifth of the way until fewer were in flight.

        At the beginning all requests come at once and no batch is full, at the end fewer and fewer are in flight: what
        a server answers then is not what it can.
        """
        return len(self._in_the_middle()) / ((1 - LEAD) * self.asked_s)

    @property
    def served(self) -> float:
        """Of these the ones with status 200."""
        return self._in_the_middle().count(OK) / ((1 - LEAD) * self.asked_s)

    def _in_the_middle(self) -> list[int]:
        begin = LEAD * self.asked_s
        both = zip(self.ended_s, self.status_of, strict=True)
        return [status for ended, status in both if begin < ended <= self.asked_s]

    def percentile(self, share: float) -> float:
        """Return the latency in seconds that a share (0 to 1) of the answers stayed below."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Steady:
    """How long a closed loop goes on; made as it begins.

    Args:
        in_flight: requests.
        seconds: at least.
    """

    def __init__(self, in_flight: int, seconds: float) -> None:
        self._answers = GENERATIONS * in_flight
        self._seconds = seconds
        self.start = time.perf_counter()
        self.asked_s = 0.0

    def goes_on(self, now: float, answers: int) -> bool:
        """Return whether another request follows, with so many answers there; when none did at first is kept."""
        passed = now - self.start
        if passed < self._seconds or (answers < self._answers and passed < LONGEST * self._seconds):
            return True
        self.asked_s = self.asked_s or passed
        return False


def upload(path: str, pictures: Sequence[bytes], fields: Sequence[tuple[str, str]]) -> bytes:
    """Return one HTTP request with pictures and form fields, each picture in a part named ``file``."""
    boundary = uuid.uuid4().hex
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields]
    for picture in pictures:
        head = 'Content-Disposition: form-data; name="file"; filename="p.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        parts.append(head.encode() + picture)
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    body += b"--" + boundary.encode() + b"--\r\n"
    return _request(path, f"multipart/form-data; boundary={boundary}", body)


def posted(path: str, body: bytes) -> bytes:
    """Return one HTTP request with a JSON body."""
    return _request(path, "application/json", body)


def _request(path: str, kind: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One kept-alive connection: a request, then its answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._head = b""
        self._status = 0
        self._missing = 0
        self._last = False

    @property
    def open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give an answer that will not come up: status 0."""
        self._transport = None
        self._finish(0 if exc is None else -1)

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a request; the future gives the answer's status, 0 or -1 if the connection ended without one."""
        assert self._transport is not None  # noqa: S101 - asked only while open
        self._answer = asyncio.get_running_loop().create_future()
        self._head, self._missing = b"", 0
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._status = int(head[9:12])
            self._missing = _length(head) - len(rest)
            self._last = b"\r\nconnection: close" in head.lower()
        if self._missing <= 0:
            self._missing = 0
            if self._last:
                self.close()
            self._finish(self._status)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def _finish(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


class _Pool:
    """Connections to one address, and what was measured over them."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._idle: list[Connection] = []
        self.latencies: list[float] = []
        self.ended: list[float] = []
        self.statuses: list[int] = []

    async def ask(self, request: bytes, due: float) -> None:
        """Send one request over an idle connection or a new one; its latency counts from ``due``."""
        connection = self._idle.pop() if self._idle else Connection()
        if not connection.open:
            await asyncio.get_running_loop().create_connection(lambda: connection, *self._address)
        status = await connection.ask(request)
        self.ended.append(time.perf_counter())
        self.latencies.append(self.ended[-1] - due)
        self.statuses.append(status)
        if connection.open:
            self._idle.append(connection)

    def begin(self) -> None:
        """Forget what was measured."""
        self.latencies.clear()
        self.ended.clear()
        self.statuses.clear()

    def load(self, start: float, used: float, asked_s: float, warm: int) -> Load:
        """Return what was measured since a moment at which the process had used some processor time."""
        elapsed, cost = time.perf_counter() - start, time.process_time() - used
        return Load(self.latencies, [end - start for end in self.ended], elapsed, asked_s, cost, self.statuses, warm)

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


async def closed_loop(
    address: tuple[str, int], requests: Sequence[bytes], in_flight: int, seconds: float, warm: int = 8
) -> Load:
    """Keep a number of requests in flight for some seconds.

    Args:
        address: host and port.
        requests: sent in turn.
        in_flight: at a time.
        seconds: after which no further request is sent, if there are answers enough; those due are waited for.
        warm: requests sent beforehand and not counted.
    """
    pool = _Pool(*address)
    warm = min(warm, in_flight)
    await asyncio.gather(*(pool.ask(requests[n % len(requests)], 0.0) for n in range(warm)))
    pool.begin()
    steady, used = Steady(in_flight, seconds), time.process_time()

    async def worker(number: int) -> None:
        while steady.goes_on(now := time.perf_counter(), len(pool.ended)):
            await pool.ask(requests[number % len(requests)], now)
            number += in_flight

    await asyncio.gather(*(worker(number) for number in range(in_flight)))
    load = pool.load(steady.start, used, steady.asked_s, warm)
    pool.close()
    return load


def arrivals(per_second: float, seconds: float, *, poisson: bool) -> list[float]:
    """Return when requests become due, in seconds from the first; see ``open_loop``."""
    dice = random.Random(20261121)  # noqa: S311 - arrivals, no secret
    due, when = [], 0.0
    while when < seconds:
        due.append(when)
        when += dice.expovariate(per_second) if poisson else 1 / per_second
    return due


async def open_loop(
    address: tuple[str, int], requests: Sequence[bytes], per_second: float, seconds: float, *, poisson: bool = False
) -> Load:
    """Send requests by the clock, however long the answers take.

    Args:
        address: host and port.
        requests: sent in turn.
        per_second: requests that become due each second.
        seconds: for how long.
        poisson: exponential gaps (the same at every run) in place of even ones.
    """
    due = arrivals(per_second, seconds, poisson=poisson)
    pool = _Pool(*address)
    await pool.ask(requests[0], 0.0)
    pool.begin()
    start, used = time.perf_counter(), time.process_time()
    asked = []
    for number, moment in enumerate(due):
        await asyncio.sleep(start + moment - time.perf_counter())
        asked.append(asyncio.create_task(pool.ask(requests[number % len(requests)], start + moment)))
    await asyncio.gather(*asked)
    load = pool.load(start, used, seconds, 1)
    pool.close()
    return load
