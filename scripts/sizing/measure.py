"""``python -m scripts.sizing.measure``: service times of a stack's parts, and its latency curve, in one run.

Service times come from each part by itself: the encoder alone by batch, ready tensors at an idle Triton, processor time
of gateway, decoders and Triton a picture. The curve is what clients see at each load. Steps take turns, so that what
else the machine does meets all of them; a step in which others took more than ``--foreign`` of the cores is measured
again in the next round. What is found goes to ``measured.json``, which the simulation reads.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime as dt
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
import psutil

from gateway.inference.bundle import read_manifest
from scripts.bench import alone, bare, client
from scripts.bench.encoder import exported
from scripts.bench.gateway import classification
from scripts.bench.machine import Stolen, cores, machine
from scripts.bench.pictures import photographs
from scripts.bench.processes import spent
from scripts.bench.stack import Stack, stack
from scripts.export.record import image_sizing
from scripts.sizing.model import MEASURED

IN_FLIGHT = (1, 2, 4, 8, 16, 32, 64)
SHARES = (0.4, 0.6, 0.8)
"""Loads of the curve: requests kept in flight, and Poisson arrivals as shares of the throughput at saturation."""

FULL = f"closed {IN_FLIGHT[-2]}"
ENCODER_S, LEVEL_S, OPEN_S = 0.8, 3.0, 10.0
COUNTED_IN_FLIGHT = 16
LATER = 0.2
"""Of a level's answers, the first that do not count: at the start all requests come at once."""


class Others:
    """What other programs use of the cores, counted from when this is made.

    Args:
        ours: process above all that is measured; this process counts as ours too.
    """

    def __init__(self, ours: int) -> None:
        self._ours, self._start, self._stolen = ours, time.monotonic(), Stolen()
        self._before = self._used()

    def share(self) -> float:
        """Return the part of the time of all processors that others and the machine's host took, 0.0 to 1.0."""
        passed = (time.monotonic() - self._start) * cores()
        return max(0.0, (self._used() - self._before) / passed) + self._stolen.share()

    def _used(self) -> float:
        first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
        busy = sum(int(first[place]) for place in (0, 1, 2, 5, 6)) / os.sysconf("SC_CLK_TCK")  # user to softirq
        own = psutil.Process().cpu_times()
        return busy - sum(spent(self._ours).values()) - sum(own[:4])


