"""The seam to the models: a Protocol, and its implementation on Triton. The only module that imports tritonclient."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import numpy as np
import numpy.typing as npt
from grpc import StatusCode
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from gateway.errors import GatewayError, ModelInvalidOutput, ModelUnavailable, Overloaded
from gateway.inference.bundle import IMAGE_MODEL, TEXT_MODEL, Manifest
from gateway.limits.deadline import Deadline
from gateway.limits.gather import all_of
from gateway.observability.tracing import propagated, span

OUTPUT_NAME = "embedding__0"
AT_MOST_PARAMETER = "inferences_at_most"
AT_MOST = 128  # of a bundle that does not say
RETRY_AFTER_S = 1
RETRY_PAUSE_S = 0.05  # a call fails a moment before its channel knows that the connection is gone
RETRY_SHARE = 0.1  # retries per call, over time
MOST_RETRIES_SAVED = 10.0  # retries at once after a quiet time: a few requests whose connection broke, no whole queue
DATA_TYPES = {np.dtype(np.uint8): "UINT8", np.dtype(np.int64): "INT64"}

# A Triton that comes back is found within a second: gRPC's own back-off grows to two minutes.
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.enable_http_proxy", 0),  # a proxy in the environment is not for Triton, and would see every image
]

# What gRPC's core says when a connection ends under a call. Another wording costs a retry, nothing else.
BROKEN_CONNECTION = ("Socket closed", "Connection reset", "Broken pipe", "GOAWAY", "Stream removed", "Endpoint closing")
UNAVAILABLE = (StatusCode.UNAVAILABLE, StatusCode.NOT_FOUND, StatusCode.CANCELLED, StatusCode.UNIMPLEMENTED)
# What Triton says, with whatever status, of a time-out, and of a model whose instance is gone.
TIMED_OUT = ("Deadline Exceeded", "Request timeout expired")
NOT_SERVED = ("unknown model", "Stub process", "is not ready", "has no available versions")

Vectors = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Turns prepared images and token ids into vectors of one space."""

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        """Return float32 [N, D], unit length, for uint8 [N, H, W, 3] RGB pixels.

        Raises:
            ServiceError: unavailable, overloaded, too slow, or an output that cannot be right.
        """
        ...

    async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
        """Return float32 [N, D], unit length, for int64 [N, L] token ids.

        Raises:
            ServiceError: as ``encode_images``.
        """
        ...


class ModelServer(Encoder, Protocol):
    """An encoder that says which models it has."""

    async def served_parameters(self, deadline: Deadline) -> Mapping[str, Mapping[str, str]]:
        """Return, by model name, the parameters of the model configuration that is being served.

        Raises:
            ServiceError: as ``encode_images``.
        """
        ...

    async def close(self) -> None:
        """Give up the connection."""
        ...


class TritonEncoder:
    """The encoder on a Triton server, over one gRPC channel.

    Nothing is asked twice but what was under way on a connection that broke: the answer is lost, an inference changes
    nothing, and behind the address another server may stand already. Once, within the deadline, within a budget. What
    Triton itself refused (a model that is not there) is never asked again: that would add to the load.

    As many inferences of a model are under way at a time as this gateway's part of its config's ``inferences_at_most``;
    the next is refused at once. Triton's own bound on its queue makes it sleep beside work
    (``scripts.export.triton_config``).

    Args:
        address: ``host:port`` of Triton's gRPC endpoint.
        manifest: the bundle that Triton is expected to serve.
        observe_batch: called with model name and size of each inference sent.
        replicas: gateways that share the server, each of which has as large a part, at least one inference.
    """

    def __init__(
        self,
        address: str,
        manifest: Manifest,
        observe_batch: Callable[[str, int], None],
        replicas: int = 1,
    ) -> None:
        self._address = address
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._triton = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._parameters: dict[str, Mapping[str, str]] = {}  # by model, as it was served when it was last asked
        self._under_way = {IMAGE_MODEL: 0, TEXT_MODEL: 0}
        self._replicas = replicas
        self._manifest = manifest
        self._observe_batch = observe_batch
        self._budget = RetryBudget()

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_images``; more rows than the model's largest batch go as several inferences."""
        return await self._encode(IMAGE_MODEL, "pixels", pixels, self._manifest.image_max_batch, deadline)

    async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_texts``; more rows than the model's largest batch go as several inferences."""
        return await self._encode(TEXT_MODEL, "input_ids", input_ids, self._manifest.text_max_batch, deadline)

    async def served_parameters(self, deadline: Deadline) -> Mapping[str, Mapping[str, str]]:
        """See ``ModelServer.served_parameters``."""
        return {model: await self._served(model, deadline) for model in (IMAGE_MODEL, TEXT_MODEL)}

    async def close(self) -> None:
        """See ``ModelServer.close``."""
        await self._channel.close()

    async def _served(self, model: str, deadline: Deadline) -> Mapping[str, str]:
        question = messages.ModelConfigRequest(name=model)
        answer = await self._ask(lambda left_s: self._triton.ModelConfig(question, timeout=left_s), deadline)
        self._parameters[model] = {key: value.string_value for key, value in answer.config.parameters.items()}
        return self._parameters[model]

    async def _encode(
        self, model: str, name: str, rows: npt.NDArray[Any], max_batch: int, deadline: Deadline
    ) -> Vectors:
        if len(rows) <= max_batch:
            return await self._infer(model, name, rows, deadline)
        chunks = (rows[start : start + max_batch] for start in range(0, len(rows), max_batch))
        return np.concatenate(await all_of(self._infer(model, name, chunk, deadline) for chunk in chunks))

    async def _infer(self, model: str, name: str, rows: npt.NDArray[Any], deadline: Deadline) -> Vectors:
        if self._under_way[model] >= self._at_most(model):
            raise queue_full()
        self._observe_batch(model, len(rows))
        self._under_way[model] += 1
        try:
            with span(f"infer {model}", called(self._address, model, len(rows)), outgoing=True):
                answer = await self._ask(
                    lambda left_s: self._triton.ModelInfer(
                        inference(model, name, rows, left_s), timeout=left_s, metadata=propagated()
                    ),
                    deadline,
                )
        finally:
            self._under_way[model] -= 1
        return vectors_of(answer, len(rows), self._manifest.embedding_dim)

    def _at_most(self, model: str) -> int:
        said_so = self._parameters.get(model, {}).get(AT_MOST_PARAMETER, "")
        return max(1, (int(said_so) if said_so.isdecimal() else AT_MOST) // self._replicas)

    async def _ask(self, call: Callable[[float], Awaitable[Any]], deadline: Deadline) -> Any:  # noqa: ANN401 - protobuf's classes have no types
        """Return the message that a call returns; it is handed the seconds left, once or, where that is safe, twice.

        Raises:
            ServiceError: ours for whatever went wrong.
        """
        self._budget.earn()
        try:
            try:
                answer = await call(deadline.remaining_s())
            except grpc.aio.AioRpcError as error:
                if not (connection_broke(error) and self._budget.spend()):
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)
                answer = await call(deadline.remaining_s())
        except grpc.aio.AioRpcError as error:
            raise translated(error, deadline) from error
        if answer is None:  # gRPC's way to say that it cannot be read
            raise ModelInvalidOutput("The model server's answer cannot be read; nothing was decided.")
        return answer


