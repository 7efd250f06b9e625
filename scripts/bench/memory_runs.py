"""The loads under which memory is watched: large uploads at a time, and a long run of mixed ones."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from gateway.store.migrate import open_database
from scripts.bench.client import Connection, closed_loop, upload
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.resident import Held, Watched, Weights, file_pages, listener, look, rollup, weights
from scripts.bench.stack import Stack, stack

IN_FLIGHT = 64
SAMPLE_S = 0.03
LARGE = ((4000, 3000), 87)  # 12 megapixels, 4 MB
SETTLE_S = 3.0
FIELDS = (("labels", "a photo of a cat"), ("labels", "a photo of a dog"))

LONG_IN_FLIGHT = 16
LARGE_EVERY = 100


@contextmanager
def started(model: str, plan: Plan) -> Iterator[Stack]:
    """Run a stack whose database has its tables already, as at every start but the first."""
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{folder}/gateway.sqlite"
        asyncio.run(_make_tables(database))
        with stack(model, plan.precision, plan.device, {"DATABASE_URL": database, "UPLOAD_WAIT_S": "60"}) as running:
            time.sleep(SETTLE_S)
            yield running


async def _make_tables(database: str) -> None:
    opened = await open_database(database, timeout_s=30)
    await opened.close()


@dataclass(slots=True)
class LongRun:
    """A number of requests over a few connections.

    Attributes:
        answered: so far.
        statuses: how many answers had which status.
    """

    answered: int
    statuses: Counter[int]

    async def send(self, address: tuple[str, int], requests: Iterator[bytes], count: int) -> None:
        """Send ``count`` requests, ``LONG_IN_FLIGHT`` at a time."""

        async def user() -> None:
            connection = Connection()
            for request in requests:
                if not connection.open:
                    _, connection = await asyncio.get_running_loop().create_connection(Connection, *address)
                self.statuses[await connection.ask(request)] += 1
                self.answered += 1
            connection.close()

        requests = itertools.islice(requests, count)
        await asyncio.gather(*(user() for _ in range(LONG_IN_FLIGHT)))


def mixed() -> Iterator[bytes]:
    """Yield uploads for ever: 640 x 480, and one of ``LARGE_EVERY`` of 4 MB."""
    small = [upload("/v1/classify", [picture], FIELDS) for picture in photographs(16)]
    large = upload("/v1/classify", photographs(1, *LARGE), FIELDS)
    for number in itertools.count(1):
        yield large if number % LARGE_EVERY == 0 else small[number % len(small)]


def uploads(running: Stack, gateway: psutil.Process, plan: Plan, picture: bytes) -> tuple[list[Held], int]:
    """Keep ``IN_FLIGHT`` uploads in flight for all rounds of a plan; return each round's most, and the answers' number.

    Raises:
        RuntimeError: an answer was not 200.
    """
    request = upload("/v1/classify", [picture], FIELDS)
    most, answered = [], 0
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds} ...", file=sys.stderr, flush=True)
        with Watched(gateway, SAMPLE_S) as watched:
            load = asyncio.run(closed_loop((running.host, running.port), [request], IN_FLIGHT, plan.seconds))
        if set(load.statuses) != {200}:
            raise RuntimeError(f"answers other than 200: {load.statuses}")
        most.append(watched.most)
        answered += len(load.latencies_s)
    return most, answered


@dataclass(frozen=True, slots=True)
class UnderUploads:
    """What was held with ``IN_FLIGHT`` large uploads in flight.

    Attributes:
        picture: bytes of one.
        idle: before.
        most: the look of each round at which all processes held most.
        after: when it was over.
        answered: requests, each with 200.
        processes: of the gateway.
        alone: bytes of library pages that PSS leaves to other programs.
        models: what Triton held.
    """

    picture: int
    idle: Held
    most: list[Held]
    after: Held
    answered: int
    processes: int
    alone: int
    models: list[Weights]


def under_uploads(plan: Plan) -> UnderUploads:
    """Measure what is held idle and at the peak of large uploads."""
    picture = photographs(1, *LARGE)[0]
    with started(plan.model, plan) as running:
        gateway = listener(running.port)
        idle = look(gateway)
        processes = [gateway.pid, *(child.pid for child in gateway.children(recursive=True))]
        shared = sum(rollup(pid).get("Pss_File", 0) for pid in processes)
        alone = file_pages(processes) - shared
        most, answered = uploads(running, gateway, plan, picture)
        time.sleep(SETTLE_S)
        after = look(gateway)
        return UnderUploads(len(picture), idle, most, after, answered, len(processes), alone, weights(running))


def over_a_long_run(plan: Plan) -> tuple[list[Held], Counter[int]]:
    """Send the demo model many mixed requests; return what its gateway held every second, and the answers' statuses."""
    with started("demo", plan) as running:
        run = LongRun(0, Counter())
        with Watched(listener(running.port), 1.0, lambda: run.answered) as watched:
            asyncio.run(run.send((running.host, running.port), mixed(), plan.requests))
    return watched.seen, run.statuses
