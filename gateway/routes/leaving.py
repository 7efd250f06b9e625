"""A client that leaves: its work is cancelled, down to the inference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

T = TypeVar("T")
DEPARTURE = "departure"  # in the request's state: the connection's, where our own server reads it


class ClientLeft(Exception):
    """The client closed the connection before its answer; nobody is there to be told."""


class Departure:
    """A connection's end, and who is to be told of it.

    Attributes:
        gone: it has ended; whoever asks to be told from then on is not.
    """

    def __init__(self) -> None:
        self.gone = False
        self._told: set[Callable[[], None]] = set()

    def tell(self, call: Callable[[], None]) -> None:
        """Call this when the connection ends."""
        self._told.add(call)

    def forget(self, call: Callable[[], None]) -> None:
        """Call it no more."""
        self._told.discard(call)

    def happen(self) -> None:
        """Note that the connection has ended, and tell."""
        self.gone = True
        for call in tuple(self._told):
            call()


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; cancel it when the client disconnects. The body must have been read.

    The work runs in the request's own task. Our server calls back when a connection has ended; where another serves, a
    second task waits for that.

    Raises:
        ClientLeft: the client disconnected, or had done so before the work could begin.
    """
    departure: Departure | None = request.scope["state"].get(DEPARTURE)
    if departure is not None and departure.gone:
        work.close()
        raise ClientLeft
    working = asyncio.current_task()
    left = False

    def cancel(*_: object) -> None:
        nonlocal left
        if working is not None:
            left = True
            working.cancel()

    leaving = None
    if departure is not None:
        departure.tell(cancel)
    else:
        leaving = asyncio.create_task(_disconnect(request))
        leaving.add_done_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if left and working is not None and working.uncancel() == 0:
            raise ClientLeft from None
        raise
    finally:
        if departure is not None:
            departure.forget(cancel)
        if leaving is not None:
            leaving.remove_done_callback(cancel)
            leaving.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
