"""A long import beside moderation: ``python -m scripts.bench_lists``, against a running gateway.

Imports random hashes into a list of its own, adds and removes single ones, imports all again, while one client
moderates pictures, through another gateway on the same database if one is named: how long each takes, and how long the
slowest verdict, which waits for the decision log, takes meanwhile. The list is deleted in the end.
"""

from __future__ import annotations

import argparse
import io
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import numpy as np
from PIL import Image

from scripts.bench.machine import machine

LIST = "bench-lists"
NOT_LOGGED = "decision_not_logged"


@contextmanager
def moderating(address: str, name: str) -> Iterator[None]:
    """Moderate pictures during the block, then print how long it and the verdicts took."""
    out = io.BytesIO()
    Image.new("RGB", (96, 96), "white").save(out, "PNG")
    took: list[float] = []
    lost = 0
    stop = threading.Event()

    def ask() -> None:
        nonlocal lost
        with httpx2.Client(base_url=address, timeout=60) as client:
            while True:
                start = time.perf_counter()
                answer = client.post("/v1/moderate", files={"file": out.getvalue()})
                took.append(1e3 * (time.perf_counter() - start))
                lost += answer.status_code != httpx2.codes.OK or NOT_LOGGED in answer.text
                if stop.wait(0.02):
                    return

    asking = threading.Thread(target=ask)
    asking.start()
    start = time.perf_counter()
    try:
        yield
    finally:
        elapsed_s = time.perf_counter() - start
        stop.set()
        asking.join()
    print(
        f"{name:<34} {elapsed_s:7.2f} s   verdicts: {len(took):4d}, median {np.median(took):5.0f} ms, "
        f"slowest {max(took):5.0f} ms, failed or not logged {lost}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="http://127.0.0.1:8000")
    parser.add_argument("--moderate-at", help="another gateway on the same database; the same one by default")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=["sha256", "pdq"], default="sha256")
    given = parser.parse_args()
    beside = given.moderate_at or given.address
    hashes = [secrets.token_hex(32) for _ in range(given.entries)]
    body = "\n".join(hashes).encode()
    path = f"/v1/lists/{LIST}"
    print(f"{machine()}; {given.entries:,} {given.kind} hashes")
    with httpx2.Client(base_url=given.address, timeout=600) as client:
        client.put(path, json={"action": "block", "kind": given.kind}).raise_for_status()
        try:
            for name, method, content in (
                ("import", "POST", body),
                ("add one", "POST", secrets.token_hex(32).encode()),
                ("remove one", "DELETE", hashes[0].encode()),
                (
                    "import again, 10 of them new",
                    "POST",
                    b"\n".join([body, *(b"%064x" % number for number in range(10))]),
                ),
            ):
                with moderating(beside, name):
                    client.request(method, f"{path}/entries", content=content).raise_for_status()
        finally:
            with moderating(beside, "delete the list"):
                client.delete(path).raise_for_status()


if __name__ == "__main__":
    main()
