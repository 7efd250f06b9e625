"""How evenly connections are spread over replicas by the three ways there are; used by ``scale.py``.

The replicas answer with their number and do nothing else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
import uvloop

from gateway.serving.server import ReplicaServer

WAYS = ("one listener, all that wait", "SO_REUSEPORT", "one listener, one at a time")
REPLICAS = 4
COUNTS = (16, 64)
BURSTS = 5  # a round
BACKLOG = 2048
START_S = 1.0
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
Send = Callable[[dict[str, Any]], Awaitable[None]]


def measured(way: str, rounds: int) -> dict[int, tuple[float, float]]:
    """Open connections all at once, again and again.

    Returns:
        By number of connections, what the busiest and the idlest replica had on average, 1 being an even part.
    """
    found = {}
    with _serving(way) as port:
        for count in COUNTS:
            spreads = [sorted(uvloop.run(_burst(port, count))) for _ in range(rounds * BURSTS)]
            even = count / REPLICAS
            found[count] = (
                statistics.mean(one[-1] for one in spreads) / even,
                statistics.mean(one[0] for one in spreads) / even,
            )
    return found


async def _burst(port: int, count: int) -> list[int]:
    """Return how many of ``count`` connections each replica got."""
    opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(count)))
    seen = [0] * REPLICAS
    for reader, writer in opened:
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        seen[int(await reader.readexactly(1))] += 1
    for _, writer in opened:
        writer.close()
    await asyncio.sleep(0.05)
    return seen


def _listener(port: int, *, shared: bool) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=BACKLOG, reuse_port=shared)


@contextmanager
def _serving(way: str) -> Iterator[int]:
    """Run the replicas; yields their port."""
    shared = way == "SO_REUSEPORT"
    listeners = [_listener(0, shared=shared)]
    port = int(listeners[0].getsockname()[1])
    if shared:
        listeners += [_listener(port, shared=True) for _ in range(REPLICAS - 1)]
    doors = listeners if shared else listeners * REPLICAS
    pids = [_forked(number, door, in_turns=way == WAYS[-1]) for number, door in enumerate(doors)]
    try:
        time.sleep(START_S)
        yield port
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for listener in listeners:
            listener.close()


def _forked(number: int, listener: socket.socket, *, in_turns: bool) -> int:
    """Start a process that serves on a listener; return its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        body = str(number).encode()

        async def answer(_: object, __: object, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
            await send({"type": "http.response.body", "body": body})

        config = uvicorn.Config(answer, log_level="error", lifespan="off", backlog=BACKLOG)
        server = ReplicaServer(config, 0.0, lambda: None) if in_turns else uvicorn.Server(config)
        server.run([listener])
    finally:
        os._exit(0)
