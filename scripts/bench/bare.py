"""Load on Triton alone: ready tensors over gRPC, with as little of a client as can be.

The message is made once, and answers are not looked into: what is measured is the wire and the server.
"""

from __future__ import annotations

import asyncio
import time

import grpc
import numpy as np

from gateway.inference.bundle import IMAGE_MODEL
from gateway.inference.connection import CHANNEL_OPTIONS
from gateway.inference.triton import inference
from scripts.bench.client import OK, Load, Steady

DEADLINE_S = 600.0
WARM = 8


def message(side_px: int, rows: int = 1) -> bytes:
    """Return an inference of some rows of noise, as it goes over the wire."""
    pixels = np.random.default_rng(0).integers(0, 256, (rows, side_px, side_px, 3), np.uint8)
    return bytes(inference(IMAGE_MODEL, "pixels", pixels, DEADLINE_S).SerializeToString())


async def closed_loop(address: str, sent: bytes, in_flight: int, seconds: float, channels: int = 1) -> Load:
    """Keep a number of inferences in flight for some seconds; see ``client.closed_loop``.

    Args:
        address: of Triton's gRPC endpoint.
        sent: the message.
        in_flight: at a time.
        seconds: after which none is sent any more, if there are answers enough.
        channels: connections that they are spread over.
    """
    opened = [grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) for _ in range(channels)]
    calls = [channel.unary_unary("/inference.GRPCInferenceService/ModelInfer") for channel in opened]
    latencies: list[float] = []
    ended: list[float] = []
    warm = min(WARM, in_flight)
    await asyncio.gather(*(calls[number % channels](sent) for number in range(warm)))
    steady, used = Steady(in_flight, seconds), time.process_time()
    start = steady.start

    async def worker(number: int) -> None:
        while steady.goes_on(now := time.perf_counter(), len(ended)):
            await calls[number % channels](sent)
            ended.append(time.perf_counter() - start)
            latencies.append(start + ended[-1] - now)

    await asyncio.gather(*(worker(number) for number in range(in_flight)))
    elapsed, cost = time.perf_counter() - start, time.process_time() - used
    load = Load(latencies, ended, elapsed, steady.asked_s, cost, [OK] * len(latencies), warm)
    for channel in opened:
        await channel.close()
    return load
