"""``Idempotency-Key`` of requests that decide: its header, and the answer to a repeated request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Header
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.requests import Request

from gateway.api.authorization import key_name
from gateway.api.dependencies import Services
from gateway.errors import HttpMalformed
from gateway.fetching.image_source import ImageRequest
from gateway.moderation.idempotency import MAX_KEY_CHARS, Attempt, fingerprint_of

HEADER = "Idempotency-Key"
SAID = (
    "Yours, one for each request, up to 255 visible characters. A request that is sent again under it, within "
    "`IDEMPOTENCY_RETENTION_HOURS`, gets the answer of the first, and nothing is decided anew."
)


async def idempotency_key(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(alias=HEADER, min_length=1, max_length=MAX_KEY_CHARS, pattern=r"^[\x21-\x7e]+$", description=SAID),
    ] = None,
) -> str | None:
    """Return the key under which a request may be repeated; for ``Depends``.

    Raises:
        HttpMalformed: there are several.
    """
    if len(request.headers.getlist(HEADER)) > 1:
        raise HttpMalformed(f"{HEADER} is given twice.")
    return idempotency_key


IdempotencyKeyDep = Annotated[str | None, Depends(idempotency_key)]


@asynccontextmanager
async def attempt_of(
    request: Request,
    services: Services,
    key: str | None,
    fields: BaseModel,
    images: Sequence[ImageRequest],
    external_id: str | None = None,
) -> AsyncIterator[Attempt]:
    """Yield the attempt that a request is under its key, or without one.

    Raises:
        GatewayError: as ``Idempotency.attempt``.
    """
    asked = ""
    if key is not None:
        asked = await asyncio.to_thread(fingerprint_of, request.scope["path"], repr(fields), images)
    ids = {one for one in (external_id, *(image.external_id for image in images)) if one is not None}
    async with services.idempotency.attempt(key, key_name(request), asked, ids) as attempt:
        yield attempt


def answered_before(answer: bytes) -> Response:
    """Return the answer of the first request once more."""
    return Response(answer, headers={"Idempotent-Replayed": "true"}, media_type="application/json")
