"""GET /v1/decisions/{id}/similar: earlier decisions whose images look alike."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from gateway.api.dependencies import ServicesDep
from gateway.api.parameters import known_parameters
from gateway.api.review.decisions import out
from gateway.api.schemas.reviews import SimilarOut
from gateway.api.store_calls import stored
from gateway.errors import NotFound

NO_VECTORS = "This decision was logged without vectors: set DECISION_VECTORS=true to keep those of later ones."

router = APIRouter(tags=["decisions"], dependencies=[Depends(known_parameters)])


@router.get("/v1/decisions/{decision_id}/similar", summary="Similar decisions", response_model=SimilarOut)
async def similar(services: ServicesDep, decision_id: str, limit: Annotated[int, Query(ge=1, le=50)] = 8) -> Response:
    """Return the decisions whose images are most similar by the vector of their first view, which lists' have not.

    The newest `SIMILAR_DECISIONS` with vectors of the same model are searched.
    """
    record = await stored(services.decisions.read(decision_id))
    if record is None:
        raise NotFound("There is no such decision.")
    found = await stored(services.review.similar.search(record[0], limit))
    answer: dict[str, Any] = {"data": [], "searched": 0, "hint": NO_VECTORS}
    if found is not None:
        rows = [{"similarity": cosine, "decision": out(each)} for cosine, each in found.found]
        answer = {"data": rows, "searched": found.searched, "hint": None}
    return Response(orjson.dumps(answer), media_type="application/json")
