"""The server: uvicorn's, which says before it ends that it will, and which may be handed its connections."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import cast

import uvicorn

from gateway.member import Member

POLL_S = 0.05
HANDED_AT_ONCE = 32  # connections taken before requests get their turn again
STARTED = b"S"
DOOR_MARGIN_S = 5.0  # behind the delay: for the supervisor to shut the door


class DrainingServer(uvicorn.Server):
    """A server that says that it will end before it does, so that load balancers turn away first.

    On the first signal ``/readyz`` turns 503, and every answer closes its connection; for ``delay_s`` requests are
    still taken. Then nobody is let in any more, and what was accepted is finished. A second signal skips the delay.

    Args:
        config: as of uvicorn.
        delay_s: seconds between saying so and closing the door.
        announce: called at the first signal.
    """

    def __init__(self, config: uvicorn.Config, delay_s: float, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._delay_s = delay_s
        self._announce = announce
        self._signals = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self._signals += 1
        self._announce()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve; what is there by then stays for good, and the garbage collector need not look at it again."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait with the door open, then end as uvicorn does."""
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        await self._wait_for_door()
        await super().shutdown(sockets)

    async def _wait_for_door(self) -> None:
        end_s = time.monotonic() + self._delay_s
        while time.monotonic() < end_s and self._signals < 2:  # noqa: PLR2004, ASYNC110 - a second signal
            await asyncio.sleep(POLL_S)


class MemberServer(DrainingServer):
    """One of several server processes: the supervisor accepts connections and hands them over.

    The door is the supervisor's: it is shut once the channel has ended.

    Args:
        config: as of uvicorn.
        delay_s: as of ``DrainingServer``; here a bound, as the supervisor shuts the door.
        announce: likewise.
        channel: where connections come from, as descriptors; SEQPACKET, so that a message is one connection.
        place: where it is told how many were taken.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        delay_s: float,
        announce: Callable[[], None],
        channel: socket.socket,
        place: Member,
    ) -> None:
        super().__init__(config, delay_s, announce)
        self._channel = channel
        self._place = place
        self._door_shut = asyncio.Event()
        self._beginning: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - it has none
        """Start the application, then ask for connections."""
        await super().startup(sockets=[])
        self._channel.settimeout(0)
        asyncio.get_running_loop().add_reader(self._channel, self._take)
        self._channel.send(STARTED)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, when the last connection was handed over."""
        await super().shutdown(sockets)
        asyncio.get_running_loop().remove_reader(self._channel)

    async def _wait_for_door(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._delay_s + DOOR_MARGIN_S):
                await self._door_shut.wait()
                await asyncio.gather(*self._beginning)

    def _take(self) -> None:
        """Take what was handed over."""
        for _ in range(HANDED_AT_ONCE):
            try:
                message, handles, _, _ = socket.recv_fds(self._channel, 1, 1, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                message, handles = b"", []
            if not message:
                asyncio.get_running_loop().remove_reader(self._channel)
                self._door_shut.set()
                return
            for handle in handles:
                task = asyncio.create_task(self._begin(socket.socket(fileno=handle)))
                self._beginning.add(task)
                task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket) -> None:
        """Serve a connection from now on."""
        try:
            connection.settimeout(0)
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:  # it has ended already
            connection.close()
        finally:
            self._place.taken.add(1)

    def _protocol(self) -> asyncio.Protocol:
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
