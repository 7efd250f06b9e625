"""The circuit breaker, on an encoder that hangs as a real server will not on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gateway.errors import DeadlineExceeded, ModelUnavailable
from gateway.inference.addresses import Addresses, Endpoint
from gateway.inference.circuit_breaker import HUNG_S
from gateway.inference.load_balancer import LoadBalancer
from gateway.inference.triton import Vectors
from gateway.limits.deadline import Deadline
from gateway.observability.metrics import Metrics
from tests.support.fake_encoder import BUNDLE_ID, FakeEncoder, write_bundle
from tests.support.waiting import eventually

HANGING, GOOD = np.zeros((1, 32, 32, 3), np.uint8), np.full((1, 32, 32, 3), 200, np.uint8)


class Hanging(FakeEncoder):
    """Gives signs of life, and takes for ever over black pictures, or over all."""

    def __init__(self) -> None:
        super().__init__()
        self.all_hang = False

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        if self.all_hang or not pixels.any():
            await asyncio.sleep(deadline.remaining_s())
            raise deadline.error()
        return await super().encode_images(pixels, deadline)

    async def served_parameters(self, deadline: Deadline) -> Mapping[str, Mapping[str, str]]:
        return {name: {"bundle_id": BUNDLE_ID} for name in ("clip_image", "clip_text")}


@asynccontextmanager
async def watched(folder: Path, encoder: FakeEncoder) -> AsyncIterator[LoadBalancer]:
    manifest, one = write_bundle(folder), Addresses([Endpoint("127.0.0.1", 1)])
    balancer = LoadBalancer(one, 60, lambda _: encoder, manifest, 15.0, Metrics())
    watching = asyncio.create_task(balancer.watch())
    try:
        await eventually(lambda: not balancer.failing_checks())
        yield balancer
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_94_what_answers_nobody_for_the_whole_of_a_wait_is_hung(tmp_path: Path) -> None:
    encoder = Hanging()
    async with watched(tmp_path, encoder) as breaker:
        encoder.all_hang = True
        with pytest.raises(DeadlineExceeded):
            await breaker.encode_images(GOOD, Deadline.after(HUNG_S + 0.2))
        assert breaker.failing_checks() == ["inference"]
        deadline = Deadline.after(60)
        with pytest.raises(ModelUnavailable) as refused:
            await breaker.encode_images(GOOD, deadline)
        assert refused.value.retry_after_s
        assert deadline.remaining_s() > 59, "the next costs nothing"


async def test_94_what_answers_others_is_busy(tmp_path: Path) -> None:
    async with watched(tmp_path, Hanging()) as breaker:

        async def others() -> None:
            for _ in range(20):
                assert (await breaker.encode_images(GOOD, Deadline.after(60))).shape == (1, 8)
                await asyncio.sleep(HUNG_S / 15)

        working = asyncio.create_task(others())
        # As the stages around do: they cancel what is still waiting when their deadline, the same, passes.
        deadline = Deadline.after(HUNG_S + 0.2)
        with pytest.raises(DeadlineExceeded):
            async with deadline.enforced():
                await breaker.encode_images(HANGING, deadline)
        assert breaker.failing_checks() == []
        await working
