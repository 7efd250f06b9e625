"""How evenly connections are spread over processes by the three ways there are; used by ``scale.py``.

The processes answer with their number and do nothing else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import cast

import uvloop

from gateway.member import Member, Tallies, member
from gateway.supervisor import Ending, Supervisor

WAYS = ("one inherited socket", "SO_REUSEPORT", "handed over")
PROCESSES = 4
COUNTS = (16, 64)
BURSTS = 5  # a round
BACKLOG = 2048
START_S = 0.5
NUMBER = struct.Struct("B")


class _Told(asyncio.Protocol):
    """Tells a client which process it has come to."""

    def __init__(self, place: Member) -> None:
        self._place = place

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._place.connections.add(1)
        cast("asyncio.Transport", transport).write(NUMBER.pack(self._place.index))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's argument
        self._place.connections.add(-1)


def measured(way: str, rounds: int) -> dict[int, tuple[float, float]]:
    """Open connections all at once, again and again.

    Returns:
        By number of connections, what the busiest and the idlest process had on average, 1 being an even part.
    """
    found = {}
    with _serving(way) as port:
        for count in COUNTS:
            spreads = [sorted(uvloop.run(_burst(port, count))) for _ in range(rounds * BURSTS)]
            even = count / PROCESSES
            found[count] = (
                statistics.mean(one[-1] for one in spreads) / even,
                statistics.mean(one[0] for one in spreads) / even,
            )
    return found


async def _burst(port: int, count: int) -> list[int]:
    """Return how many of ``count`` connections each process got."""
    opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(count)))
    seen = [0] * PROCESSES
    for reader, _ in opened:
        seen[NUMBER.unpack(await reader.readexactly(NUMBER.size))[0]] += 1
    for _, writer in opened:
        writer.close()
    await asyncio.sleep(0.05)
    return seen


def _listener(port: int, *, shared: bool) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=BACKLOG, reuse_port=shared)


@contextmanager
def _serving(way: str) -> Iterator[int]:
    """Run the processes; yields their port."""
    shared = way == "SO_REUSEPORT"
    listeners = [_listener(0, shared=shared)]
    port = int(listeners[0].getsockname()[1])
    if shared:
        listeners += [_listener(port, shared=True) for _ in range(PROCESSES - 1)]
    tallies = Tallies(PROCESSES)
    places = [member(tallies, index, PROCESSES, None) for index in range(PROCESSES)]
    if way == "handed over":
        supervisor = Supervisor(places, listeners, _take, tallies.forget, Ending(0.0, 0))
        pids = [_forked(supervisor.run)]
    else:
        doors = listeners if shared else listeners * PROCESSES
        pids = [_forked(partial(_accept, place, door)) for place, door in zip(places, doors, strict=True)]
    try:
        time.sleep(START_S)
        yield port
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for listener in listeners:
            listener.close()


def _forked(run: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return pid


def _accept(place: Member, listener: socket.socket) -> None:
    """Be a process that accepts by itself."""

    async def serve() -> None:
        await asyncio.get_running_loop().create_server(lambda: _Told(place), sock=listener, backlog=BACKLOG)
        await asyncio.Event().wait()

    uvloop.run(serve())


def _take(place: Member, channel: socket.socket) -> int:
    """Be a process that gets its connections from the supervisor."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        begun: set[asyncio.Task[object]] = set()

        async def begin(handle: int) -> None:
            connection = socket.socket(fileno=handle)
            connection.setblocking(False)  # noqa: FBT003 - a method of one flag
            await loop.connect_accepted_socket(lambda: _Told(place), connection)
            place.taken.add(1)

        def take() -> None:
            with suppress(BlockingIOError):
                while True:
                    message, handles, _, _ = socket.recv_fds(channel, 1, 1)
                    if not message:  # the supervisor has ended
                        os._exit(0)
                    task = loop.create_task(begin(handles[0]))
                    begun.add(task)
                    task.add_done_callback(begun.discard)

        loop.add_reader(channel, take)
        channel.send(b"S")
        await asyncio.Event().wait()

    uvloop.run(serve())
    return 0
