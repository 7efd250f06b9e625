"""Intake: large pictures decoded and cut, what that changes, 32 pictures in one request, what isolation costs."""

from __future__ import annotations

import asyncio
import io
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import uvloop
from PIL import Image

from gateway.bundle import read_manifest
from gateway.decode import DecodeLimits, inspect
from gateway.decode_forker import Forker
from gateway.decode_pool import DecodePool
from gateway.decode_threads import DecodeThreads
from gateway.prepare import Job, Preparer, prepare
from gateway.stopwatch import Stopwatch
from gateway.verdicts import verdict_of
from gateway.views import ViewRule, cut_views
from scripts.bench.alternate import alternate, medians, ratio
from scripts.bench.client import Connection, upload
from scripts.bench.machine import cores
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.report import ROOT, Section, Table, Target
from scripts.bench.stack import Stack, repository_of, stack

SIDE_PX = 224
LIMITS = DecodeLimits(max_bytes=20_000_000, timeout_s=60)
LARGE, COMMON = (4000, 3000), (640, 480)
MOST_TIMES, MOST_COSINE, MOST_SLOWER = 1.5, 0.005, 1.0
PHOTOGRAPHS = ROOT.parent / "shared" / "golden" / "photos"
DRAWINGS = 24
TOGETHER = 32
REPEATS = 3
SETTLED = 5
"""Percent that two medians of the same thing differ by here."""

Pixels = npt.NDArray[np.uint8]


