"""``python -m scripts.flood``: 1,000 uploads of 10 MB at once. Only 200 and 503, and under the memory ceiling?

Every connection behaves like a plain HTTP client: it sends its whole picture, an error of sending does not stop it
from reading, and what it then cannot read is a failure. The picture is a PNG of noise, valid, and as large as its
pixels. Memory is the resident set of the gateway's process and its children, sampled while the uploads run.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import io
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

from gateway.memory_ceiling import ceiling_mib
from gateway.settings import MIB, Settings

SAMPLE_S = 0.05
PATIENCE_S = 300.0


def noise_png(size_mb: float) -> bytes:
    """Return a PNG of about this many megabytes: noise does not compress."""
    side = int((size_mb * 1e6 / 3) ** 0.5)
    pixels = np.random.default_rng(7).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=0)
    return out.getvalue()


def request(host: str, picture: bytes) -> bytes:
    """Return a whole request to classify the picture."""
    fields = "".join(
        f'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n{word}\r\n' for word in ("a red circle", "noise")
    )
    lead = f'{fields}--b\r\nContent-Disposition: form-data; name="file"; filename="noise.png"\r\n\r\n'.encode()
    body = lead + picture + b"\r\n--b--\r\n"
    head = (
        f"POST /v1/classify HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def upload(address: tuple[str, int], whole: bytes, gate: asyncio.Event) -> str:
    """Send a request and return what became of it: a status, or the failure's name."""
    loop = asyncio.get_running_loop()
    made = socket.socket()
    made.setblocking(False)  # noqa: FBT003 - the standard library's own
    try:
        async with asyncio.timeout(PATIENCE_S):
            await loop.sock_connect(made, address)
            await gate.wait()
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(made, whole)
            answer = b""
            while piece := await loop.sock_recv(made, 65536):
                answer += piece
    except (OSError, TimeoutError) as error:
        return type(error).__name__
    finally:
        made.close()
    status, _, rest = answer.partition(b"\r\n")
    words = status.split(b" ")
    if len(words) < 2 or not words[1].isdigit():
        return "no answer"
    if words[1] == b"503" and (b"retry-after:" not in rest.lower() or b'"overloaded"' not in rest):
        return "503 without Retry-After or of another kind"
    return words[1].decode()


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process and its children, MiB: resident before the flood, and the most during it; shared pages split up."""

    before: float
    peak: float
    peak_proportional: float


def resident_mib(processes: list[psutil.Process]) -> float:
    """Return the resident memory of the processes together; shared pages count in each."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / MIB


def proportional_mib(processes: list[psutil.Process]) -> float:
    """Return the processes' memory with shared pages divided among those that share them."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().pss
    return total / MIB


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process with its children."""
    return [process, *process.children(recursive=True)]


async def watch(process: psutil.Process, done: asyncio.Event) -> Memory:
    """Sample a process's memory until ``done``."""
    before = peak = resident_mib(family(process))
    peak_proportional = 0.0
    while not done.is_set():
        now = resident_mib(family(process))
        if now > peak:
            peak = now
            peak_proportional = max(peak_proportional, proportional_mib(family(process)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), SAMPLE_S)
    return Memory(before, peak, peak_proportional)


async def flood(
    address: tuple[str, int], count: int, picture: bytes, process: psutil.Process
) -> tuple[Mapping[str, int], Memory, float]:
    """Open ``count`` connections, upload on all at once; return outcomes, memory, and seconds from first to last."""
    whole = request(f"{address[0]}:{address[1]}", picture)
    gate, done = asyncio.Event(), asyncio.Event()
    watching = asyncio.create_task(watch(process, done))
    uploads = [asyncio.create_task(upload(address, whole, gate)) for _ in range(count)]
    await asyncio.sleep(1)  # all are connected, none has sent
    begin = time.perf_counter()
    gate.set()
    outcomes = await asyncio.gather(*uploads)
    elapsed = time.perf_counter() - begin
    done.set()
    return collections.Counter(outcomes), await watching, elapsed


def listener(port: int) -> psutil.Process:
    """Return the process that listens on a port of this machine, the youngest: a launcher holds the listener too.

    Raises:
        LookupError: none that can be seen.
    """
    found = [
        psutil.Process(one.pid)
        for one in psutil.net_connections("tcp")
        if getattr(one.laddr, "port", None) == port and one.status == psutil.CONN_LISTEN and one.pid
    ]
    if not found:
        raise LookupError(f"nothing of yours listens on port {port}: start `make serve` first")
    return max(found, key=psutil.Process.create_time)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0 if every answer is 200 or 503 and memory stayed under the ceiling, else 1."""
    parser = argparse.ArgumentParser(prog="python -m scripts.flood", description=__doc__)
    parser.add_argument("--address", default=f"http://127.0.0.1:{os.environ.get('GATEWAY_PORT') or 8000}")
    parser.add_argument("--count", type=int, default=1000, help="uploads at once")
    parser.add_argument("--megabytes", type=float, default=10.0, help="size of the picture")
    given = parser.parse_args(arguments)
    url = urlsplit(given.address)
    address = (url.hostname or "127.0.0.1", url.port or 80)
    try:
        process = listener(address[1])
    except LookupError as failed:
        print(f"flood: {failed}", file=sys.stderr)
        return 1
    settings = settings_of(process)
    picture = noise_png(given.megabytes)
    outcomes, memory, elapsed = asyncio.run(flood(address, given.count, picture, process))
    ceiling = ceiling_mib(settings)
    good = set(outcomes) <= {"200", "503"} and outcomes["200"] > 0 and memory.peak <= ceiling
    print(f"{given.count} uploads of {len(picture):,} bytes at once, {elapsed:.1f} s until the last was answered")
    print("answers: " + ", ".join(f"{what} {number}x" for what, number in sorted(outcomes.items())))
    print(
        f"memory: {memory.before:.0f} MiB before, at most {memory.peak:.0f} MiB "
        f"({memory.peak_proportional:.0f} with shared pages split), ceiling {ceiling:.0f} MiB"
    )
    print("held" if good else "NOT held")
    return 0 if good else 1


def settings_of(process: psutil.Process) -> Settings:
    """Return the settings that a gateway runs with: those of its environment."""
    own = dict(os.environ)
    os.environ.clear()
    os.environ.update(process.environ())
    try:
        return Settings()
    finally:
        os.environ.clear()
        os.environ.update(own)


if __name__ == "__main__":
    sys.exit(main())
