"""One connection to a Triton: a gRPC channel that ends with its connection instead of making another one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc
from grpc import ChannelConnectivity, StatusCode
from tritonclient.grpc import service_pb2_grpc

from gateway.errors import GatewayError, ModelInvalidOutput, ModelUnavailable, Overloaded
from gateway.inference.addresses import Address
from gateway.limits.deadline import Deadline

RETRY_AFTER_S = 1
CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # or two channels to one address share a connection
    ("grpc.enable_retries", 0),  # gRPC itself moves no call to another connection
    ("grpc.min_reconnect_backoff_ms", 1000),  # the core's name for how long it tries to make a connection
    ("grpc.enable_http_proxy", 0),  # a proxy in the environment is not for Triton, and would see every image
]

# What gRPC's core says when a connection ends under a call. Another wording costs a retry, nothing else.
BROKEN_CONNECTION = ("Socket closed", "Connection reset", "Broken pipe", "GOAWAY", "Stream removed", "Endpoint closing")
UNAVAILABLE = (StatusCode.UNAVAILABLE, StatusCode.NOT_FOUND, StatusCode.CANCELLED, StatusCode.UNIMPLEMENTED)
# What Triton says, with whatever status, of a time-out, and of a model whose instance is gone.
TIMED_OUT = ("Deadline Exceeded", "Request timeout expired")
NOT_SERVED = ("unknown model", "Stub process", "is not ready", "has no available versions")


class ConnectionLost(ModelUnavailable, status=503, code="model_unavailable", title="Model unavailable"):
    """A connection ended, with or without a call under way; what stands behind the address now is not known yet."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection is encrypted.

    Attributes:
        authorities: PEM certificates that Triton's is checked against; None: the public ones that gRPC brings.
        certificate: PEM chain that the gateway shows (mutual TLS), or None.
        key: PEM private key of it, or None.
        server_name: that Triton's certificate is for; empty: the host of the settings.
    """

    authorities: bytes | None
    certificate: bytes | None
    key: bytes | None
    server_name: str


class TritonConnection:
    """A channel, from its connection's beginning to its end.

    gRPC connects again in silence, and another server may have taken the address meanwhile. So the channel is watched
    from before the first call: once it leaves the state READY it is closed, which cancels calls that wait for a new
    connection, and an answer that comes afterwards is not taken. The core queues that change of state when the
    connection ends, before another one can be made, and its events arrive in order.

    Args:
        address: of Triton's gRPC endpoint.
        tls: None: in the clear.

    Attributes:
        triton: Triton's methods on this connection.
        lost: it has ended, or could not be made.
    """

    def __init__(self, address: Address, tls: Tls | None) -> None:
        target = f"ipv6:{address}" if ":" in address.at.host else f"ipv4:{address}"
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(tls.authorities, tls.key, tls.certificate)
            name = ("grpc.ssl_target_name_override", tls.server_name or address.name)
            self._channel = grpc.aio.secure_channel(target, credentials, [*CHANNEL_OPTIONS, name])
        self.triton = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self.lost = False
        self._made = asyncio.Event()
        self._watching = asyncio.create_task(self._watch())

    async def made(self) -> None:
        """Wait until it is there.

        Raises:
            ModelUnavailable: it cannot be made.
        """
        await self._made.wait()
        if self.lost:
            raise gone()

    async def ask(self, call: Callable[[float], Awaitable[Any]], deadline: Deadline) -> Any:  # noqa: ANN401 - protobuf's classes have no types
        """Return the message that a call returns, which is handed the seconds left.

        Raises:
            ConnectionLost: the connection ended, so that nobody knows whether it was answered, or by whom.
            ServiceError: ours for whatever else went wrong.
        """
        left_s = deadline.remaining_s()
        if self.lost:
            raise connection_lost()
        try:
            answer = await call(left_s)
        except grpc.aio.AioRpcError as error:
            ours = translated(error, deadline)
            if isinstance(ours, ConnectionLost):
                await self.close()
            raise (connection_lost() if self.lost else ours) from error
        except asyncio.CancelledError:  # of the call, as the channel was closed; or of this task
            if cast("asyncio.Task[Any]", asyncio.current_task()).cancelling() or not self.lost:
                raise
            raise connection_lost() from None
        if self.lost:
            raise connection_lost()
        if answer is None:  # gRPC's way to say that it cannot be read
            raise ModelInvalidOutput("The model server's answer cannot be read; nothing was decided.")
        return answer

    async def close(self) -> None:
        """End it, and with it every call that is under way."""
        self.lost = True
        self._made.set()
        if asyncio.current_task() is not self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._channel.close()

    async def _watch(self) -> None:
        """Tell when the connection is made, and close the channel when it ends."""
        state = self._channel.get_state(try_to_connect=True)
        while state not in (ChannelConnectivity.READY, ChannelConnectivity.TRANSIENT_FAILURE):
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state(try_to_connect=True)
        if state is ChannelConnectivity.READY:
            self._made.set()
            await self._channel.wait_for_state_change(state)
        await self.close()


def translated(error: grpc.aio.AioRpcError, deadline: Deadline) -> GatewayError:
    """Return our error for one of gRPC's.

    A dead server, and where an operator gave Triton a queue policy a full queue and a timeout in it, all come as
    UNAVAILABLE and differ in the message alone.
    """
    status, message = error.code(), error.details() or ""
    if status is StatusCode.UNAVAILABLE and any(words in message for words in BROKEN_CONNECTION):
        return connection_lost()
    if "Exceeds maximum queue size" in message:
        return queue_full()
    if status is StatusCode.DEADLINE_EXCEEDED or any(words in message for words in TIMED_OUT):
        return deadline.error()
    if status in UNAVAILABLE or any(words in message for words in NOT_SERVED):
        return gone()
    return ModelInvalidOutput("The model failed on this input; nothing was decided.")


def gone() -> ModelUnavailable:
    """Return the error of a server that cannot be reached, is starting or stopping, or does not serve a model."""
    return ModelUnavailable("The model server cannot be reached or is starting; nothing was decided.", retry_after_s=2)


def connection_lost() -> ConnectionLost:
    """Return the error of a call whose connection ended."""
    return ConnectionLost("The connection to the model server was lost; nothing was decided.", retry_after_s=2)


def queue_full() -> Overloaded:
    """Return the error of an inference that is one too many."""
    return Overloaded("The model's queue is full; nothing was decided.", retry_after_s=RETRY_AFTER_S)
