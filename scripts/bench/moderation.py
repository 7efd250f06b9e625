"""What moderation costs: requests of each kind one at a time, and how soon a change is in force elsewhere."""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx2
from PIL import Image, ImageDraw

from scripts.bench.plan import Plan
from scripts.bench.report import ROOT, Section, Table
from scripts.bench.stack import FIRST_PORT, is_ready, stack

ROUNDS = 60
CHANGES = 20
SECOND_PORT = FIRST_PORT + 10


def picture(size: tuple[int, int]) -> bytes:
    """Return a JPEG of a plain drawing."""
    made = Image.new("RGB", size, "white")
    ImageDraw.Draw(made).ellipse((20, 20, size[1] - 20, size[1] - 20), fill="red")
    out = io.BytesIO()
    made.save(out, "JPEG", quality=90)
    return out.getvalue()


def latencies(asks: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the median milliseconds of each kind of request, alternated."""
    taken: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(ROUNDS):
        for name, ask in asks.items():
            start = time.perf_counter()
            ask().raise_for_status()
            taken[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values[5:]) for name, values in taken.items()}


def live_times(client: httpx2.Client, writer: str, reader: str, file: bytes) -> list[float]:
    """Return seconds from a PUT's answer to the other gateway deciding by the new version."""
    body = client.get(f"{writer}/v1/policies/default").json()
    found = []
    for number in range(CHANGES):
        policy = {name: body[name] for name in ("rules", "views", "openai_categories")}
        saved = client.put(f"{writer}/v1/policies/timed", json={**policy, "description": f"change {number}"})
        saved.raise_for_status()
        start = time.perf_counter()
        while True:
            answer = client.post(f"{reader}/v1/moderate", files={"file": file}, data={"policy": "timed"})
            results = answer.json().get("results")
            if results and results[0]["policy"]["version"] == saved.json()["version"]:
                break
        found.append(time.perf_counter() - start)
    return found


def measure(_: Plan) -> Section:
    """Measure with the demo model, one request at a time, and with a second gateway on the same store."""
    square, wide = picture((480, 480)), picture((960, 320))
    with stack("demo", "fp32", "cpu") as running:
        second = f"http://127.0.0.1:{SECOND_PORT}"
        settings = {"GATEWAY_PORT": str(SECOND_PORT), "TRITON_GRPC_PORT": str(running.grpc_port)}
        settings |= {"MODEL_REPOSITORY": str(running.repository), "DATA_DIR": str(running.data), "LOG_LEVEL": "warning"}
        process = subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, env={**os.environ, **settings})
        try:
            while not is_ready(second):
                time.sleep(0.1)
            with httpx2.Client(base_url=running.url, timeout=60) as client:
                policy = client.get("/v1/policies/default").json()
                rules = {"rules": policy["rules"], "views": "full"}
                client.put("/v1/policies/one-view", json=rules).raise_for_status()

                def ask(path: str, file: bytes, **fields: str | list[str]) -> Callable[[], Any]:
                    return lambda: client.post(path, files={"file": file}, data=fields)

                table = latencies(
                    {
                        "classify, 5 labels": ask("/v1/classify", square, labels=list("abcde")),
                        "moderate, one view": ask("/v1/moderate", square, policy="one-view"),
                        "moderate, tiles of a square (1 view)": ask("/v1/moderate", square),
                        "moderate, tiles of 3:1 (6 views)": ask("/v1/moderate", wide),
                    }
                )
                times = live_times(client, running.url, second, square)
        finally:
            process.terminate()
            process.wait()
    rows = [(name, f"{value:.1f}") for name, value in table.items()]
    live = f"median {statistics.median(times):.2f} s, slowest of {CHANGES} {max(times):.2f} s"
    notes = (
        f"Demo model, {ROUNDS} requests of each kind in turns, one at a time, with httpx2's client.",
        f"From the answer of a PUT to the first decision by it in a second gateway on the same SQLite: {live}.",
    )
    return Section("Moderation", tables=(Table(("request", "median, ms"), tuple(rows)),), notes=notes)
