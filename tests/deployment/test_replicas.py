"""What tells the proxy which replicas are ready, beside a real nginx.

The replicas are small servers here, and the name's addresses come from a file; ``python -m scripts.stage_compose`` does
it with gateways and Docker's own names.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import ROOT, free_ports
from tests.support.proxies import proxy
from tests.support.raw_http import head, send_raw
from tests.support.waiting import until

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(shutil.which("wget") is None, reason="wget is not installed; it is in the proxy's image"),
]
REPLICA = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = sys.argv[1].encode()
        self.send_response(200 if open(sys.argv[3]).read() == "ready" or self.path != "/readyz" else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""
LOOKUP = """#!/bin/sh
printf 'Server:\\t\\t127.0.0.11\\nAddress:\\t127.0.0.11:53\\n\\n'
for address in $(cat {addresses}); do printf 'Name:\\t%s\\nAddress: %s\\n' "$1" "$address"; done
"""


class Replicas:
    """Servers on addresses of their own, and the file of those that the name has."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, address: str) -> None:
        self.is_ready(address, ready=True)
        words = [sys.executable, "-c", REPLICA, address, str(self.port), str(self.folder / address)]
        self.processes[address] = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        self.named(*self.processes)

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def is_ready(self, address: str, *, ready: bool) -> None:
        (self.folder / address).write_text("ready" if ready else "draining")

    def named(self, *addresses: str) -> None:
        (self.folder / "addresses").write_text(" ".join(addresses))

    def used(self) -> set[str]:
        """The replicas that the proxy passes requests to."""
        text = (self.folder / "servers.conf").read_text()
        return {line.split()[1].split(":")[0] for line in text.splitlines()}


@contextmanager
def followed(folder: Path) -> Iterator[tuple[Replicas, str]]:
    """Two replicas, nginx before them and what tells it which are ready; yields them and the proxy's address."""
    (port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    lookup = folder / "bin" / "nslookup"
    lookup.parent.mkdir()
    lookup.write_text(LOOKUP.format(addresses=folder / "addresses"))
    lookup.chmod(0o755)
    replicas = Replicas(folder, port)
    with ExitStack() as exits:
        exits.callback(replicas.stop)
        for address in ("127.0.0.2", "127.0.0.3"):
            replicas.start(address)
        running = exits.enter_context(proxy(folder, port))
        settings = {"PATH": f"{lookup.parent}:{os.environ['PATH']}", "PROXY_RUN": str(folder)}
        script = subprocess.Popen(
            ["/bin/sh", str(ROOT / "docker" / "proxy" / "replicas.sh")],
            env={**os.environ, **settings, "PROXY_UPSTREAM": f"gateway:{port}"},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        exits.callback(os.killpg, script.pid, signal.SIGKILL)
        script.wait()  # it leaves a part of it behind, as in the image
        until(lambda: {who for _, who in answers(running.url, 0.2)} == {"127.0.0.2", "127.0.0.3"})
        yield replicas, running.url


def answers(url: str, seconds: float) -> list[tuple[int, str]]:
    """What requests one after the other get for a while, and whose answer it is."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        answer = send_raw(url, head(method="GET", path="/livez"))
        found.append((answer.status_code, answer.text))
    return found


def test_a_frozen_replica_is_passed_over_and_comes_back(tmp_path: Path) -> None:
    with followed(tmp_path) as (replicas, url):
        assert {who for _, who in answers(url, 0.5)} == {"127.0.0.2", "127.0.0.3"}
        os.kill(replicas.processes["127.0.0.2"].pid, signal.SIGSTOP)
        until(lambda: replicas.used() == {"127.0.0.3"})

        def passed_over() -> bool:
            with suppress(TimeoutError):  # of a request that went to it before nginx knew
                return set(answers(url, 0.5)) == {(200, "127.0.0.3")}
            return False

        until(passed_over)
        os.kill(replicas.processes["127.0.0.2"].pid, signal.SIGCONT)
        until(lambda: replicas.used() == {"127.0.0.2", "127.0.0.3"})
        until(lambda: (200, "127.0.0.2") in answers(url, 0.2))


def test_a_draining_replica_gets_no_more_and_a_new_one_is_found_without_a_failed_request(tmp_path: Path) -> None:
    with followed(tmp_path) as (replicas, url):
        replicas.start("127.0.0.4")
        replicas.is_ready("127.0.0.2", ready=False)
        seen: list[tuple[int, str]] = []

        def changed() -> bool:
            seen.extend(answers(url, 0.2))
            return replicas.used() == {"127.0.0.3", "127.0.0.4"}

        until(changed)
        until(lambda: {who for _, who in answers(url, 0.5)} == {"127.0.0.3", "127.0.0.4"})
        assert {status for status, _ in seen} == {200}


def test_where_none_is_ready_the_replicas_say_why(tmp_path: Path) -> None:
    with followed(tmp_path) as (replicas, url):
        for address in replicas.processes:
            replicas.is_ready(address, ready=False)
        until(lambda: send_raw(url, head(method="GET", path="/readyz")).status_code == 503)
        assert send_raw(url, head(method="GET", path="/readyz")).text in replicas.processes
        assert replicas.used() == {"127.0.0.2", "127.0.0.3"}
