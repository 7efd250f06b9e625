"""A real server that speaks S3, as a process: ``moto_server``, of an environment of its own or on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
BUCKET = "stills"
START_S = 60


class NoS3Server(Exception):
    """There is none here; the text says what was looked for."""


@dataclass(frozen=True)
class S3Server:
    """Where it listens, and its process."""

    url: str
    process: subprocess.Popen[bytes]

    def objects(self) -> dict[str, bytes]:
        """Return all that the bucket holds, as anybody reads it who has the bucket's credentials."""
        listed = httpx2.get(f"{self.url}/{BUCKET}?list-type=2").text
        names = [part.split("</Key>")[0] for part in listed.split("<Key>")[1:]]
        return {name: httpx2.get(f"{self.url}/{BUCKET}/{name}").content for name in names}


@contextmanager
def running_s3(port: int) -> Iterator[S3Server]:
    """Start a server with an empty bucket.

    Raises:
        NoS3Server: none is installed.
    """
    beside = ROOT / ".venv-s3" / "bin" / "moto_server"
    program = str(beside) if beside.exists() else shutil.which("moto_server")
    if program is None:
        raise NoS3Server("no S3 server here: make s3-server installs moto's, or put moto_server on the path")
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = S3Server(f"http://127.0.0.1:{port}", process)
    try:
        until(lambda: _made(server), lambda: "the S3 server did not start", START_S)
        yield server
    finally:
        process.kill()
        process.wait()


def _made(server: S3Server) -> bool:
    try:
        return httpx2.put(f"{server.url}/{BUCKET}", timeout=5).status_code == 200
    except httpx2.TransportError:
        return False