def steps(running: Stack, capacity: Callable[[], float]) -> Iterator[tuple[str, Callable[[], dict[str, float]]]]:
    """Yield the name and the measurement of every step of a round.

    Args:
        running: stack that is measured.
        capacity: pictures a second at saturation, once that is known.
    """
    side = read_manifest(running.repository).image.size_px
    served = image_sizing(running.repository)
    requests = [classification(picture) for picture in photographs()]
    triton, rest = f"{running.host}:{running.grpc_port}", (running.host, running.port)

    def encoder(processes: int, threads: int, batch: int) -> dict[str, float]:
        found = alone.encoder(running.repository, alone.Setting(processes, threads, batch), ENCODER_S)
        return {"batch_s": processes * batch / found.rate, "core_s": found.core_s * batch}

    def tensors(rows: int) -> dict[str, float]:
        load = asyncio.run(bare.closed_loop(triton, bare.message(side, rows), 1, ENCODER_S))
        return {"batch_s": statistics.median(load.latencies_s)}

    def counted() -> dict[str, float]:
        before = spent(running.pid)
        load = asyncio.run(client.closed_loop(rest, requests, COUNTED_IN_FLIGHT, LEVEL_S, warm=COUNTED_IN_FLIGHT))
        after, pictures = spent(running.pid), len(load.latencies_s) + load.warm
        cost = {kind: (after[kind] - before.get(kind, 0.0)) / pictures for kind in after}
        return cost | {"client": load.client_s / len(load.latencies_s)}

    def closed(in_flight: int) -> dict[str, float]:
        return told(asyncio.run(client.closed_loop(rest, requests, in_flight, LEVEL_S, warm=in_flight)))

    def opened(share: float) -> dict[str, float]:
        rate = round(share * capacity(), 1)
        load = asyncio.run(client.open_loop(rest, requests, rate, OPEN_S, poisson=True))
        return told(load) | {"offered": rate}

    most = served.max_batch
    for batch in sorted({1, 2, max(1, most // 2), most}):
        yield (
            f"encoder {served.instances} x {served.threads}, {batch}",
            partial(encoder, served.instances, served.threads, batch),
        )
        yield f"triton {batch}", partial(tensors, batch)
        if batch in {1, most}:
            yield f"encoder 1 x {cores()}, {batch}", partial(encoder, 1, cores(), batch)
    yield "counted", counted
    for number in IN_FLIGHT:
        yield f"closed {number}", partial(closed, number)
    for share in SHARES:
        yield f"poisson {share:.0%}", partial(opened, share)


def told(load: client.Load) -> dict[str, float]:
    """Return a level's throughput and percentiles, of the answers after the first fifth."""
    if set(load.statuses) != {client.OK}:
        raise RuntimeError(f"answers other than 200: {load.statuses}")
    begin = LATER * load.asked_s
    later = sorted(took for took, end in zip(load.latencies_s, load.ended_s, strict=True) if end > begin)
    return {"rate": load.rate, "p50_s": later[len(later) // 2], "p95_s": later[int(0.95 * len(later))]}


@contextmanager
def stopped(running: Stack, *, when: bool) -> Iterator[None]:
    """Suspend a stack's processes for the block, where asked to."""
    tree = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)] if when else []
    for process in tree:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(tree):
            process.resume()


def wait_until_quiet(ours: int, share: float, until: float) -> None:
    """Wait for a second in which others used no more than a share of the cores, or until a time is reached."""
    while time.monotonic() < until:
        others = Others(ours)
        time.sleep(1.0)
        if others.share() <= share:
            return


def main() -> int:
    """Measure rounds until there are enough or the time is up; write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="random:ViT-B/32")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=330.0, help="of measuring, after which no further step begins")
    parser.add_argument("--patience", type=float, default=1200.0, help="seconds by the clock, waiting included")
    parser.add_argument("--foreign", type=float, default=0.12, help="share of the cores that others may use in a step")
    parser.add_argument("--out", type=Path, default=MEASURED)
    given = parser.parse_args()
    exported(given.model, given.precision, "cpu")
    found: dict[str, list[dict[str, float]]] = {}
    rejected, busy_s, end = 0, 0.0, time.monotonic() + given.patience

    def capacity() -> float:
        return statistics.median(one["rate"] for one in found[FULL])

    with stack(given.model, given.precision, "cpu", {"MAX_REQUESTS_IN_FLIGHT": "512"}) as running:
        sizing = dataclasses.asdict(image_sizing(running.repository))
        for _ in range(given.rounds + 2):
            for name, step in steps(running, capacity):
                wanted = len(found.setdefault(name, [])) < given.rounds
                if not wanted or busy_s > given.seconds or (name.startswith("poisson") and not found[FULL]):
                    continue
                wait_until_quiet(running.pid, given.foreign, end)
                others, start = Others(running.pid), time.monotonic()
                try:
                    with stopped(running, when=name.startswith("encoder")):
                        one = step()
                except (grpc.aio.AioRpcError, OSError) as error:  # a connection that did not outlive the suspension
                    print(name, error.__class__.__name__, file=sys.stderr, flush=True)
                    rejected += 1
                    continue
                one["others"] = others.share()
                busy_s += time.monotonic() - start
                print(f"{busy_s:5.0f} s", name, one, file=sys.stderr, flush=True)
                if one["others"] <= given.foreign:
                    found[name].append(one)
                else:
                    rejected += 1
    kept = {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": machine(),
        "model": given.model,
        "precision": given.precision,
        "cores": cores(),
        "picture": "JPEG 640 x 480",
        "sizing": sizing,
        "rejected_steps": rejected,
        "steps": {name: medians(several) for name, several in found.items() if several},
    }
    given.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 0


def medians(several: list[dict[str, float]]) -> dict[str, float]:
    """Return the medians of a step's figures over its rounds, and how many rounds there were."""
    middle = {key: round(statistics.median(one[key] for one in several), 6) for key in several[0]}
    return middle | {"rounds": len(several)}


if __name__ == "__main__":
    sys.exit(main())
