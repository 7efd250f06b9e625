"""A client that leaves: its work is cancelled, down to the inference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

T = TypeVar("T")
TELLS = "tells_of_leaving"  # in the request's state: what the server calls when the connection has ended


class ClientLeft(Exception):
    """The client closed the connection before its answer; nobody is there to be told."""


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; cancel it when the client disconnects. The body must have been read.

    The work runs in the request's own task. Our server calls back when a connection has ended; where another serves, a
    second task waits for that.

    Raises:
        ClientLeft: the client disconnected.
    """
    working = asyncio.current_task()
    left = False

    def cancel(*_: object) -> None:
        nonlocal left
        if working is not None:
            left = True
            working.cancel()

    tells: set[Callable[[], None]] | None = request.scope["state"].get(TELLS)
    leaving = None
    if tells is not None:
        tells.add(cancel)
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
        if tells is not None:
            tells.discard(cancel)
        if leaving is not None:
            leaving.remove_done_callback(cancel)
            leaving.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
