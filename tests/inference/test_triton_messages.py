"""What the encoder asks of Triton, and what it takes for an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as messages

from gateway.errors import GatewayError, ModelInvalidOutput, ModelUnavailable
from gateway.inference.connection import ConnectionLost
from gateway.inference.triton import TritonEncoder, inference, vectors_of
from gateway.limits.deadline import Deadline
from tests.support.fake_encoder import DIM, write_bundle
from tests.support.fake_triton import FakeTriton, listening
from tests.support.waiting import UNTIL_S

PIXELS = np.zeros((1, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("side", [1, 7, 60])
def test_an_inference_says_what_its_rows_are(side: int) -> None:
    pixels = np.arange(2 * side * side * 3, dtype=np.int64).astype(np.uint8).reshape(2, side, side, 3)
    turned = pixels.transpose(0, 2, 1, 3)  # as it lies in memory it would be another picture

    for rows, kind in ((pixels, "UINT8"), (turned, "UINT8"), (np.array([[7, 2**40]], np.int64), "INT64")):
        request = inference("some_model", "rows", rows, 1.5)
        (given,) = request.inputs
        assert (request.model_name, given.name, given.datatype) == ("some_model", "rows", kind)
        assert tuple(given.shape) == rows.shape
        assert [output.name for output in request.outputs] == ["embedding__0"]
        assert request.parameters["timeout"].int64_param == 1_500_000
        assert list(request.raw_input_contents) == [rows.tobytes()]


def answer(name: str = "embedding__0", datatype: str = "FP32", cut: int = 0) -> Any:
    raw = np.eye(DIM, dtype=np.float32)[:1].tobytes()
    made = messages.ModelInferResponse(model_name="some_model", raw_output_contents=[raw[: len(raw) - cut]])
    made.outputs.add(name=name, datatype=datatype, shape=[1, DIM])
    return made


def test_an_output_is_what_was_sent_and_nothing_else_is_taken_for_one() -> None:
    assert np.array_equal(vectors_of(answer(), 1, DIM), np.eye(DIM, dtype=np.float32)[:1])
    others = (answer(name="logits"), answer(datatype="FP16"), answer(cut=4), messages.ModelInferResponse())
    for other in others:
        with pytest.raises(ModelInvalidOutput):
            vectors_of(other, 1, DIM)
    for rows, dim in ((2, DIM), (1, DIM - 1), (DIM, 1)):
        with pytest.raises(ModelInvalidOutput):
            vectors_of(answer(), rows, dim)


@asynccontextmanager
async def served(folder: Path, answered: bytes | None = None) -> AsyncIterator[tuple[TritonEncoder, FakeTriton]]:
    """An encoder in front of a server; its inferences end with the bytes where some are given."""

    class Raw(FakeTriton):
        async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
            answer = await super().ModelInfer(request, context)
            return answer if answered is None else Junk(answered)

    triton = Raw()
    async with listening(triton):
        encoder = TritonEncoder(triton.address, write_bundle(folder), lambda *_: None)
        try:
            await encoder.served_parameters(Deadline.after(UNTIL_S))
            yield encoder, triton
        finally:
            await encoder.close()


class Junk(bytes):
    """Bytes in place of a message."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - the protocol's name
        return bytes(self)


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ((grpc.StatusCode.UNAVAILABLE, "Request for unknown model: 'clip_image' is not found"), ModelUnavailable),
        ((grpc.StatusCode.UNAVAILABLE, "Server is stopping, scheduler for model has stopped"), ModelUnavailable),
        ((grpc.StatusCode.UNAVAILABLE, "Socket closed"), ConnectionLost),
        ((grpc.StatusCode.RESOURCE_EXHAUSTED, "out of memory"), ModelInvalidOutput),
        ((grpc.StatusCode.INTERNAL, "onnx runtime error"), ModelInvalidOutput),
    ],
)
async def test_a_refusal_is_one_of_our_errors(tmp_path: Path, refusal: Any, error: type[GatewayError]) -> None:
    async with served(tmp_path) as (encoder, triton):
        triton.refusals = [refusal]
        with pytest.raises(error) as refused:
            await encoder.encode_images(PIXELS, Deadline.after(UNTIL_S))
        assert type(refused.value) is error
        assert len(triton.asked) == 1


@pytest.mark.parametrize("junk", [b"no message", b"\xff" * 40])
async def test_an_answer_that_is_no_message_is_no_verdict(tmp_path: Path, junk: bytes) -> None:
    async with served(tmp_path, junk) as (encoder, _):
        with pytest.raises(ModelInvalidOutput):
            await encoder.encode_images(PIXELS, Deadline.after(UNTIL_S))