def photograph(size: tuple[int, int] = LARGE, seed: int = 1) -> Image.Image:
    """Return a picture with the spectrum of a photograph (amplitude falls as frequency to the 1.15) and fine grain."""
    rng = np.random.default_rng(seed)
    width, height = size
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = 1 / np.maximum(np.hypot(down, across), 2 / max(size)) ** 1.15
    planes = []
    for _ in range(3):
        plane = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * falloff, s=(height, width))
        planes.append((plane - plane.mean()) / plane.std())
    light = 128 + 50 * planes[0] + rng.normal(0, 1.5, (height, width))
    blue, red = 20 * planes[1], 20 * planes[2]
    rgb = np.stack([light + 1.4 * red, light - 0.34 * blue - 0.71 * red, light + 1.77 * blue], axis=-1)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def jpeg(picture: Image.Image, *, quality: int = 86, progressive: bool = False, full: bool = False) -> bytes:
    """Return a JPEG; ``full``: colour in every pixel (4:4:4)."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, progressive=progressive, subsampling=0 if full else 2)
    return out.getvalue()


def rotated(data: bytes) -> bytes:
    """Return a JPEG that is to be turned by its EXIF orientation."""
    block = Image.Exif()
    block[0x0112] = 6
    body = block.tobytes()
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


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
            prepare(job(data, *wanted, size_px=size_px), Stopwatch(), None)
        taken.append((time.thread_time() - start) / len(pictures))
    return statistics.median(taken)


async def as_the_gateway(preparer: Preparer, threads: Executor, data: bytes, rule: ViewRule) -> float:
    """Return the seconds of one picture as a request has it: header in a thread, the rest where ``preparer`` is."""
    start = time.perf_counter()
    asked = await asyncio.get_running_loop().run_in_executor(threads, job, data, rule)
    await preparer.prepare(asked, Stopwatch())
    return time.perf_counter() - start


async def rate(preparer: Preparer, data: bytes, in_flight: int, seconds: float) -> float:
    """Return pictures a second."""
    asked, end = job(data, "center"), time.perf_counter() + seconds

    async def user() -> int:
        done = 0
        while time.perf_counter() < end:
            await preparer.prepare(asked, Stopwatch())
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


@dataclass(frozen=True, slots=True)
class Decoding:
    """What decoding was measured to be: the tables, the targets, and core-seconds a common picture."""

    tables: tuple[Table, ...]
    targets: tuple[Target, ...]
    core_s: float


def decoding(plan: Plan) -> Decoding:
    """Measure decoding against the reference, and processes against threads, in turns."""
    large, common = photograph(), photographs(1)[0]
    kinds = {
        "12 MP": jpeg(large),
        "12 MP, turned by EXIF": rotated(jpeg(large)),
        "12 MP, progressive": jpeg(large, progressive=True),
        "12 MP, 4:4:4": jpeg(large, quality=80, full=True),
        "640 x 480": common,
    }
    count = cores()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, ThreadPoolExecutor(count) as threads:

        async def pool() -> DecodePool:
            return DecodePool(count, Forker(most_memory=4 << 30, heic=False, fingerprint=False), 64, lambda _: None)

        made = runner.run(pool())
        both: dict[str, Preparer] = {"threads": DecodeThreads(threads, None), "processes": made}

        def one(data: bytes, rule: ViewRule) -> float:
            return runner.run(as_the_gateway(made, threads, data, rule))

        rows, targets = [], []
        for name, data in kinds.items():
            sides = {
                "reference": partial(timed_reference, data),
                "center": partial(one, data, "center"),
                "tiles": partial(one, data, "tiles"),
            }
            for side in sides.values():
                side()
            found = alternate(sides, max(plan.rounds, 5) * REPEATS)
            times, tiled = ratio(found, "center", "reference"), ratio(found, "tiles", "reference")
            middle = {side: f"{value * 1e3:.1f}" for side, value in medians(found).items()}
            rows.append((f"{name}, {len(data) / 1e6:.2f} MB", *middle.values(), f"{times:.2f}", f"{tiled:.2f}"))
            if name.startswith("12 MP"):
                bound = f"at most {MOST_TIMES}"
                targets.append(Target(f"{name} JPEG of the reference", bound, f"{times:.2f}", times <= MOST_TIMES))
        shares = []
        for in_flight in (1, count):
            found = alternate(
                {
                    side: partial(_run_rate, runner, who, common, in_flight, plan.seconds / 4)
                    for side, who in both.items()
                },
                plan.rounds,
            )
            middle = {side: f"{value:.1f}" for side, value in medians(found).items()}
            shares.append((str(in_flight), *middle.values(), f"{ratio(found, 'processes', 'threads'):.2f}"))
        runner.run(made.close())
    core_s = decode_core_seconds(photographs())
    tables = (
        Table(
            ("JPEG", "reference, ms", "centre, ms", "full and tiles, ms", "centre / ref.", "tiles / ref."), tuple(rows)
        ),
        Table(
            ("640 x 480 in flight", "threads, pictures/s", "processes, pictures/s", "processes / threads"),
            tuple(shares),
        ),
    )
    return Decoding(tables, tuple(targets), core_s)


def _run_rate(runner: asyncio.Runner, preparer: Preparer, data: bytes, in_flight: int, seconds: float) -> float:
    return runner.run(rate(preparer, data, in_flight, seconds))


def large_photographs() -> list[bytes]:
    """Return photographs at 12 megapixels: golden ones enlarged, with a camera's grain, and a mosaic in their own size.

    Where they are absent, pictures with the spectrum of photographs.
    """
    found = [Image.open(path).convert("RGB") for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    if not found:
        return [jpeg(photograph(seed=seed), quality=90) for seed in range(4)]
    made = []
    for small in found:
        size = LARGE if small.width > small.height else LARGE[::-1]
        large = np.asarray(small.resize(size, Image.Resampling.LANCZOS)).astype(np.float32)
        large += np.random.default_rng(1).normal(0, 3, (*large.shape[:2], 1)).astype(np.float32)
        made.append(Image.fromarray(np.clip(large, 0, 255).astype(np.uint8)))
    mosaic = Image.new("RGB", LARGE)
    for number in range((LARGE[0] // 250) * (LARGE[1] // 250)):
        across, down = number % (LARGE[0] // 250), number // (LARGE[0] // 250)
        mosaic.paste(found[number % len(found)].crop((0, 0, 250, 250)), (250 * across, 250 * down))
    return [jpeg(one, quality=90) for one in (*made, mosaic)]


def large_drawings() -> list[bytes]:
    """Return drawings of the demo's scenarios at 12 megapixels."""
    from scripts.demo.measure_policy import scenes
    from scripts.demo.world import draw

    made = []
    for number, scene in enumerate(scenes(np.random.default_rng(5), DRAWINGS)):
        drawn = draw(scene, (640, 480), np.random.default_rng(number))
        made.append(jpeg(drawn.resize(LARGE, Image.Resampling.LANCZOS), quality=90))
    return made


def views_of(data: bytes, size_px: int) -> tuple[Pixels, Pixels, Job]:
    """Return the full view and the tiles as the gateway makes them, and as every pixel gives them."""
    asked = job(data, "tiles", size_px=size_px)
    made = prepare(asked, Stopwatch(), None).pixels
    with Image.open(io.BytesIO(data)) as whole:
        cut = cut_views(whole.convert("RGB"), "tiles", size_px=size_px, resize_px=size_px)
    return made, np.stack([view.pixels for view in cut]), asked


def encoded(repository: Path, rows: Pixels) -> npt.NDArray[np.float32]:
    """Return the unit vectors [N, D] that a bundle's image model gives."""
    import torch

    path = repository / "clip_image" / "1" / "model.pt"
    model = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        found: npt.NDArray[np.float32] = np.concatenate(
            [model(torch.from_numpy(rows[start : start + 8])).numpy() for start in range(0, len(rows), 8)]
        )
    return found


