"""HTTP by hand, for requests that no client library would send."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

CONNECT_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class RawAnswer:
    """The first answer on a connection, and whether the server then closed it."""

    status_code: int
    headers: dict[str, str]
    content: bytes
    closed: bool

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self.content)


@contextmanager
def connection(address: str, timeout_s: float = CONNECT_TIMEOUT_S) -> Iterator[socket.socket]:
    """Connect to ``http://host:port``."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as made:
        yield made


def read_answer(made: socket.socket, method: str = "GET") -> RawAnswer:
    """Read one answer, one to HEAD without its body.

    Raises:
        ConnectionResetError: the server resets the connection instead.
    """
    answer = http.client.HTTPResponse(made, method=method)
    answer.begin()
    content = answer.read()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    closed = False
    if headers.get("connection") == "close":
        with contextlib.suppress(ConnectionResetError):  # the answer is read; only that it ends counts
            closed = made.recv(1) == b""
    return RawAnswer(answer.status, headers, content, closed)


def send_raw(address: str, *pieces: bytes, half_close: bool = False) -> RawAnswer:
    """Send bytes as they are and read the answer."""
    with connection(address) as made:
        for piece in pieces:
            made.sendall(piece)
        if half_close:
            made.shutdown(socket.SHUT_WR)
        return read_answer(made, "HEAD" if pieces[0].startswith(b"HEAD ") else "GET")


def head(*lines: str, path: str = "/v1/classify", method: str = "POST", host: str | None = "localhost") -> bytes:
    """Return a request's head with these header lines."""
    first = [f"{method} {path} HTTP/1.1"] + ([] if host is None else [f"Host: {host}"])
    return "\r\n".join([*first, *lines, "", ""]).encode("latin-1")


def form(boundary: str, *parts: tuple[str, bytes]) -> bytes:
    """Return a multipart body of parts, each its header lines and its content."""
    lines = [f"--{boundary}\r\n{lead}\r\n\r\n".encode() + content + b"\r\n" for lead, content in parts]
    return b"".join(lines) + f"--{boundary}--\r\n".encode()


def field(name: str, filename: str | None = None) -> str:
    """Return the header line of a part."""
    return f'Content-Disposition: form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')


class Upload:
    """A request of which half has been sent."""

    def __init__(self, port: int, picture: bytes) -> None:
        body = json.dumps({"images": [{"base64": base64.b64encode(picture).decode()}]}).encode()
        self._rest = body[10:]
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        kind = "Host: localhost\r\nContent-Type: application/json"
        head = f"POST /v1/moderate HTTP/1.1\r\n{kind}\r\nContent-Length: {len(body)}"
        self._socket.sendall(head.encode() + b"\r\n\r\n" + body[:10])

    def finish(self) -> httpx2.Response:
        """Send the other half, and read the answer until the server closes the connection."""
        self._socket.sendall(self._rest)
        said = b""
        while data := self._socket.recv(1 << 16):
            said += data
        self._socket.close()
        head, _, body = said.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = [tuple(line.split(": ", 1)) for line in lines[1:]]
        return httpx2.Response(int(lines[0].split()[1]), headers=headers, content=body)  # type: ignore[arg-type]
