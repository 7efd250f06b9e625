"""The bound on what a model is asked at a time, on a server that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from gateway.errors import Overloaded
from gateway.inference.bundle import read_manifest
from gateway.inference.triton import ModelServer, Vectors
from gateway.limits.deadline import Deadline
from gateway.observability.metrics import Metrics
from gateway.parts import triton_server
from gateway.settings import Settings
from tests.support.fake_encoder import write_bundle
from tests.support.fake_triton import FakeTriton, listening
from tests.support.waiting import UNTIL_S, eventually

AT_MOST = 4


@asynccontextmanager
async def encoders(folder: Path, slow: FakeTriton, replicas: int) -> AsyncIterator[list[ModelServer]]:
    """The encoder of each replica, in front of one server."""
    write_bundle(folder)
    slow.may_answer.clear()
    settings = Settings(model_repository=folder, gateway_replicas=replicas)
    async with AsyncExitStack() as exits:
        await exits.enter_async_context(listening(slow))
        made: list[ModelServer] = []
        for _ in range(replicas):
            made.append(triton_server(settings, read_manifest(folder), Metrics(), slow.address))
            exits.push_async_callback(made[-1].close)
            await made[-1].served_parameters(soon())
        yield made


def soon() -> Deadline:
    return Deadline.after(UNTIL_S)


def picture(encoder: ModelServer) -> asyncio.Task[Vectors]:
    return asyncio.create_task(encoder.encode_images(np.zeros((1, 32, 32, 3), np.uint8), soon()))


async def test_96_the_bound_on_inferences_is_kept(tmp_path: Path) -> None:
    slow = FakeTriton(at_most=AT_MOST)
    async with encoders(tmp_path, slow, 1) as (encoder,):
        under_way = [picture(encoder) for _ in range(AT_MOST)]
        await eventually(lambda: len(slow.asked) == AT_MOST)
        with pytest.raises(Overloaded) as refused:
            await picture(encoder)
        assert refused.value.retry_after_s
        # The other model's bound is its own.
        text = asyncio.create_task(encoder.encode_texts(np.zeros((1, 8), np.int64), soon()))
        await eventually(lambda: slow.asked == ["clip_image"] * AT_MOST + ["clip_text"])
        # Who leaves makes room.
        under_way.pop().cancel()
        await asyncio.sleep(0)
        under_way.append(picture(encoder))
        await eventually(lambda: len(slow.asked) == AT_MOST + 2)
        with pytest.raises(Overloaded):
            await picture(encoder)
        slow.may_answer.set()
        assert [len(vectors) for vectors in await asyncio.gather(*under_way, text)] == [1] * (AT_MOST + 1)


@pytest.mark.parametrize(("replicas", "each"), [(2, AT_MOST // 2), (8, 1)])
async def test_replicas_divide_the_bound(tmp_path: Path, replicas: int, each: int) -> None:
    slow = FakeTriton(at_most=AT_MOST)
    async with encoders(tmp_path, slow, replicas) as made:
        under_way = [picture(encoder) for encoder in made for _ in range(each)]
        await eventually(lambda: len(slow.asked) == replicas * each)
        for encoder in made:
            with pytest.raises(Overloaded):
                await picture(encoder)
        slow.may_answer.set()
        await asyncio.gather(*under_way)
