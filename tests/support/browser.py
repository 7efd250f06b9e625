"""A page in a real Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import http.server
import itertools
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import until

TIMEOUT_S = 90  # of a browser on a busy machine
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run")


def browser_path() -> str:
    """Return where Chromium is; skips where it is not installed."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium: what its pages do is checked where it is installed")
    return found


class Page:
    """One page; each call waits for its answer."""

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._numbers = itertools.count(1)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; events are passed over."""
        number = next(self._numbers)
        self._devtools.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._devtools.recv(timeout=TIMEOUT_S))
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    def run(self, script: str) -> Any:
        """Return what an expression gives; a promise is awaited."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, url: str) -> None:
        """Go to an address and wait until the page has loaded."""
        self.send("Page.navigate", url=url)
        until(lambda: self.run("location.href") == url and self.run("document.readyState") == "complete")

    def wait_for(self, selector: str) -> None:
        """Wait until an element is there."""
        until(lambda: self.run(f"!!document.querySelector({json.dumps(selector)})"), f"no {selector}", TIMEOUT_S)

    def click(self, selector: str) -> None:
        """Click an element once it is there."""
        self.wait_for(selector)
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in a field of that kind, as a person does in the dialog."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Run Chromium and yield its first page."""
    command = [browser_path(), *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            told = profile / "DevToolsActivePort"
            until(lambda: told.exists() and "\n" in told.read_text(), "Chromium did not start", TIMEOUT_S)
            pages = httpx2.get(f"http://127.0.0.1:{told.read_text().split()[0]}/json/list").json()
            address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            with connect(address, max_size=None) as devtools:
                yield Page(devtools)
        finally:
            process.terminate()


@contextmanager
def site(page: str) -> Iterator[str]:
    """Serve a page on another port of this machine; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
