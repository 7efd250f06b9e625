"""The seam to the models: a Protocol, and its implementation on Triton. The only module that imports tritonclient."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from gateway.bundle import IMAGE_MODEL, TEXT_MODEL, Manifest
from gateway.concurrency import all_of
from gateway.deadline import Deadline
from gateway.errors import GatewayError, ModelInvalidOutput, ModelUnavailable, Overloaded
from gateway.retries import RetryBudget

OUTPUT_NAME = "embedding__0"
RETRY_AFTER_S = 1

# A Triton that comes back is found within a second: gRPC's own back-off grows to two minutes.
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.enable_http_proxy", 0),  # a proxy in the environment is not for Triton, and would see every picture
]

# What gRPC's core says when a connection ends under a call. Another wording costs a retry, nothing else.
BROKEN_CONNECTION = ("Socket closed", "Connection reset", "Broken pipe", "GOAWAY", "Stream removed", "Endpoint closing")
# What Triton says, with whatever status, when an instance of a model is gone rather than the input bad.
NOT_SERVED = ("unknown model", "Stub process", "is not ready", "has no available versions")

Vectors = npt.NDArray[np.float32]
T = TypeVar("T")


class Encoder(Protocol):
    """Turns prepared pictures and token ids into vectors of one space."""

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
    Triton itself refused (a full queue, a model that is not there) is never asked again: that would add to the load.

    Args:
        address: ``host:port`` of Triton's gRPC endpoint.
        manifest: the bundle that Triton is expected to serve.
        observe_batch: called with model name and size of each inference sent.
    """

    def __init__(self, address: str, manifest: Manifest, observe_batch: Callable[[str, int], None]) -> None:
        self._client = triton.InferenceServerClient(address, channel_args=CHANNEL_OPTIONS)
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
        """See ``Encoder.served_parameters``."""
        found = {}
        for model in (IMAGE_MODEL, TEXT_MODEL):
            answer = await self._ask(
                lambda left_s, model=model: self._client.get_model_config(model, client_timeout=left_s),  # type: ignore[misc]
                deadline,
            )
            found[model] = {key: value.string_value for key, value in answer.config.parameters.items()}
        return found

    async def close(self) -> None:
        """See ``Encoder.close``."""
        await self._client.close()

    async def _encode(
        self, model: str, name: str, rows: npt.NDArray[Any], max_batch: int, deadline: Deadline
    ) -> Vectors:
        if len(rows) <= max_batch:
            return await self._infer(model, name, rows, deadline)
        chunks = (rows[start : start + max_batch] for start in range(0, len(rows), max_batch))
        return np.concatenate(await all_of(self._infer(model, name, chunk, deadline) for chunk in chunks))

    async def _infer(self, model: str, name: str, rows: npt.NDArray[Any], deadline: Deadline) -> Vectors:
        tensor = triton.InferInput(name, list(rows.shape), np_to_triton_dtype(rows.dtype))
        tensor.set_data_from_numpy(rows)
        self._observe_batch(model, len(rows))
        result = await self._ask(
            lambda left_s: self._client.infer(
                model,
                [tensor],
                outputs=[triton.InferRequestedOutput(OUTPUT_NAME)],
                client_timeout=left_s,  # gRPC's deadline, seconds
                timeout=max(1, int(left_s * 1e6)),  # Triton's own: leaves the queue unserved after it, microseconds
            ),
            deadline,
        )
        return checked(result.as_numpy(OUTPUT_NAME), len(rows), self._manifest.embedding_dim)

    async def _ask(self, call: Callable[[float], Awaitable[T]], deadline: Deadline) -> T:
        """Return what a call returns; it is handed the seconds left, once or, where that is safe, twice.

        Raises:
            ServiceError: ours for whatever went wrong.
        """
        self._budget.earn()
        try:
            return await call(deadline.remaining_s())
        except (InferenceServerException, grpc.RpcError) as error:
            if not (connection_broke(error) and self._budget.spend()):
                raise translated(error, deadline) from error
        try:
            return await call(deadline.remaining_s())
        except (InferenceServerException, grpc.RpcError) as error:
            raise translated(error, deadline) from error


def checked(output: npt.NDArray[Any] | None, rows: int, dim: int) -> Vectors:
    """Return the output if it is what the manifest promises: float32 [rows, dim], finite, unit length.

    Raises:
        ModelInvalidOutput: it is not, so no score may be made of it.
    """
    if output is None or output.dtype != np.float32 or output.shape != (rows, dim):
        raise ModelInvalidOutput("The model answered with a tensor of another shape or type; nothing was decided.")
    norms = np.linalg.norm(output, axis=1)
    if not np.all(np.abs(norms - 1.0) < 1e-2):  # noqa: PLR2004 - fp16 and int8 stay far inside; NaN never is
        raise ModelInvalidOutput("The model answered with values that are no unit vectors; nothing was decided.")
    return output


def translated(error: Exception, deadline: Deadline) -> GatewayError:
    """Return our error for one of tritonclient's or gRPC's.

    Queue full, queue timeout and a dead server all come as UNAVAILABLE and differ in the message alone.
    """
    status, message = said(error)
    if "Exceeds maximum queue size" in message:
        return Overloaded("The model's queue is full; nothing was decided.", retry_after_s=RETRY_AFTER_S)
    if "DEADLINE_EXCEEDED" in status or "Deadline Exceeded" in message or "Request timeout expired" in message:
        return deadline.error()
    if any(word in status for word in ("UNAVAILABLE", "NOT_FOUND", "CANCELLED", "UNIMPLEMENTED")) or (
        any(words in message for words in NOT_SERVED)
    ):
        return ModelUnavailable(
            "The model server cannot be reached or is starting; nothing was decided.", retry_after_s=2
        )
    return ModelInvalidOutput("The model failed on this input; nothing was decided.")


def connection_broke(error: Exception) -> bool:
    """Return whether a call was under way on a connection that broke, which is all that is worth asking again.

    The server's own refusals are UNAVAILABLE too, and so is a server that cannot be reached at all.
    """
    status, message = said(error)
    return "UNAVAILABLE" in status and any(words in message for words in BROKEN_CONNECTION)


def said(error: Exception) -> tuple[str, str]:
    """Return status and message of one of tritonclient's or gRPC's errors."""
    if isinstance(error, InferenceServerException):
        return str(error.status()), str(error.message())
    return str(getattr(error, "code", lambda: None)()), str(getattr(error, "details", lambda: "")())
