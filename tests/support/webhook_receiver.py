"""A receiver of webhooks on a real socket, which answers as a test says: well, badly, late, or not at all."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
SECOND = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()


@dataclass
class Got:
    """A request that arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read

    def check(self, secret: str = SECRET) -> None:
        """Verify by the library, and by an HMAC of our own."""
        Webhook(secret).verify(self.body, self.headers)
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        own = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert own in self.headers["webhook-signature"].split(" ")


Answer = int | str | tuple[int, dict[str, str]]
"""A status, with headers; or ``hang``, ``drip`` (a head without end), ``close`` (within the head), ``late``."""


@dataclass
class Receiver:
    """What arrived, and how the n-th request, from 0, is answered."""

    answer: Callable[[int, Got], Answer] = lambda _number, _got: 204
    got: list[Got] = field(default_factory=list)
    url: str = ""
    late_s: float = 1.5
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def arrived(self, field_name: str = "decision_id") -> list[Any]:
        return [got.event["data"][field_name] for got in self.got]


@contextmanager
def receiving(
    answer: Callable[[int, Got], Answer] = lambda _number, _got: 204, context: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got = Got({name.lower(): value for name, value in self.headers.items()}, body)
            with receiver.lock:
                receiver.got.append(got)
                number = len(receiver.got) - 1
            self._answer(receiver.answer(number, got))

        def _answer(self, what: Answer) -> None:
            self.close_connection = True
            if what == "hang":
                receiver.stopped.wait(30)
            elif what == "drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while not receiver.stopped.wait(0.1):
                    try:
                        self.wfile.write(b"X-Drop: 1\r\n")
                    except OSError:
                        return
            elif what == "close":
                self.wfile.write(b"HTTP/1.1 20")
            else:
                if what == "late":
                    time.sleep(receiver.late_s)
                status, headers = (
                    (204, {}) if isinstance(what, str) else what if isinstance(what, tuple) else (what, {})
                )
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                except OSError:
                    return

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that ends the connection is what the test asks for

    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        receiver.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}/hook"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.stopped.set()
            server.shutdown()
            thread.join()