@dataclass(slots=True)
class RetryBudget:
    """Every call earns a tenth of a retry; a retry spends a whole one, so that retries never multiply an outage.

    Attributes:
        saved: retries that are left.
    """

    saved: float = MOST_RETRIES_SAVED

    def earn(self) -> None:
        """Count a call."""
        self.saved = min(MOST_RETRIES_SAVED, self.saved + RETRY_SHARE)

    def spend(self) -> bool:
        """Take one retry; False if none is left."""
        if self.saved < 1:
            return False
        self.saved -= 1
        return True


def inference(model: str, name: str, rows: npt.NDArray[Any], left_s: float) -> messages.ModelInferRequest:
    """Return the request for one inference.

    Args:
        model: asked.
        name: of its input.
        rows: uint8 or int64, the first axis is the batch.
        left_s: until nobody waits any more. It ends a wait in Triton's queue where an operator's own policy
            lets it; gRPC's deadline, which cancels, does everywhere.
    """
    request = messages.ModelInferRequest(model_name=model, raw_input_contents=[rows.tobytes()])
    request.inputs.add(name=name, datatype=DATA_TYPES[rows.dtype], shape=rows.shape)
    request.outputs.add(name=OUTPUT_NAME)
    request.parameters["timeout"].int64_param = max(1, int(left_s * 1e6))  # microseconds
    return request


def called(address: str, model: str, rows: int) -> dict[str, str | int]:
    """Return the attributes of an inference's span: OpenTelemetry's of an RPC, model and batch size."""
    host, _, port = address.rpartition(":")
    return {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "server.address": host.strip("[]"),
        "server.port": int(port),
        "clip.model": model,
        "clip.batch_size": rows,
    }


def vectors_of(response: messages.ModelInferResponse, rows: int, dim: int) -> Vectors:
    """Return the output of a response if it is what the manifest promises: float32 [rows, dim], finite, unit length.

    Raises:
        ModelInvalidOutput: it is not, so no score may be made of it.
    """
    outputs = [(output.name, output.datatype, tuple(output.shape)) for output in response.outputs]
    raw = b"".join(response.raw_output_contents)
    if outputs != [(OUTPUT_NAME, "FP32", (rows, dim))] or len(raw) != 4 * rows * dim:
        raise ModelInvalidOutput("The model answered with a tensor of another shape or type; nothing was decided.")
    vectors = np.frombuffer(raw, np.float32).reshape(rows, dim)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    # Lengths within 1 ± 0.01: fp16 and int8 stay far inside; NaN never is.
    if not all(0.99**2 < square < 1.01**2 for square in squares.tolist()):
        raise ModelInvalidOutput("The model answered with values that are no unit vectors; nothing was decided.")
    return vectors


def translated(error: grpc.aio.AioRpcError, deadline: Deadline) -> GatewayError:
    """Return our error for one of gRPC's.

    A dead server, and where an operator gave Triton a queue policy a full queue and a timeout in it, all come as
    UNAVAILABLE and differ in the message alone.
    """
    status, message = error.code(), error.details() or ""
    if "Exceeds maximum queue size" in message:
        return queue_full()
    if status is StatusCode.DEADLINE_EXCEEDED or any(words in message for words in TIMED_OUT):
        return deadline.error()
    if status in UNAVAILABLE or any(words in message for words in NOT_SERVED):
        return ModelUnavailable(
            "The model server cannot be reached or is starting; nothing was decided.", retry_after_s=2
        )
    return ModelInvalidOutput("The model failed on this input; nothing was decided.")


def queue_full() -> Overloaded:
    """Return the error of an inference that is one too many."""
    return Overloaded("The model's queue is full; nothing was decided.", retry_after_s=RETRY_AFTER_S)


def connection_broke(error: grpc.aio.AioRpcError) -> bool:
    """Return whether a call was under way on a connection that broke, which is all that is worth asking again.

    The server's own refusals are UNAVAILABLE too, and so is a server that cannot be reached at all.
    """
    message = error.details() or ""
    return error.code() is StatusCode.UNAVAILABLE and any(words in message for words in BROKEN_CONNECTION)
