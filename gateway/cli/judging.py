"""Asks a running gateway about many images, several at a time, and tries busy answers again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from gateway.cli.connection import Connection
from gateway.cli.sources import Source, external_id

TRIES = 6
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
REACHING_TRIES = 3
BUSY = frozenset({408, 429, 503, 504})

T = TypeVar("T")
Line = dict[str, Any]
"""What the gateway said of one image: ``source`` and the API's result, or ``source`` and ``error``."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of every image.

    Attributes:
        route: of the API.
        fields: of every request.
        external_id: template of each image's ``external_id``; None sends none.
        concurrency: requests at a time.
        timeout_s: of one request.
    """

    route: str
    fields: dict[str, Any]
    external_id: str | None
    concurrency: int
    timeout_s: float


async def judge(
    connection: Connection,
    asked: Query,
    sources: Sequence[Source],
    take: Callable[[Line], None],
    transport: httpx2.AsyncBaseTransport | None = None,
) -> None:
    """Ask about each source and hand its line over, in the order of the answers.

    Args:
        connection: the gateway.
        asked: what is asked.
        sources: each is one request.
        take: is given every line.
        transport: instead of the network.

    Raises:
        httpx2.TransportError: the gateway cannot be reached.
    """

    async def one(client: httpx2.AsyncClient, source: Source) -> None:
        take(await ask(client, asked, source))

    await side_by_side(connection, asked.concurrency, asked.timeout_s, sources, one, transport)


async def side_by_side(
    connection: Connection,
    concurrency: int,
    timeout_s: float,
    items: Iterable[T],
    one: Callable[[httpx2.AsyncClient, T], Awaitable[None]],
    transport: httpx2.AsyncBaseTransport | None = None,
) -> None:
    """Work on each item with one client, several at a time; the first fault ends all."""
    queue = iter(items)
    async with httpx2.AsyncClient(
        base_url=connection.address, timeout=timeout_s, headers=connection.headers, transport=transport
    ) as client:

        async def work() -> None:
            for item in queue:
                await one(client, item)

        workers = [asyncio.create_task(work()) for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


async def ask(client: httpx2.AsyncClient, asked: Query, source: Source) -> Line:
    """Return one image's line. Busy answers and broken connections are tried again.

    Raises:
        httpx2.TransportError: the gateway cannot be reached.
    """
    named: Line = {"source": source.location}
    fields = dict(asked.fields)
    if asked.external_id is not None:
        fields["external_id"] = named["external_id"] = external_id(asked.external_id, source)
    content = b""
    if not source.is_url:
        try:
            content = await asyncio.to_thread(Path(source.location).read_bytes)
        except OSError as fault:
            return {**named, "error": {"code": "unreadable_file", "detail": fault.strerror}}
    try:
        answer = await answered(lambda: _post(client, asked.route, fields, source, content))
    except httpx2.ReadTimeout:  # it may be this image's: others may fare better
        return {**named, "error": {"code": "no_answer", "detail": f"none in {asked.timeout_s:g} s"}}
    return {**named, **_read(answer)}


async def answered(post: Callable[[], Awaitable[httpx2.Response]]) -> httpx2.Response:
    """Return the answer of a request that may be sent several times: busy answers and broken connections are.

    Raises:
        httpx2.TransportError: no answer came, at the last try either.
    """
    attempt = 0
    while True:
        attempt += 1
        pause_s = FIRST_PAUSE_S * 2 ** (attempt - 1)
        try:
            answer = await post()
        except httpx2.TransportError:
            if attempt >= REACHING_TRIES:
                raise
            await asyncio.sleep(pause_s)  # a connection that broke, a gateway that starts again
            continue
        if answer.status_code not in BUSY or attempt >= TRIES:
            return answer
        given = answer.headers.get("retry-after", "")
        await asyncio.sleep(min(LONGEST_PAUSE_S, float(given) if given.isdecimal() else pause_s))


async def _post(
    client: httpx2.AsyncClient, route: str, fields: Line, source: Source, content: bytes
) -> httpx2.Response:
    if source.is_url:
        return await client.post(route, json={**fields, "images": [{"url": source.location}]})
    # Not under the file's own name: it may hold what no header can.
    return await client.post(route, files={"file": ("image", content)}, data={"options": json.dumps(fields)})


def _read(answer: httpx2.Response) -> Line:
    """Return the model and the one result of an answer, or its error."""
    try:
        body = answer.json()
    except ValueError:
        return {"error": {"code": "no_json", "detail": f"status {answer.status_code}"}}
    if answer.status_code != httpx2.codes.OK and isinstance(body, dict):
        return {"error": body}
    try:
        model, result = body["model"], dict(body["results"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return {"error": {"code": "no_gateway", "detail": f"status {answer.status_code}, another form"}}
    result.pop("index", None)
    elapsed_ms = (body.get("timings_ms") or {}).get("total")
    return {"model": model, **result, "elapsed_ms": elapsed_ms}
