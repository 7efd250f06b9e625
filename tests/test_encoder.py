"""The messages that the encoder puts together and takes apart itself are those of Triton's protocol."""

from __future__ import annotations

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as messages

from gateway.encoder import inference, tensor_of, varint
from gateway.errors import ModelInvalidOutput


@pytest.mark.parametrize("side", [1, 7, 60])
def test_an_inference_reads_as_the_message_it_is(side: int) -> None:
    pixels = np.arange(2 * side * side * 3, dtype=np.int64).astype(np.uint8).reshape(2, side, side, 3)
    turned = pixels.transpose(0, 2, 1, 3)  # as it lies in memory it would be another picture

    for rows, kind in ((pixels, "UINT8"), (turned, "UINT8"), (np.array([[7, 2**40]], np.int64), "INT64")):
        read = messages.ModelInferRequest.FromString(inference("some_model", "rows", rows, 1.5))
        (given,) = read.inputs
        assert (read.model_name, given.name, given.datatype) == ("some_model", "rows", kind)
        assert tuple(given.shape) == rows.shape
        assert [output.name for output in read.outputs] == ["embedding__0"]
        assert read.parameters["timeout"].int64_param == 1_500_000
        assert list(read.raw_input_contents) == [rows.tobytes()]


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**21 - 1, 2**21, 2**31])
def test_lengths_are_written_as_protobuf_writes_them(number: int) -> None:
    # A timeout's int64 is written like a length, behind its own tag.
    parameter = messages.InferParameter(int64_param=number).SerializeToString()
    assert parameter[1:] == varint(number)


def test_an_output_is_what_was_sent_and_nothing_else_is_taken_for_one() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)

    def answer(name: str = "embedding__0", datatype: str = "FP32", raw: bytes = vectors.tobytes()) -> bytes:
        made = messages.ModelInferResponse(model_name="some_model", raw_output_contents=[raw])
        made.outputs.add(name=name, datatype=datatype, shape=[2, 3])
        return bytes(made.SerializeToString())

    found = tensor_of(answer())
    assert found is not None
    assert np.array_equal(found, vectors)
    assert tensor_of(answer(name="logits")) is None
    assert tensor_of(answer(datatype="FP16")) is None
    assert tensor_of(answer(raw=vectors.tobytes()[:-4])) is None
    assert tensor_of(messages.ModelInferResponse().SerializeToString()) is None
    with pytest.raises(ModelInvalidOutput):
        tensor_of(b"no message")
