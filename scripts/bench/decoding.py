"""Decoding alone: large JPEGs against libjpeg-turbo's own scaling, processes against threads, and their coming back."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import psutil
import uvloop
from PIL import Image

from gateway.decoding.decoder import DecodeLimits, inspect, is_inspected_quickly, sha256_of
from gateway.decoding.preprocess import Job, Preprocessor, prepare
from gateway.decoding.views import ViewRule
from gateway.decoding.workers.forkserver import ForkServer
from gateway.decoding.workers.pool import DecodePool
from gateway.decoding.workers.threads import DecodeThreads
from gateway.observability.stage_timer import StageTimer
from scripts.bench.alternate import alternate
from scripts.bench.large_pictures import jpeg, photograph, rotated
from scripts.bench.machine import cores
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan

SIDE_PX = 224
LIMITS = DecodeLimits(max_bytes=20_000_000, timeout_s=60)
REPEATS = 3
RESTARTS = 20

Pixels = npt.NDArray[np.uint8]


def reference(data: bytes) -> Pixels:
    """Return what libjpeg-turbo with DCT scaling and Pillow's resize make of a JPEG: no checks, nothing turned."""
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft("RGB", (SIDE_PX, SIDE_PX))
        picture.load()
        short = min(picture.size)
        wide, high = (SIDE_PX if side == short else int(SIDE_PX * side / short) for side in picture.size)
        left, top = round((wide - SIDE_PX) / 2), round((high - SIDE_PX) / 2)
        resized = picture.resize((wide, high), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + SIDE_PX, top + SIDE_PX)))


def job(data: bytes, *rules: ViewRule, size_px: int = SIDE_PX) -> Job:
    """Return the work of one picture, its header read."""
    return Job(data, inspect(data, LIMITS), LIMITS, frozenset(rules), size_px, size_px, seed=0)


def decode_core_seconds(pictures: Sequence[bytes], *rules: ViewRule, size_px: int = SIDE_PX) -> float:
    """Return the processor seconds of a picture alone: header, decoding, views; in this thread, with nothing around it.

    Args:
        pictures: whole files; the mean over them.
        rules: views; the centre by default.
        size_px: side of the model's square.
    """
    wanted: tuple[ViewRule, ...] = rules or ("center",)
    taken = []
    for _ in range(REPEATS):
        start = time.thread_time()
        for data in pictures:
            prepare(job(data, *wanted, size_px=size_px), StageTimer(), None)
        taken.append((time.thread_time() - start) / len(pictures))
    return statistics.median(taken)


async def as_the_gateway(preparer: Preprocessor, threads: Executor, data: bytes, rule: ViewRule) -> float:
    """Return the seconds of one picture as a request has it.

    Of a large one the header is read, and the file hashed, in threads; the rest happens where ``preparer`` is.
    """
    start = time.perf_counter()
    if is_inspected_quickly(data):
        await preparer.prepare(job(data, rule), StageTimer())
    else:
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(threads, job, data, rule)
        digest = loop.run_in_executor(threads, sha256_of, data)
        await preparer.prepare(replace(await reading, hashed=False), StageTimer())
        await digest
    return time.perf_counter() - start


async def rate(preparer: Preprocessor, data: bytes, in_flight: int, seconds: float) -> float:
    """Return pictures a second."""
    asked, end = job(data, "center"), time.perf_counter() + seconds

    async def user() -> int:
        done = 0
        while time.perf_counter() < end:
            await preparer.prepare(asked, StageTimer())
            done += 1
        return done

    start = time.perf_counter()
    counts = await asyncio.gather(*(user() for _ in range(in_flight)))
    return sum(counts) / (time.perf_counter() - start)


def timed_reference(data: bytes) -> float:
    """Return the seconds of the reference."""
    start = time.perf_counter()
    reference(data)
    return time.perf_counter() - start


async def restart_s(pool: DecodePool, data: bytes) -> float:
    """Return the seconds from the death of all decoders to the next answer."""
    for forker in psutil.Process().children():
        for worker in forker.children():
            os.kill(worker.pid, signal.SIGKILL)
    start = time.perf_counter()
    await pool.prepare(job(data, "center"), StageTimer())
    return time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Decoding:
    """What decoding was measured to be, in seconds unless it says otherwise.

    Attributes:
        pictures: whole files by name.
        times: of a picture: ``reference``, ``center``, ``tiles``; by the picture's name, a figure a round.
        rates: pictures a second of a common JPEG: ``threads``, ``processes``; by how many were in flight.
        restarts_s: from the death of all decoders to the next answer.
        core_s: of one core, for a common JPEG alone.
    """

    pictures: dict[str, bytes]
    times: dict[str, dict[str, list[float]]]
    rates: dict[int, dict[str, list[float]]]
    restarts_s: list[float]
    core_s: float


def decoding(plan: Plan) -> Decoding:
    """Measure decoding against the reference, and processes against threads, in turns."""
    large, common = photograph(), photographs(1)[0]
    pictures = {
        "12 MP": jpeg(large),
        "12 MP, turned by EXIF": rotated(jpeg(large)),
        "12 MP, progressive": jpeg(large, progressive=True),
        "12 MP, 4:4:4": jpeg(large, quality=80, full=True),
        "640 x 480": common,
    }
    count = cores()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, ThreadPoolExecutor(count) as threads:

        async def pool() -> DecodePool:
            return DecodePool(count, ForkServer(most_memory=4 << 30, heic=False, fingerprint=False), 64, lambda _: None)

        made = runner.run(pool())
        both: dict[str, Preprocessor] = {"threads": DecodeThreads(threads, None), "processes": made}

        def one(data: bytes, rule: ViewRule) -> float:
            return runner.run(as_the_gateway(made, threads, data, rule))

        times = {}
        for name, data in pictures.items():
            sides = {
                "reference": partial(timed_reference, data),
                "center": partial(one, data, "center"),
                "tiles": partial(one, data, "tiles"),
            }
            for side in sides.values():
                side()
            times[name] = alternate(sides, max(plan.rounds, 5) * REPEATS)
        rates = {
            in_flight: alternate(
                {
                    side: partial(_run_rate, runner, who, common, in_flight, plan.seconds / 4)
                    for side, who in both.items()
                },
                plan.rounds,
            )
            for in_flight in (1, count)
        }
        restarts = [runner.run(restart_s(made, common)) for _ in range(RESTARTS)]
        runner.run(made.close())
    return Decoding(pictures, times, rates, restarts, decode_core_seconds(photographs()))


def _run_rate(runner: asyncio.Runner, preparer: Preprocessor, data: bytes, in_flight: int, seconds: float) -> float:
    return runner.run(rate(preparer, data, in_flight, seconds))
