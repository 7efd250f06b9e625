"""Clients that moderate and classify until they are told to stop, and keep what they were answered."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scripts.bench.pictures import photographs

OK = 200
DEADLINE_S = 240.0


class UpgradeFailed(Exception):
    """The staging itself did not work; the text says where."""


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """What a client got: status (0: none), bundle, policy version, decision and id, when, and what was wrong."""

    status: int
    at_s: float
    elapsed_s: float
    bundle_id: str = ""
    version: tuple[str, int] | None = None
    decision: tuple[str, str] | None = None
    said: str = ""


@dataclass
class Clients:
    """Clients that go on until they are told to stop.

    Attributes:
        address: host and port of the proxy.
        answers: in the order they came.
    """

    address: tuple[str, int]
    answers: list[ClientAnswer] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, clients: int) -> None:
        """Begin: half of them over kept connections."""
        pictures = [base64.b64encode(picture).decode() for picture in photographs(8, (160, 120))]
        for number in range(clients):
            thread = threading.Thread(target=self._go_on, args=(number, pictures), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let each have its last answer."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait(self, until: Callable[[list[ClientAnswer]], bool], what: str) -> None:
        """Wait for something that the answers say.

        Raises:
            UpgradeFailed: it has not come.
        """
        end = time.monotonic() + DEADLINE_S
        while not until(self.answers):
            if time.monotonic() > end:
                raise UpgradeFailed(f"waited {DEADLINE_S:g} s in vain: {what}")
            time.sleep(0.05)

    def _go_on(self, number: int, pictures: list[str]) -> None:
        connection: http.client.HTTPConnection | None = None
        for turn in itertools.count(number):
            if self._over.is_set():
                break
            if connection is None:
                connection = http.client.HTTPConnection(*self.address, timeout=60)
            path, body = request_of(turn, pictures)
            self.answers.append(asked(connection, path, body))
            if number % 2 or self.answers[-1].status != OK:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


def request_of(turn: int, pictures: list[str]) -> tuple[str, bytes]:
    """Return path and body of a client's next request."""
    picture = {"base64": pictures[turn % len(pictures)]}
    body: dict[str, Any] = {"images": [picture]}
    match turn % 4:
        case 0:
            return "/v1/classify", json.dumps(body | {"classifier": "shapes"}).encode()
        case 1:
            return "/v1/moderate", json.dumps(body).encode()
    return "/v1/moderate", json.dumps(body | {"policy": "shapes"}).encode()


def asked(connection: http.client.HTTPConnection, path: str, body: bytes) -> ClientAnswer:
    """Send a request, once, and return what came of it."""
    begin = time.monotonic()
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
    except (OSError, http.client.HTTPException) as error:
        return ClientAnswer(0, time.monotonic(), time.monotonic() - begin, said=f"{path}: {error!r}")
    now = time.monotonic()
    if response.status != OK:
        return ClientAnswer(response.status, now, now - begin, said=f"{path}: {data[:300]!r}")
    answer = json.loads(data)
    (result,) = answer["results"]
    bundle_id = answer["model"]["bundle_id"]
    if path == "/v1/classify":
        return ClientAnswer(OK, now, now - begin, bundle_id)
    version = (result["policy"]["name"], result["policy"]["version"])
    said = "" if result["decision_id"] else f"not logged: {result['warnings']}"
    decision = (result["decision_id"] or "", result["decision"])
    return ClientAnswer(OK, now, now - begin, bundle_id, version, decision, said)
