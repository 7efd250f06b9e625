"""POST /v1/moderate."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.authorization import key_name
from gateway.api.body.images import read_fields
from gateway.api.body.repeats import IdempotencyKeyDep, answered_before, attempt_of
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.disconnect import unless_client_leaves
from gateway.api.image_results import heatmap_json, image_json, images_response, raise_or_count_errors
from gateway.api.openapi import EXAMPLE_IMAGE, request_body
from gateway.api.schemas.requests import ModerateBody, ModerateFields, ModerateForm
from gateway.api.schemas.responses import ModerateResponse
from gateway.errors import InvalidRequest
from gateway.inference.explanation import Explain
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.explanation import explain_category
from gateway.moderation.moderator import Answering, Moderated, RequestOrigin
from gateway.moderation.rollout import Judges
from gateway.moderation.verdict_json import check_views_fit, verdict_json, views_json
from gateway.observability.stage_timer import StageTimer

router = APIRouter()


@router.post(
    "/v1/moderate",
    summary="Decide about images by a policy",
    response_model=ModerateResponse,
    openapi_extra=request_body(ModerateBody, {"images": [EXAMPLE_IMAGE], "policy": "default"}, ModerateForm),
    tags=["images"],
)
async def moderate(request: Request, services: ServicesDep, key: IdempotencyKeyDep) -> Response:
    """Decide about each image by a policy: allow, review or block, with the reasons.

    The decision is the strictest of the rules that fire, over the whole image and the frames of an animation.
    """
    started_s = time.perf_counter()
    with services.admission.request() as reservation:
        fields, images = await read_fields(request, services.body_rules, reservation, ModerateBody, ModerateForm)
        request.state.images = len(images)
        external_id = fields.external_id if isinstance(fields, ModerateBody) else None  # of a form: each image's own
        async with attempt_of(request, services, key, fields, images, external_id) as attempt:
            if attempt.answer is not None:
                return answered_before(attempt.answer)
            deadline = Deadline.after(services.request_timeout_s)
            timer = StageTimer()
            with timer.stage("text"):
                judges = await services.catalog.judges(fields.policy, fields.shadow, deadline)
            most = services.pipeline.max_inferences
            check_views_fit(judges.may_decide, most, services.manifest.embedding_dim, fields.include)

            def answer_of(moderated: list[Moderated]) -> bytes:
                outcomes = [item.outcome for item in moderated]
                results = [
                    {
                        **result(item, judges.policy, request.state.request_id),
                        **included(item, services.manifest.logit_scale, fields.include),
                        **heatmap(item, fields.include),
                    }
                    for item in moderated
                ]
                text_s = timer.elapsed_s["text"]
                return bytes(images_response(request, outcomes, results, text_s=text_s, started_s=started_s).body)

            origin = RequestOrigin(external_id, request.state.request_id, key_name(request))
            answering = Answering(attempt, answer_of)
            explain = explained(fields, judges, services) if "heatmap" in fields.include else None
            running = services.moderator.moderate(images, judges, origin, deadline, answering, explain)
            moderated = await unless_client_leaves(request, running)
            raise_or_count_errors([item.outcome for item in moderated], services.metrics)
            return Response(attempt.answer or answer_of(moderated), media_type="application/json")


def result(item: Moderated, policy: BoundPolicy, request_id: str) -> dict[str, Any]:
    """Return one image's part of the answer."""
    return {
        **image_json(item.outcome, request_id),
        "decision_id": item.decision_id,
        **verdict_json(item.verdict, item.shadow, policy),
    }


def included(item: Moderated, logit_scale: float, include: Collection[str]) -> dict[str, Any]:
    """Return the views of one image as a part of its answer, where they are asked for; a list's verdict has none."""
    if {"views", "embedding"}.isdisjoint(include) or item.verdict is None or item.outcome.prepared is None:
        return {}
    if item.outcome.matches or item.outcome.vectors is None:
        return {"views": []}
    places = item.outcome.prepared.places
    return {"views": views_json(item.verdict.policy, item.outcome.vectors, places, logit_scale, include)}


def heatmap(item: Moderated, include: Collection[str]) -> dict[str, Any]:
    """Return one image's heat map as a part of its answer, where it is asked for."""
    if "heatmap" not in include:
        return {}
    heat = item.outcome.heat
    return {"heatmap": heat and heatmap_json(heat, "category")}


def explained(fields: ModerateFields, judges: Judges, services: Services) -> Explain:
    """Return what heat maps are to explain.

    Raises:
        InvalidRequest: the policy has no such category.
    """
    category = fields.heatmap_of
    if category is not None and category not in {bound.rule.category for bound in judges.policy.rules}:
        raise InvalidRequest(f"Field “heatmap_of” names no category of the policy “{judges.policy.key}”.")
    return explain_category(judges, services.manifest.logit_scale, category)
