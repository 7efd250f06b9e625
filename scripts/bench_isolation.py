"""What decoding in processes costs beside threads, in one run: ``python -m scripts.bench_isolation``.

Images a second of decode and views (centre, 224 px), one at a time and as many at a time as there are cores, threads
and processes in turns, medians of all rounds; then the processes' memory (PSS: what they share counts once), and the
time from the death of all workers to the next answer. ``--memory`` runs a stack of its own instead, and prints the most
that the gateway and its decoders held while 64 requests of 4 MB pictures were in flight. Prints the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import httpx2
import numpy as np
import uvloop
from PIL import Image

from gateway.decode import DecodeLimits, inspect
from gateway.decode_forker import Forker
from gateway.decode_pool import DecodePool
from gateway.decode_threads import DecodeThreads
from gateway.prepare import Job, Preparer
from gateway.stopwatch import Stopwatch
from scripts.bench.machine import machine
from scripts.bench.pictures import photographs
from scripts.bench.stack import stack

SIDE_PX = 224
SECONDS = 2.0
ROUNDS = 5
RESTARTS = 20
IN_FLIGHT = 64
MIB = 1 << 20
LIMITS = DecodeLimits(timeout_s=60)


def job(data: bytes) -> Job:
    """Return the work of one picture."""
    return Job(data, inspect(data, LIMITS), LIMITS, frozenset({"center"}), SIDE_PX, SIDE_PX, seed=0)


async def rate(preparer: Preparer, work: Job, in_flight: int) -> float:
    """Return images a second."""
    end = time.perf_counter() + SECONDS

    async def user() -> int:
        done = 0
        while time.perf_counter() < end:
            await preparer.prepare(work, Stopwatch())
            done += 1
        return done

    start = time.perf_counter()
    counts = await asyncio.gather(*(user() for _ in range(in_flight)))
    return sum(counts) / (time.perf_counter() - start)


async def restart_s(pool: DecodePool, work: Job) -> float:
    """Return the seconds from killing every worker to the next answer."""
    for worker in decoders(os.getpid()):
        os.kill(worker, signal.SIGKILL)
    start = time.perf_counter()
    await pool.prepare(work, Stopwatch())
    return time.perf_counter() - start


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text(encoding="ascii").split()]


def decoders(pid: int) -> list[int]:
    """Return a gateway's workers: the children of the child that forks them."""
    return [worker for forker in children(pid) for worker in children(forker)]


