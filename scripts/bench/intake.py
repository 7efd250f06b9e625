"""Intake: large pictures decoded and cut, what that changes, 32 pictures in one request, what isolation costs."""

from __future__ import annotations

import os
import statistics

from scripts.bench.alternate import medians, ratio
from scripts.bench.batches import TOGETHER, together
from scripts.bench.decoding import RESTARTS, SIDE_PX, Decoding, decoding
from scripts.bench.plan import Plan
from scripts.bench.report import Section, Table, Target
from scripts.bench.shrinking import Changes, changes
from scripts.bench.stack import stack

MOST_TIMES, MOST_COSINE, MOST_SLOWER = 1.5, 0.005, 1.0


def measure(plan: Plan) -> Section:
    """Measure decoding, batches against single requests, and what the smaller decoding changes."""
    decoded = decoding(plan)
    against, targets = against_the_reference(decoded)
    batches = {}
    for model in ("demo", plan.model) if plan.model != "demo" else ("demo",):
        kept = ("fp32", "cpu") if model == "demo" else (plan.precision, plan.device)
        with stack(model, *kept) as running:
            batches[model] = together(running, plan)
    one_request, no_slower = in_one_request(batches)
    changed, unchanged = after_shrinking(changes(plan))
    alone = f"{decoded.core_s * 1e3:.2f} ms of one core for a 640 x 480 JPEG"
    back = (
        f"median {statistics.median(decoded.restarts_s) * 1e3:.0f} ms, slowest {max(decoded.restarts_s) * 1e3:.0f} ms"
    )
    notes = (
        "The reference is Pillow's `Image.open`, `draft`, `load`, bicubic `resize` and `crop`, in one thread.",
        "The gateway's time is that of one picture by itself: header, isolation process, SHA-256, views.",
        f"Decoding alone (header, decoding, centre view at {SIDE_PX} px, no process between) takes {alone}.",
        f"From the death of all decoding processes to the next answer: {back}, of {RESTARTS}.",
        "With perceptual hashes (the extra pdq) moderation decodes in full: 4 of a hash's 256 bits changed without.",
    )
    return Section(
        "Intake",
        (*targets, *no_slower, *unchanged),
        (against, with_processes(decoded), one_request, changed),
        notes,
        {"decode_core_s": decoded.core_s, "cores": float(len(os.sched_getaffinity(0)))},
    )


def against_the_reference(decoded: Decoding) -> tuple[Table, list[Target]]:
    """Return how long pictures take, and how many times the reference that is."""
    rows, targets = [], []
    for name, found in decoded.times.items():
        times, tiled = ratio(found, "center", "reference"), ratio(found, "tiles", "reference")
        middle = {side: f"{value * 1e3:.1f}" for side, value in medians(found).items()}
        size = f"{len(decoded.pictures[name]) / 1e6:.2f} MB"
        rows.append((f"{name}, {size}", *middle.values(), f"{times:.2f}", f"{tiled:.2f}"))
        if name.startswith("12 MP"):
            bound = f"at most {MOST_TIMES}"
            targets.append(Target(f"{name} JPEG of the reference", bound, f"{times:.2f}", times <= MOST_TIMES))
    header = ("JPEG", "reference, ms", "centre, ms", "full and tiles, ms", "centre / ref.", "tiles / ref.")
    return Table(header, tuple(rows)), targets


def with_processes(decoded: Decoding) -> Table:
    """Return what processes give beside threads."""
    rows = []
    for in_flight, found in decoded.rates.items():
        middle = {side: f"{value:.1f}" for side, value in medians(found).items()}
        rows.append((str(in_flight), *middle.values(), f"{ratio(found, 'processes', 'threads'):.2f}"))
    header = ("640 x 480 in flight", "threads, pictures/s", "processes, pictures/s", "processes / threads")
    return Table(header, tuple(rows))


def in_one_request(batches: dict[str, dict[str, list[float]]]) -> tuple[Table, list[Target]]:
    """Return how long many pictures take in one request and in many, by model."""
    rows, targets = [], []
    for model, found in batches.items():
        middle, times = medians(found), ratio(found, "one", "several")
        rows.append((model, f"{middle['one'] * 1e3:.0f}", f"{middle['several'] * 1e3:.0f}", f"{times:.2f}"))
        name = f"{TOGETHER} in one request of {TOGETHER} single ones, {model}"
        targets.append(Target(name, "at most 1", f"{times:.2f}", times <= MOST_SLOWER))
    header = ("model", f"{TOGETHER} in one request, ms", f"{TOGETHER} requests at once, ms", f"one / {TOGETHER}")
    return Table(header, tuple(rows)), targets


def after_shrinking(made: Changes) -> tuple[Table, tuple[Target, ...]]:
    """Return what decoding at a fraction of the size changes."""
    rows = tuple(
        (
            one.model,
            f"{one.pictures}, {one.views} views",
            f"{one.level:.2f}",
            f"{one.lost.mean():.5f}",
            f"{one.lost.max():.5f}",
        )
        for one in made.found
    )
    worst = max(float(one.lost.max()) for one in made.found)
    targets = (
        Target("cosine changed against full decoding", f"at most {MOST_COSINE}", f"{worst:.5f}", worst <= MOST_COSINE),
        Target("decisions changed of the demo policy", "none", f"{made.flipped} of {made.judged}", made.flipped == 0),
    )
    return Table(("model", "12 MP JPEG", "levels of 255, rms", "1 - cosine, mean", "most"), rows), targets
