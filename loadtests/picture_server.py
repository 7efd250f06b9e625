"""A small HTTP server with the picture set, for the user who sends URLs.

The gateway fetches from public addresses only. It takes this server's when it is started with
``FETCH_TEST_ALLOWED_HOSTS=<host>:<port>`` of it, which is meant for tests alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from loadtests.pictures import Picture, by_name


class PictureServer(ThreadingHTTPServer):
    """Serves pictures by their file names, from memory.

    Args:
        address: host and port to listen on; port 0 takes a free one.
        pictures: the set.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], pictures: Sequence[Picture]) -> None:
        super().__init__(address, _Handler)
        self.pictures = by_name(pictures)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answer with the picture that the path names."""
        assert isinstance(self.server, PictureServer)  # noqa: S101 - made by it alone
        picture = self.server.pictures.get(self.path.removeprefix("/"))
        if picture is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", picture.drawing.mime)
        self.send_header("Content-Length", str(len(picture.data)))
        self.end_headers()
        self.wfile.write(picture.data)

    def log_message(self, *_: object) -> None:
        """Say nothing: a line for each request would bury the figures."""


@contextmanager
def serving(host: str, port: int, pictures: Sequence[Picture]) -> Iterator[int]:
    """Serve in a thread for a while; yields the port."""
    with PictureServer((host, port), pictures) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
