"""What goes over the wire between gateway and Triton: bytes, copies, and whether more connections help."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

import numpy as np

from gateway.inference.bundle import IMAGE_MODEL, read_manifest
from gateway.inference.triton import inference
from scripts.bench import bare
from scripts.bench.alternate import alternate
from scripts.bench.client import Load
from scripts.bench.plan import Plan
from scripts.bench.report import Section, Table
from scripts.bench.stack import stack

CHANNELS = (1, 2, 4)
IN_FLIGHT = 64
BUILDS = 300
DEMO = "demo"  # small and quick, so that the wire is what is measured


def microseconds(work: Callable[[], object]) -> float:
    """Return the median time of one call."""
    times = []
    for _ in range(BUILDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def measure(plan: Plan) -> Section:
    """Measure channels in turns on the plan's model and on a small one, and how long a message takes to build."""
    rows = []
    for model in (plan.model, DEMO):
        with stack(model, plan.precision, plan.device) as running:
            side = read_manifest(running.repository).image.size_px
            sent, address = bare.message(side), f"{running.host}:{running.grpc_port}"

            def through(channels: int, address: str = address, sent: bytes = sent) -> Load:
                return asyncio.run(bare.closed_loop(address, sent, IN_FLIGHT, 2 * plan.seconds, channels))

            found = alternate({str(n): (lambda n=n, ask=through: ask(n)) for n in CHANNELS}, plan.rounds)  # type: ignore[misc]
        for name, loads in found.items():
            rate = statistics.median(load.rate for load in loads)
            cost = statistics.median(load.client_s / len(load.latencies_s) for load in loads) * 1e3
            rows.append((model, name, f"{rate:.1f}", f"{cost:.2f}", f"{len(sent):,}"))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    built_us = microseconds(lambda: inference(IMAGE_MODEL, "pixels", pixels, 10.0).SerializeToString())
    copies = (
        f"A picture of 224 x 224 is {pixels.nbytes:,} bytes as uint8 and {4 * pixels.nbytes:,} as fp32. Its message is "
        f"built in {built_us:.0f} µs, with three copies of the pixels; gRPC copies it once more into its own buffers. "
        "Shared memory would save that and the socket, and is left alone: it is where the server's holes were."
    )
    notes = (f"{IN_FLIGHT} ready tensors in flight over one connection or several. The gateway keeps one.", copies)
    return Section(
        "Wire",
        tables=(Table(("model", "channels", "pictures/s", "client, ms a picture", "bytes a request"), tuple(rows)),),
        notes=notes,
    )
