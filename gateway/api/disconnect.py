"""A client that leaves: its work is cancelled, down to the inference."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

T = TypeVar("T")


class ClientLeft(Exception):
    """The client closed the connection before its answer."""


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; cancel it when the client disconnects. The body must have been read.

    The work runs in the request's own task; a second one waits for the disconnect.

    Raises:
        ClientLeft: the client disconnected, or had done so before the work could begin.
    """
    if await request.is_disconnected():
        work.close()
        raise ClientLeft
    working = asyncio.current_task()
    left = False

    def cancel(_: asyncio.Task[None]) -> None:
        nonlocal left
        if working is not None:
            left = True
            working.cancel()

    leaving = asyncio.create_task(_disconnect(request))
    leaving.add_done_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if left and working is not None and working.uncancel() == 0:
            raise ClientLeft from None
        raise
    finally:
        leaving.remove_done_callback(cancel)
        leaving.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
