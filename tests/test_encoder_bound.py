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
from starlette.testclient import TestClient
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from gateway.app import create_app, triton_encoder
from gateway.bundle import read_manifest
from gateway.deadline import Deadline
from gateway.encoder import Encoder, Vectors
from gateway.errors import Overloaded
from gateway.member import Member, Tallies, member
from gateway.settings import Settings
from gateway.telemetry import Metrics
from tests.fakes import DIM, FakeEncoder, write_bundle
from tests.waiting import UNTIL_S, eventually

AT_MOST = 3


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
async def encoders(folder: Path, slow: Slow, places: list[Member]) -> AsyncIterator[list[Encoder]]:
    """The encoder of each process, in front of one server."""
    write_bundle(folder)
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(slow, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    settings = Settings(triton_host="127.0.0.1", triton_grpc_port=port, model_repository=folder)
    async with AsyncExitStack() as exits:
        exits.push_async_callback(server.stop, 0)
        made: list[Encoder] = []
        for place in places:
            made.append(triton_encoder(settings, read_manifest(folder), Metrics(), place))
            exits.push_async_callback(made[-1].close)
            await made[-1].served_parameters(soon())
        yield made


def soon() -> Deadline:
    return Deadline.after(UNTIL_S)


def picture(encoder: Encoder) -> asyncio.Task[Vectors]:
    return asyncio.create_task(encoder.encode_images(np.zeros((1, 32, 32, 3), np.uint8), soon()))


async def test_96_the_bound_on_inferences_holds_for_all_processes_together(tmp_path: Path) -> None:
    slow = Slow()
    tallies = Tallies(2)
    places = [member(tallies, index, 2, None) for index in range(2)]
    async with encoders(tmp_path, slow, places) as (first, second):
        under_way = [picture(first) for _ in range(AT_MOST)]
        await eventually(lambda: len(slow.asked) == AT_MOST)
        for encoder in (first, second):
            with pytest.raises(Overloaded) as refused:
                await picture(encoder)
            assert refused.value.retry_after_s
        assert places[0].image_inferences.own == places[1].image_inferences.total() == AT_MOST
        # The other model's bound is its own.
        text = asyncio.create_task(second.encode_texts(np.zeros((1, 8), np.int64), soon()))
        await eventually(lambda: slow.asked == ["clip_image"] * AT_MOST + ["clip_text"])
        # Who leaves makes room for whichever process comes next.
        under_way.pop().cancel()
        await eventually(lambda: places[1].image_inferences.total() == AT_MOST - 1)
        under_way.append(picture(second))
        await eventually(lambda: len(slow.asked) == AT_MOST + 2)
        with pytest.raises(Overloaded):
            await picture(first)
        slow.may.set()
        assert [len(vectors) for vectors in await asyncio.gather(*under_way, text)] == [1] * (AT_MOST + 1)
        assert {(place.image_inferences.own, place.text_inferences.own) for place in places} == {(0, 0)}


async def test_what_a_process_that_ended_had_under_way_counts_no_more(tmp_path: Path) -> None:
    slow = Slow()
    tallies = Tallies(2)
    places = [member(tallies, index, 2, None) for index in range(2)]
    places[0].image_inferences.add(AT_MOST)
    async with encoders(tmp_path, slow, places) as (_, second):
        slow.may.set()
        with pytest.raises(Overloaded):
            await picture(second)
        tallies.forget(0)
        assert len(await picture(second)) == 1


async def test_gateways_that_know_nothing_of_each_other_add_up(tmp_path: Path) -> None:
    slow = Slow()
    places = [member(Tallies(1), 0, 1, None) for _ in range(2)]
    async with encoders(tmp_path, slow, places) as made:
        under_way = [picture(encoder) for encoder in made for _ in range(AT_MOST)]
        await eventually(lambda: len(slow.asked) == 2 * AT_MOST)
        slow.may.set()
        await asyncio.gather(*under_way)


def test_the_application_counts_where_its_process_does(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    place = member(Tallies(1), 0, 1, None)
    told: list[Any] = []

    def make(*parts: Any) -> Encoder:
        told.extend(parts)
        return FakeEncoder()

    settings = Settings(
        model_repository=tmp_path, data_dir=tmp_path / "data", log_level="error", decode_isolation=False
    )
    with TestClient(create_app(settings, make, place=place), base_url="http://localhost"):
        assert told[-1] is place
