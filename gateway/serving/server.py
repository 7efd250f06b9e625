"""The server: uvicorn's, which says before it ends that it will, and which may share its listeners."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import cast

import structlog
import uvicorn

POLL_S = 0.05
ACCEPT_PAUSE_S = 0.001
NONE_PAUSE_S = 0.01


class DrainingServer(uvicorn.Server):
    """A server that says that it will end before it does, so that load balancers send no more.

    On the first signal ``/readyz`` turns 503, and every answer closes its connection; for ``delay_s`` requests are
    still taken. Then no connection is accepted, and what was begun is finished. A second signal skips the delay.

    Args:
        config: as of uvicorn.
        delay_s: seconds between saying so and closing the listener.
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

    def hang_up(self, *_: object) -> None:
        """Take SIGHUP, of a terminal that closes, as a first signal; never as a second one, since it comes twice."""
        if not self._signals:
            signal.raise_signal(signal.SIGTERM)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve; what is there by then stays for good, and the garbage collector need not look at it again."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait while still accepting connections, then end as uvicorn does."""
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        end_s = time.monotonic() + self._delay_s
        while time.monotonic() < end_s and self._signals < 2:  # noqa: PLR2004, ASYNC110 - a second signal
            await asyncio.sleep(POLL_S)
        await self._stop_accepting()
        await super().shutdown(sockets)

    async def _stop_accepting(self) -> None:
        """Accept no more connections; those of uvicorn's own listeners end with it."""


class ReplicaServer(DrainingServer):
    """A server that shares its listeners with others, and leaves them their part of the connections.

    The first to wake up would accept all that wait. Of 64 connections that were opened at once the busiest of four got
    46 on average. Each accepts one, then pauses for a moment in which the others accept: 22
    (``python -m scripts.bench scale``).
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then take connections."""
        await super().startup(sockets=[])
        self._listeners = sockets or []
        self._starting: set[asyncio.Task[None]] = set()
        for listener in self._listeners:
            listener.setblocking(False)  # noqa: FBT003 - a method of one flag
            self._watch(listener)

    async def _stop_accepting(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            asyncio.get_running_loop().remove_reader(listener)
            while self._accept_one(listener):
                pass
        await asyncio.gather(*self._starting)

    def _watch(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept_and_pause, listener)

    def _accept_and_pause(self, listener: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(listener)
        accepted = self._accept_one(listener)
        asyncio.get_running_loop().call_later(ACCEPT_PAUSE_S if accepted else NONE_PAUSE_S, self._watch, listener)

    def _accept_one(self, listener: socket.socket) -> bool:
        """Accept a connection; False where another replica took it, or none can be accepted."""
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as fault:  # too many open files, no memory: those who wait are asked again in a moment
            structlog.get_logger("server").error("no connection can be accepted", reason=fault.strerror)
            return False
        task = asyncio.get_running_loop().create_task(self._connect(connection))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return True

    async def _connect(self, connection: socket.socket) -> None:
        """Serve a connection from now on."""
        connection.setblocking(False)  # noqa: FBT003 - a method of one flag
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:  # it has ended already
            connection.close()

    def _protocol(self) -> asyncio.Protocol:
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
