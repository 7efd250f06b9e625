"""A Triton without models: the protocol over real gRPC, for what a real server cannot be made to say on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from gateway.inference.addresses import Address, Endpoint
from tests.support.fake_encoder import BUNDLE_ID, DIM


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers every row with the same unit vector.

    Args:
        axis: of that vector, 0 to ``DIM`` - 1: it tells who has answered.
        bundle_id: of its models.
        at_most: inferences at a time, as its models' configs say.

    Attributes:
        asked: models of the inferences that have reached it.
        headers: those that came with the last one.
        is_ready: what it says of its models.
        refusals: statuses and texts that the next inferences end with, in order.
        may_answer: cleared, inferences wait.
        awake: cleared, everything waits.
        port: where it listens.
    """

    def __init__(self, axis: int = 0, bundle_id: str = BUNDLE_ID, at_most: int = 128) -> None:
        self.axis = axis
        self.bundle_id = bundle_id
        self.at_most = at_most
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.is_ready = True
        self.refusals: list[tuple[grpc.StatusCode, str]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.awake = asyncio.Event()
        self.awake.set()
        self.port = 0

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(Endpoint("127.0.0.1", self.port), "127.0.0.1")

    async def ModelReady(self, _: Any, __: Any) -> Any:  # noqa: N802 - the protocol's name
        await self.awake.wait()
        return messages.ModelReadyResponse(ready=self.is_ready)

    async def ModelConfig(self, request: Any, _: Any) -> Any:  # noqa: N802 - the protocol's name
        await self.awake.wait()
        answer = messages.ModelConfigResponse()
        answer.config.name = request.name
        answer.config.parameters["bundle_id"].string_value = self.bundle_id
        answer.config.parameters["inferences_at_most"].string_value = str(self.at_most)
        return answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        self.asked.append(request.model_name)
        self.headers = dict(context.invocation_metadata())
        if self.refusals:
            await context.abort(*self.refusals.pop(0))
        await self.may_answer.wait()
        await self.awake.wait()
        rows = request.inputs[0].shape[0]
        vectors = np.zeros((rows, DIM), np.float32)
        vectors[:, self.axis] = 1
        answer = messages.ModelInferResponse(raw_output_contents=[vectors.tobytes()])
        answer.outputs.add(name="embedding__0", datatype="FP32", shape=[rows, DIM])
        return answer


@asynccontextmanager
async def listening(*tritons: FakeTriton) -> AsyncIterator[None]:
    """Within, they serve, each on a port of its own."""
    servers = []
    for triton in tritons:
        server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
        triton.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
    try:
        yield
    finally:
        for triton in tritons:
            triton.may_answer.set()
            triton.awake.set()
        for server in servers:
            await server.stop(0)
