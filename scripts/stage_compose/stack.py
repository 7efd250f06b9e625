"""The stack as a Compose project of its own, and clients at its proxy."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

ROOT = Path(__file__).resolve().parents[2]
DOCKER = shutil.which("docker") or "docker"
PROJECT = "clip-moderation-staged"
CLIENTS = 4
REQUEST_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Answers:
    """What clients got: when each answer came, and of which status; 0 is none."""

    rows: list[tuple[float, int]] = field(default_factory=list)

    def since(self, start_s: float) -> tuple[int, int, float]:
        """Return how many were good and bad since then, and the longest time in seconds without a good one."""
        rows = [(at, status) for at, status in self.rows if at >= start_s]
        good = [at for at, status in rows if status == 200]
        marks = [start_s, *good, time.monotonic()]
        return len(good), len(rows) - len(good), max(b - a for a, b in itertools.pairwise(marks))


class Compose:
    """The project: its settings, and ``docker compose`` on them."""

    def __init__(self, folder: Path, port: int) -> None:
        self.settings = {
            "BUNDLES_DIR": str(folder / "bundles"),
            "GATEWAY_ALLOW_OPEN": "true",
            "PROXY_PORT": str(port),
            "TRITON_CPUS": str(os.cpu_count() or 1),
            "GATEWAY_CPUS": str(os.cpu_count() or 1),
        }
        self._file = folder / ".env"

    def __call__(self, *words: str, may_fail: bool = False, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command; ``settings`` are put into the project's file first, and stay there.

        Raises:
            subprocess.CalledProcessError: it failed, and must not.
        """
        self.settings |= settings
        lines = (f"{name}={value}\n" for name, value in self.settings.items())
        self._file.write_text("".join(lines), encoding="utf-8")
        command = [DOCKER, "compose", "--project-name", PROJECT, "--env-file", str(self._file), *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=3600)
        if done.returncode and not may_fail:
            print(done.stdout, done.stderr, file=sys.stderr)
            done.check_returncode()
        return done

    def containers(self) -> dict[str, str]:
        """Return id and start of what runs, by its name."""
        rows = [json.loads(line) for line in self("ps", "--format", "json").stdout.splitlines()]
        found = {}
        for row in rows:
            started = docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", row["Name"])
            found[row["Name"].removeprefix(f"{PROJECT}-")] = started
        return found


def docker(*words: str) -> str:
    """Run ``docker`` and return what it printed."""
    done = subprocess.run([DOCKER, *words], capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.strip()


@contextmanager
def clients(url: str) -> Iterator[Answers]:
    """Keep clients busy, each over a connection of its own that is kept; yields what they get."""
    answers, stop = Answers(), threading.Event()
    image = (ROOT / "examples" / "red-circle.png").read_bytes()

    def work() -> None:
        with httpx2.Client(timeout=REQUEST_TIMEOUT_S) as client:
            while not stop.is_set():
                try:
                    sent = client.post(f"{url}/v1/moderate", files={"file": ("a.png", image, "image/png")})
                    status = sent.status_code
                except httpx2.HTTPError:
                    status = 0
                answers.rows.append((time.monotonic(), status))
                if status != 200:
                    time.sleep(0.05)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