def changes(plan: Plan) -> tuple[Table, tuple[Target, ...]]:
    """Compare with full decoding: pixels, vectors of the demo model and of the plan's; the demo policy's decisions."""
    from scripts.demo.measure_policy import bound
    from scripts.demo.model import Demo

    rows, targets, worst, flipped, judged = [], [], 0.0, 0, 0
    demo = Demo.load()
    policy = bound(demo)
    models = {"demo": "cpu", **({plan.model: plan.device} if plan.precision == "fp32" else {})}
    for model, device in models.items():
        repository = repository_of(model, "fp32", device)
        size_px = read_manifest(repository).image.size_px
        for kind, pictures in (("photographs", large_photographs()), ("drawings", large_drawings())):
            pairs = [views_of(data, size_px)[:2] for data in pictures]
            ours, whole = (np.concatenate(side) for side in zip(*pairs, strict=True))
            level = float(np.sqrt(((ours.astype(np.float32) - whole) ** 2).mean()))
            near, far = encoded(repository, ours), encoded(repository, whole)
            lost = 1 - (near * far).sum(axis=1)
            worst = max(worst, float(lost.max()))
            cells = (f"{level:.2f}", f"{lost.mean():.5f}", f"{lost.max():.5f}")
            rows.append((model, f"{len(pictures)} {kind}, {len(ours)} views", *cells))
            if model != "demo":
                continue
            ends = np.cumsum([len(pair[0]) for pair in pairs])
            for end, (made, _), data in zip(ends, pairs, pictures, strict=True):
                places = prepare(job(data, "tiles", size_px=size_px), Stopwatch(), None).places
                verdicts = [verdict_of(policy, side[end - len(made) : end], places, demo.scale) for side in (near, far)]
                flipped += verdicts[0].decision != verdicts[1].decision
                judged += 1
    bounds = f"at most {MOST_COSINE}"
    targets = [
        Target("cosine changed against full decoding", bounds, f"{worst:.5f}", worst <= MOST_COSINE),
        Target("decisions changed of the demo policy", "none", f"{flipped} of {judged}", flipped == 0),
    ]
    header = ("model", "12 MP JPEG", "levels of 255, rms", "1 - cosine, mean", "most")
    return Table(header, tuple(rows)), tuple(targets)


async def _until_all_answered(address: tuple[str, int], requests: Sequence[bytes]) -> float:
    """Return the seconds until every one of some requests, sent at once over open connections, is answered."""
    loop = asyncio.get_running_loop()
    open_ = [(await loop.create_connection(Connection, *address))[1] for _ in requests]
    start = time.perf_counter()
    statuses = await asyncio.gather(*(one.ask(request) for one, request in zip(open_, requests, strict=True)))
    elapsed = time.perf_counter() - start
    for one in open_:
        one.close()
    if set(statuses) != {200}:
        raise RuntimeError(f"answers of status {sorted(set(statuses))}")
    return elapsed


def together(running: Stack, plan: Plan) -> dict[str, list[float]]:
    """Measure, in turns, 32 pictures in one request and in 32 that are in flight at once, small and large ones."""
    address = (running.host, running.port)
    labels = [("labels", "a cat"), ("labels", "a dog")]
    pictures = photographs(TOGETHER)
    one = [upload("/v1/classify", pictures, labels)]
    several = [upload("/v1/classify", [picture], labels) for picture in pictures]

    def ask(requests: Sequence[bytes]) -> float:
        return asyncio.run(_until_all_answered(address, requests))

    sides = {"one": partial(ask, one), "several": partial(ask, several)}
    for _ in range(2):
        for side in sides.values():
            side()
    return alternate(sides, max(plan.rounds, 5) * REPEATS)


def measure(plan: Plan) -> Section:
    """Measure decoding, batches against single requests, and what the smaller decoding changes."""
    decoded = decoding(plan)
    rows, targets = [], list(decoded.targets)
    for model in ("demo", plan.model) if plan.model != "demo" else ("demo",):
        kept = ("fp32", "cpu") if model == "demo" else (plan.precision, plan.device)
        with stack(model, *kept) as running:
            found = together(running, plan)
        middle, times = medians(found), ratio(found, "one", "several")
        rows.append((model, f"{middle['one'] * 1e3:.0f}", f"{middle['several'] * 1e3:.0f}", f"{times:.2f}"))
        targets.append(
            Target(f"32 in one request of 32 single ones, {model}", "at most 1", f"{times:.2f}", times <= MOST_SLOWER)
        )
    table, unchanged = changes(plan)
    header = ("model", "32 in one request, ms", "32 requests at once, ms", "one / 32")
    alone = f"{decoded.core_s * 1e3:.2f} ms of one core for a 640 x 480 JPEG"
    notes = (
        "The reference is Pillow's `Image.open`, `draft`, `load`, bicubic `resize` and `crop`, in one thread.",
        "The gateway's time is that of one picture by itself: header, isolation process, SHA-256, views.",
        f"Decoding alone (header, decoding, centre view at {SIDE_PX} px, no process between) takes {alone}.",
        "With perceptual hashes (the extra pdq) moderation decodes in full: 4 of a hash's 256 bits changed without.",
    )
    return Section(
        "Intake",
        (*targets, *unchanged),
        (*decoded.tables, Table(header, tuple(rows)), table),
        notes,
        {"decode_core_s": decoded.core_s, "cores": float(len(os.sched_getaffinity(0)))},
    )