def pss_bytes(pid: int) -> int:
    """Return a process' proportional share of memory: a page of n processes counts 1/n."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


async def compare() -> None:
    """Measure threads and processes in turns, and print."""
    cores = len(os.sched_getaffinity(0))
    pictures = {"640x480 JPEG": photographs(1)[0], "12 MP JPEG": photographs(1, (4000, 3000))[0]}
    found: dict[tuple[str, int, str], list[float]] = {}
    with ThreadPoolExecutor(cores) as threads:
        pool = DecodePool(cores, Forker(most_memory=4 << 30, heic=False, fingerprint=False), 64, lambda _: None)
        both: dict[str, Preparer] = {"threads": DecodeThreads(threads, None), "processes": pool}
        for preparer in both.values():
            await asyncio.gather(*(preparer.prepare(job(pictures["640x480 JPEG"]), Stopwatch()) for _ in range(40)))
        small = {worker: pss_bytes(worker) for worker in decoders(os.getpid())}
        for _ in range(ROUNDS):
            for kind, data in pictures.items():
                for in_flight in (1, cores):
                    for name, preparer in both.items():
                        measured = await rate(preparer, job(data), in_flight)
                        found.setdefault((kind, in_flight, name), []).append(measured)
        large = {worker: pss_bytes(worker) for worker in decoders(os.getpid())}
        (forker,) = children(os.getpid())
        forking = pss_bytes(forker)
        restarts = [await restart_s(pool, job(pictures["640x480 JPEG"])) for _ in range(RESTARTS)]
        await pool.close()
    print(f"\n{machine()}\nload average {os.getloadavg()[0]:.1f}; images a second, medians of {ROUNDS} rounds\n")
    print("| picture | in flight | threads | processes | processes / threads |\n|---|---|---|---|---|")
    for kind, data in pictures.items():
        for in_flight in (1, cores):
            one, other = (statistics.median(found[kind, in_flight, name]) for name in both)
            label = f"{kind}, {len(data) / 1e6:.2f} MB"
            print(f"| {label} | {in_flight} | {one:.1f} | {other:.1f} | {other / one:.2f} |")
    print(f"\nPSS of {cores} workers: {total(small)} after small pictures, {total(large)} after large ones; "
          f"of the process that forks {forking / MIB:.0f} MiB")  # fmt: skip
    print(f"all workers killed, to the next answer: median {statistics.median(restarts) * 1e3:.0f} ms, "
          f"slowest of {RESTARTS} {max(restarts) * 1e3:.0f} ms")  # fmt: skip


def total(held: dict[int, int]) -> str:
    """Return a sum in words."""
    return f"{sum(held.values()) / MIB:.0f} MiB (largest {max(held.values()) / MIB:.0f})"


def noisy(size: tuple[int, int] = (4000, 3000), quality: int = 90) -> bytes:
    """Return a JPEG of about 4 MB."""
    rng = np.random.default_rng(1)
    small = rng.integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
    noise = rng.integers(-6, 7, pixels.shape, dtype=np.int16)
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=quality)
    return out.getvalue()


class Watched:
    """The most of several figures while its block runs."""

    def __init__(self, look: Callable[[], dict[str, int]]) -> None:
        self.most: dict[str, int] = {}
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            for name, value in self._look().items():
                self.most[name] = max(self.most.get(name, 0), value)


def gateway_pid() -> int:
    """Return the gateway below this process."""
    found = children(os.getpid())
    while found:
        pid = found.pop()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[1:3] == [b"-m", b"gateway"]:
            return pid
        found += children(pid)
    raise LookupError("the stack has no gateway")


def memory() -> None:
    """Send 64 large pictures at a time to a stack, and print what the gateway and its decoders held at most."""
    data = noisy()

    def look() -> dict[str, int]:
        own = pss_of([gateway])
        workers = pss_of([*children(gateway), *decoders(gateway)])
        return {"gateway": own, "decoders": workers, "both": own + workers}

    with stack("demo", "fp32", "cpu") as running:
        gateway = gateway_pid()
        with httpx2.Client(base_url=running.url, timeout=120) as client:

            def ask(_: int) -> int:
                fields = {"labels": ["a", "b"]}
                return client.post("/v1/classify", files={"file": data}, data=fields).status_code

            ask(0)
            before = look()
            with Watched(look) as watched, ThreadPoolExecutor(IN_FLIGHT) as users:
                statuses = list(users.map(ask, range(2 * IN_FLIGHT)))
            after = look()
    print(f"\n{machine()}\nload average {os.getloadavg()[0]:.1f}; {IN_FLIGHT} uploads of {len(data) / 1e6:.2f} MB "
          f"(12 MP) in flight, {len(statuses)} in all: {sorted(set(statuses))}\n")  # fmt: skip
    print("| PSS, MiB | before | most | after |\n|---|---|---|---|")
    for name, most in watched.most.items():
        print(f"| {name} | {before[name] / MIB:.0f} | {most / MIB:.0f} | {after[name] / MIB:.0f} |")


def pss_of(pids: list[int]) -> int:
    """Return the sum of several processes; one that has just ended holds nothing."""
    held = 0
    for pid in pids:
        try:
            held += pss_bytes(pid)
        except (OSError, StopIteration):
            continue
    return held


def main() -> None:
    """Measure and print."""
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m scripts.bench_isolation", description=about)
    parser.add_argument("--memory", action="store_true", help="what a gateway under large uploads holds, instead")
    if parser.parse_args().memory:
        memory()
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop that uvicorn runs on
            runner.run(compare())


if __name__ == "__main__":
    main()
