"""GET /v1/reviews/{id}/image: a still of what waits for review."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.authorization import actor_of
from gateway.api.dependencies import ServicesDep
from gateway.api.parameters import Text, known_parameters
from gateway.api.store_calls import stored
from gateway.errors import ImageGone, StorageUnavailable
from gateway.review.still_errors import StillStoreAway

MOST_STILLS = 16
AWAY = "The store of the stills does not answer. Try again later."

router = APIRouter(tags=["review"], dependencies=[Depends(known_parameters)])


@router.get(
    "/v1/reviews/{decision_id}/image",
    summary="A still of what waits for review",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def image_of(
    request: Request,
    services: ServicesDep,
    decision_id: str,
    still: Annotated[int, Query(ge=0, lt=MOST_STILLS, description="Which one of an animation, from 0.")] = 0,
    reviewer: Text = None,
) -> Response:
    """Return a still as JPEG, upright, without metadata, of bounded size; each view is a row of the audit.

    404 `image_gone` where none is kept: the operator keeps none, the decision was not for review, the store did not
    take it, it was deleted, its key is gone, or a list marked `withhold` knows the image.
    """
    gone = ImageGone("No image of this decision is kept.")
    images = services.review_images
    if images is None:
        raise gone
    try:
        jpeg = await stored(images.read(decision_id, still))
    except StillStoreAway:
        raise StorageUnavailable(AWAY, retry_after_s=1) from None
    if jpeg is None:
        raise gone
    detail = {"still": still, **({"reviewer": reviewer} if reviewer else {})}
    await stored(images.note_view(decision_id, actor=actor_of(request), detail=detail))
    disposition = f'inline; filename="{decision_id[:64]}-{still}.jpg"' if decision_id.isalnum() else "inline"
    return Response(jpeg, media_type="image/jpeg", headers={"Content-Disposition": disposition})
