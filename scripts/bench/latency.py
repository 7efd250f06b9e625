"""How long answers take below saturation: uploads that arrive by the clock, evenly or as a Poisson process."""

from __future__ import annotations

import asyncio
import statistics
from functools import partial

from scripts.bench import client
from scripts.bench.alternate import alternate
from scripts.bench.gateway import SATURATION, classification, through_rest
from scripts.bench.machine import Stolen
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.report import Section, Table, Target
from scripts.bench.stack import stack

LOAD = 0.7
LOADS = (0.1, 0.4, LOAD)
MOST = 2.5


def measure(plan: Plan) -> Section:
    """Measure at shares of the throughput at saturation, in turns.

    That is measured anew before each, since a machine that slows down by a third meanwhile would be overloaded by 70 %
    of what it could before.
    """
    requests = [classification(picture) for picture in photographs()]
    with stack(plan.model, plan.precision, plan.device, {"LOG_LEVEL": "info"}) as running:
        address = (running.host, running.port)
        through_rest(running, requests, SATURATION, plan.seconds)
        rates: list[float] = []
        turns: list[tuple[str, ...]] = []

        def arriving(share: float, *, poisson: bool) -> client.Load:
            rates.append(through_rest(running, requests, SATURATION, 2 * plan.seconds).rate)
            long = plan.seconds if share < LOAD else 3 * plan.seconds
            stolen = Stolen()
            load = asyncio.run(client.open_loop(address, requests, share * rates[-1], long, poisson=poisson))
            if set(load.statuses) != {200}:
                raise RuntimeError(f"answers other than 200: {load.statuses}")
            if share == LOAD and not poisson:
                late = load.percentile(0.99) / load.percentile(0.5)
                turns.append((str(len(turns) + 1), f"{rates[-1]:.1f}", f"{late:.2f}", f"{stolen.share():.1%}"))
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
        (
            Table(("load, arrivals", "median, ms", "p90, ms", "p99, ms", "p99 / median"), tuple(rows)),
            Table(
                (f"turn of {LOAD:.0%}, even", "full load before, pictures/s", "p99 / median", "taken by the host"),
                tuple(turns),
            ),
        ),
        (
            (
                f"REST uploads, JPEG 640 x 480, five labels. Full load ({SATURATION} in flight), measured before each "
                f"turn: {min(rates):.1f} to {max(rates):.1f} pictures/s."
            ),
            "A latency counts from the moment the request was due.",
        ),
        {f"p50_ms_{name}": float(row[1]) for name, row in zip(found, rows, strict=True)},
    )
