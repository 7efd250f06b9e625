"""POST /v1/moderate."""

from __future__ import annotations

import time
from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.authorization import key_name
from gateway.api.body.images import read_fields
from gateway.api.body.reader import BodyRules, RawBody, read_body
from gateway.api.classify import count_errors, failure, image_out, model_reference, raise_if_all_failed, timings
from gateway.api.dependencies import Services
from gateway.api.disconnect import unless_client_leaves
from gateway.api.openapi import request_body
from gateway.api.schemas.requests import ModerateBody, ModerateFields, ModerateForm
from gateway.api.schemas.responses import ModerateResponse
from gateway.fetching.image_source import ImageRequest
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.moderator import Moderated
from gateway.moderation.verdicts import policy_out, shadow_out, verdict_out
from gateway.observability.stage_timer import StageTimer

router = APIRouter()


@router.post(
    "/v1/moderate",
    summary="Decide about images by a policy",
    response_model=ModerateResponse,
    openapi_extra=request_body(ModerateBody, ModerateForm),
    tags=["images"],
)
async def moderate(request: Request) -> Response:
    """Decide about each image by a policy: allow, review or block, with the reasons.

    The decision is the strictest of the rules that fire, over the whole image and the frames of an animation.
    """
    services: Services = request.state.services
    start = time.perf_counter()
    with services.admission.request() as reservation:
        fields, images = read_question(await read_body(request, services.body_rules, reservation), services.body_rules)
        request.state.images = len(images)
        deadline = Deadline.after(services.request_timeout_s)
        timer = StageTimer()
        with timer.stage("text"):
            policy = await services.catalog.policy(fields.policy, deadline)
            shadow = await services.catalog.policy(fields.shadow, deadline) if fields.shadow else None
        request_id = request.state.request_id
        judged = await unless_client_leaves(
            request,
            services.moderator.moderate(
                images,
                policy,
                shadow,
                external_id=fields.external_id,
                request_id=request_id,
                key_name=key_name(request),
                deadline=deadline,
            ),
        )
        looks = [item.look for item in judged]
        count_errors(looks, services.metrics)
        raise_if_all_failed(looks)
        answer = {
            "request_id": request_id,
            "model": model_reference(services),
            "results": [result(item, policy, request_id) for item in judged],
            "timings_ms": timings(looks, timer.elapsed_s["text"], time.perf_counter() - start),
        }
        return Response(orjson.dumps(answer), media_type="application/json")


def read_question(body: RawBody, rules: BodyRules) -> tuple[ModerateFields, list[ImageRequest]]:
    """Return the checked fields and the images of either kind of body.

    Raises:
        RequestError: a field or the number of images is wrong.
    """
    return read_fields(body, rules, ModerateBody, ModerateForm, frozenset({"url"}))


def result(item: Moderated, policy: BoundPolicy, request_id: str) -> dict[str, Any]:
    """Return one image's part of the answer."""
    look = item.look
    answer: dict[str, Any] = {
        "index": look.index,
        "id": look.id,
        "image": image_out(look.prepared.info) if look.prepared else None,
        "decision_id": item.decision_id,
        "decision": None,
        "categories": None,
        "policy": policy_out(policy),
        "attributes": {},
        "shadow": shadow_out(item.shadow),
        "warnings": [],
        "error": failure(look.error, request_id),
    }
    if item.verdict is not None:
        answer |= verdict_out(item.verdict)
    return answer
