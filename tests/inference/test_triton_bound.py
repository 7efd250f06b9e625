"""The bound on what a model is asked at a time, on a server that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from gateway.errors import Overloaded
from gateway.inference.bundle import read_manifest
from gateway.inference.triton import ModelServer, Vectors
from gateway.limits.deadline import Deadline
from gateway.observability.metrics import Metrics
from gateway.parts import triton_encoder
from gateway.settings import Settings
from tests.support.fake_encoder import DIM, write_bundle
from tests.support.waiting import UNTIL_S, eventually

AT_MOST = 4


class Slow(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers with unit vectors once it may.

    Attributes:
        asked: inferences that have reached it.
        may: set when it may answer.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may = asyncio.Event()

    async def ModelConfig(self, request: Any, _: Any) -> Any:  # noqa: N802 - the protocol's name
        answer = messages.ModelConfigResponse()
        answer.config.name = request.name
        answer.config.parameters["inferences_at_most"].string_value = str(AT_MOST)
        return answer

    async def ModelInfer(self, request: Any, _: Any) -> Any:  # noqa: N802 - the protocol's name
        self.asked.append(request.model_name)
        await self.may.wait()
        rows = request.inputs[0].shape[0]
        answer = messages.ModelInferResponse(raw_output_contents=[np.eye(DIM, dtype=np.float32)[:rows].tobytes()])
        answer.outputs.add(name="embedding__0", datatype="FP32", shape=[rows, DIM])
        return answer


@asynccontextmanager
async def encoders(folder: Path, slow: Slow, replicas: int) -> AsyncIterator[list[ModelServer]]:
    """The encoder of each replica, in front of one server."""
    write_bundle(folder)
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(slow, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    settings = Settings(
        triton_host="127.0.0.1", triton_grpc_port=port, model_repository=folder, gateway_replicas=replicas
    )
    async with AsyncExitStack() as exits:
        exits.push_async_callback(server.stop, 0)
        made: list[ModelServer] = []
        for _ in range(replicas):
            made.append(triton_encoder(settings, read_manifest(folder), Metrics()))
            exits.push_async_callback(made[-1].close)
            await made[-1].served_parameters(soon())
        yield made


def soon() -> Deadline:
    return Deadline.after(UNTIL_S)


def picture(encoder: ModelServer) -> asyncio.Task[Vectors]:
    return asyncio.create_task(encoder.encode_images(np.zeros((1, 32, 32, 3), np.uint8), soon()))


async def test_96_the_bound_on_inferences_is_kept(tmp_path: Path) -> None:
    slow = Slow()
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
        slow.may.set()
        assert [len(vectors) for vectors in await asyncio.gather(*under_way, text)] == [1] * (AT_MOST + 1)


@pytest.mark.parametrize(("replicas", "each"), [(2, AT_MOST // 2), (8, 1)])
async def test_replicas_divide_the_bound(tmp_path: Path, replicas: int, each: int) -> None:
    slow = Slow()
    async with encoders(tmp_path, slow, replicas) as made:
        under_way = [picture(encoder) for encoder in made for _ in range(each)]
        await eventually(lambda: len(slow.asked) == replicas * each)
        for encoder in made:
            with pytest.raises(Overloaded):
                await picture(encoder)
        slow.may.set()
        await asyncio.gather(*under_way)
