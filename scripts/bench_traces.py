"""``python -m scripts.bench_traces --triton 127.0.0.1:8101``: what traces cost a request.

Two gateways on one Triton, one of which sends traces to a collector that takes and drops them. Blocks of requests
alternate between the two; printed are medians, the ratio of each pair of blocks, and the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2

from scripts.bench.machine import machine

START_S = 60.0
ROOT = Path(__file__).resolve().parent.parent


class Sink(BaseHTTPRequestHandler):
    """Takes whatever is sent."""

    def do_POST(self) -> None:
        """Answer 200."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def gateway(port: int, triton: str, bundle: str, **settings: str) -> Iterator[str]:
    """Run a gateway; yields its address once it is ready.

    Raises:
        SystemExit: it does not become ready.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = {"GATEWAY_PORT": str(port), "TRITON_ADDRESSES": triton, "MODEL_REPOSITORY": bundle, "DATA_DIR": folder}
        environment = {**os.environ, **given, "LOG_LEVEL": "warning", **settings}
        process = subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, env=environment)
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
            while not ready(url):
                if time.monotonic() > end:
                    raise SystemExit("bench_traces: a gateway does not become ready")
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait()


def ready(url: str) -> bool:
    """Tell whether a gateway is ready."""
    try:
        return httpx2.get(f"{url}/readyz").status_code == 200
    except httpx2.HTTPError:
        return False


def block(client: httpx2.Client, url: str, image: bytes, requests: int) -> float:
    """Return the median milliseconds of a request of a block."""
    took = []
    for _ in range(requests):
        start = time.perf_counter()
        client.post(f"{url}/v1/moderate", files={"file": ("a.png", image, "image/png")}).raise_for_status()
        took.append(1e3 * (time.perf_counter() - start))
    return statistics.median(took)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench_traces", description=__doc__)
    parser.add_argument("--triton", default="127.0.0.1:8101")
    parser.add_argument("--bundle", default="model_repository", help="that this Triton serves")
    parser.add_argument("--port", type=int, default=8700, help="the first of two")
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--requests", type=int, default=100, help="of a block")
    given = parser.parse_args()
    image = (ROOT / "examples" / "red-circle.png").read_bytes()
    print(machine())
    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as sink, ExitStack() as exits:
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        collector = f"http://127.0.0.1:{sink.server_address[1]}"
        off = exits.enter_context(gateway(given.port, given.triton, given.bundle))
        on = exits.enter_context(
            gateway(given.port + 1, given.triton, given.bundle, OTEL_EXPORTER_OTLP_ENDPOINT=collector)
        )
        client = exits.enter_context(httpx2.Client(timeout=30))
        pairs = []
        for number in range(given.blocks + 1):
            sides = (off, on) if number % 2 else (on, off)
            took = {url: block(client, url, image, given.requests) for url in sides}
            pairs.append((took[off], took[on]))
        pairs = pairs[1:]  # the first warms up
        sink.shutdown()
    for name, values in zip(("off", "on"), zip(*pairs, strict=True), strict=True):
        print(f"{name:>3}  {statistics.median(values):.2f} ms")
    print(f"on / off, median of {given.blocks} pairs: {statistics.median(b / a for a, b in pairs):.3f}")


if __name__ == "__main__":
    main()
