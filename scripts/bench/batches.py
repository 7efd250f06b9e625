"""Pictures in one request, and as many in requests of their own that are in flight at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from scripts.bench.alternate import alternate
from scripts.bench.client import Connection, upload
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.stack import Stack

TOGETHER = 32
REPEATS = 3


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
    """Measure, in turns, the seconds of 32 pictures in one request and in 32 that are in flight at once."""
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
