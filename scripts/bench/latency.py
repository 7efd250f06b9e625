"""How long answers take below saturation: uploads that arrive by the clock, evenly or as a Poisson process."""

from __future__ import annotations

import asyncio
import statistics
from functools import partial

from scripts.bench import client
from scripts.bench.alternate import alternate
from scripts.bench.gateway import SATURATION, classification, through_rest
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.report import Section, Table, Target
from scripts.bench.stack import stack

LOAD = 0.7
LOADS = (0.1, 0.4, LOAD)
MOST = 2.5


def measure(plan: Plan) -> Section:
    """Find the throughput at saturation, then measure at shares of it in turns."""
    requests = [classification(picture) for picture in photographs()]
    with stack(plan.model, plan.precision, plan.device, {"LOG_LEVEL": "info"}) as running:
        address = (running.host, running.port)
        through_rest(running, requests, SATURATION, plan.seconds)
        rates = [through_rest(running, requests, SATURATION, 3 * plan.seconds).rate for _ in range(3)]
        full = statistics.median(rates)

        def arriving(share: float, *, poisson: bool) -> client.Load:
            long = plan.seconds if share < LOAD else 3 * plan.seconds
            load = asyncio.run(client.open_loop(address, requests, share * full, long, poisson=poisson))
            if set(load.statuses) != {200}:
                raise RuntimeError(f"answers other than 200: {load.statuses}")
            return load

        sides = {f"{share:.0%}, even": partial(arriving, share, poisson=False) for share in LOADS}
        sides[f"{LOAD:.0%}, Poisson"] = partial(arriving, LOAD, poisson=True)
        found = alternate(sides, plan.rounds)
    rows, ratios = [], {}
    for name, loads in found.items():
        ratios[name] = statistics.median(load.percentile(0.99) / load.percentile(0.5) for load in loads)
        times = [statistics.median(load.percentile(share) for load in loads) * 1e3 for share in (0.5, 0.9, 0.99)]
        rows.append((name, *(f"{value:.0f}" for value in times), f"{ratios[name]:.2f}"))
    even = ratios[f"{LOAD:.0%}, even"]
    return Section(
        "Latency",
        (
            Target(
                f"p99 of the median at {LOAD:.0%} load, even arrivals", f"at most {MOST}", f"{even:.2f}", even <= MOST
            ),
        ),
        (Table(("load, arrivals", "median, ms", "p90, ms", "p99, ms", "p99 / median"), tuple(rows)),),
        (
            f"REST uploads, JPEG 640 x 480, five labels; {full:.1f} pictures/s are full load ({SATURATION} in flight).",
            "A latency counts from the moment the request was due.",
        ),
        {f"p50_ms_{name}": float(row[1]) for name, row in zip(found, rows, strict=True)},
    )
