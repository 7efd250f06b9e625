"""The seam to the models: a Protocol, and its implementation on one Triton server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2 as messages

from gateway.errors import ModelInvalidOutput
from gateway.inference.addresses import Address
from gateway.inference.bundle import IMAGE_MODEL, TEXT_MODEL, Manifest
from gateway.inference.connection import Tls, TritonConnection, connection_lost, gone, queue_full
from gateway.limits.deadline import Deadline
from gateway.limits.gather import all_of
from gateway.observability.tracing import propagated, span

OUTPUT_NAME = "embedding__0"
BUNDLE_PARAMETER = "bundle_id"
AT_MOST_PARAMETER = "inferences_at_most"
AT_MOST = 128  # of a bundle that does not say
DATA_TYPES = {np.dtype(np.uint8): "UINT8", np.dtype(np.int64): "INT64"}

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
    """An encoder on one server, which says which models it has."""

    @property
    def under_way(self) -> Mapping[str, int]:
        """How many inferences are under way, by model."""
        ...

    async def served_parameters(self, deadline: Deadline) -> Mapping[str, Mapping[str, str]]:
        """Return, by model name, the parameters of the model configuration that is being served.

        Raises:
            ServiceError: as ``encode_images``; a model is not ready.
        """
        ...

    async def close(self) -> None:
        """Give up the connection, and what is under way on it; the next ``served_parameters`` makes another one."""
        ...


class TritonEncoder:
    """The encoder on a Triton server, over one connection at a time.

    Vectors come from the manifest's bundle: inferences go over a connection on which ``served_parameters`` found its
    id. Behind its end none is sent, and no answer taken, before it has been found again on the next.

    As many inferences of a model are under way at a time as this gateway's part of its config's ``inferences_at_most``;
    the next is refused at once. Triton's own bound on its queue makes it sleep beside work
    (``scripts.export.triton_config``). Nothing is asked twice; ``load_balancer`` does.

    Args:
        address: of Triton's gRPC endpoint.
        manifest: the bundle that Triton is expected to serve.
        observe_batch: called with model name and size of each inference sent.
        replicas: gateways that share the server, each of which has as large a part, at least one inference.
        tls: of its connections; None: in the clear.

    Attributes:
        under_way: see ``ModelServer.under_way``.
    """

    def __init__(
        self,
        address: Address,
        manifest: Manifest,
        observe_batch: Callable[[str, int], None],
        replicas: int = 1,
        tls: Tls | None = None,
    ) -> None:
        self._address = address
        self._tls = tls
        self._connection: TritonConnection | None = None
        self._is_ours = False  # the connection leads to the manifest's bundle
        self._parameters: Mapping[str, Mapping[str, str]] = {}  # by model, as it was served when it was last asked
        self.under_way = {IMAGE_MODEL: 0, TEXT_MODEL: 0}
        self._replicas = replicas
        self._manifest = manifest
        self._observe_batch = observe_batch

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_images``; more rows than the model's largest batch go as several inferences."""
        return await self._encode(IMAGE_MODEL, "pixels", pixels, self._manifest.image_max_batch, deadline)

    async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_texts``; more rows than the model's largest batch go as several inferences."""
        return await self._encode(TEXT_MODEL, "input_ids", input_ids, self._manifest.text_max_batch, deadline)

    async def served_parameters(self, deadline: Deadline) -> Mapping[str, Mapping[str, str]]:
        """See ``ModelServer.served_parameters``; makes a connection where there is none."""
        if self._connection is None or self._connection.lost:
            self._is_ours, self._connection = False, TritonConnection(self._address, self._tls)
        connection = self._connection
        try:
            async with deadline.enforced():
                await connection.made()
        except BaseException:
            await connection.close()
            raise
        served = await all_of(served_by(connection, model, deadline) for model in self.under_way)
        self._parameters = dict(zip(self.under_way, served, strict=True))
        self._is_ours = all(found.get(BUNDLE_PARAMETER) == self._manifest.bundle_id for found in served)
        return self._parameters

    async def close(self) -> None:
        """See ``ModelServer.close``."""
        if self._connection is not None:
            await self._connection.close()

    async def _encode(
        self, model: str, name: str, rows: npt.NDArray[Any], max_batch: int, deadline: Deadline
    ) -> Vectors:
        if len(rows) <= max_batch:
            return await self._infer(model, name, rows, deadline)
        chunks = (rows[start : start + max_batch] for start in range(0, len(rows), max_batch))
        return np.concatenate(await all_of(self._infer(model, name, chunk, deadline) for chunk in chunks))

    async def _infer(self, model: str, name: str, rows: npt.NDArray[Any], deadline: Deadline) -> Vectors:
        connection = self._connection
        if connection is None or not self._is_ours:
            raise connection_lost()
        if self.under_way[model] >= self._at_most(model):
            raise queue_full()
        self._observe_batch(model, len(rows))
        self.under_way[model] += 1
        try:
            with span(f"infer {model}", called(self._address, model, len(rows)), outgoing=True):
                answer = await connection.ask(
                    lambda left_s: connection.triton.ModelInfer(
                        inference(model, name, rows, left_s), timeout=left_s, metadata=propagated()
                    ),
                    deadline,
                )
        finally:
            self.under_way[model] -= 1
        if not self._is_ours:  # another bundle was loaded into the same server
            raise connection_lost()
        return vectors_of(answer, len(rows), self._manifest.embedding_dim)

    def _at_most(self, model: str) -> int:
        said_so = self._parameters.get(model, {}).get(AT_MOST_PARAMETER, "")
        return max(1, (int(said_so) if said_so.isdecimal() else AT_MOST) // self._replicas)


async def served_by(connection: TritonConnection, model: str, deadline: Deadline) -> Mapping[str, str]:
    """Return the parameters of the configuration of a model that is ready.

    A server that is stopping still tells configurations, and is not ready.

    Raises:
        ServiceError: as ``Encoder.encode_images``; the model is not ready.
    """
    ready, config = messages.ModelReadyRequest(name=model), messages.ModelConfigRequest(name=model)
    is_ready, answer = await all_of(
        (
            connection.ask(lambda left_s: connection.triton.ModelReady(ready, timeout=left_s), deadline),
            connection.ask(lambda left_s: connection.triton.ModelConfig(config, timeout=left_s), deadline),
        )
    )
    if not is_ready.ready:
        raise gone()
    return {key: value.string_value for key, value in answer.config.parameters.items()}


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


def called(address: Address, model: str, rows: int) -> dict[str, str | int]:
    """Return the attributes of an inference's span: OpenTelemetry's of an RPC, model and batch size."""
    return {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "server.address": address.at.host,
        "server.port": address.at.port,
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
