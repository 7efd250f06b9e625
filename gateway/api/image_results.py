"""What the answers of classify and moderate share: the image, the model, the times, and which failure is the answer."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from typing import Any, Literal

import orjson
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.dependencies import Services
from gateway.api.problems import problem
from gateway.api.schemas.responses import ImageOut
from gateway.decoding.occlusion import HeatMap
from gateway.errors import ServiceError
from gateway.moderation.verdict_json import place_json
from gateway.observability.metrics import Metrics
from gateway.pipeline import ImageOutcome


def raise_or_count_errors(outcomes: Sequence[ImageOutcome], metrics: Metrics) -> None:
    """Raise the error that is the answer; otherwise count those of single images of a batch.

    Raises:
        GatewayError: the only image failed, or all failed by one fault of the service.
    """
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if len(outcomes) > 1:  # the error of an only image is counted where it becomes the response
        for error in errors:
            metrics.errors.labels(error.code).inc()
    if len(errors) < len(outcomes):
        return
    if len(outcomes) == 1 or (len({error.code for error in errors}) == 1 and isinstance(errors[0], ServiceError)):
        raise errors[0]


def image_json(outcome: ImageOutcome, request_id: str) -> dict[str, Any]:
    """Return what every result has: the image's place in the request, what was analyzed of it, or its problem."""
    info = outcome.prepared.info if outcome.prepared else None
    return {
        "index": outcome.index,
        "id": outcome.id,
        "image": info and {name: getattr(info, name) for name in ImageOut.model_fields},
        "error": outcome.error and problem(outcome.error, request_id),
    }


def heatmap_json(heat: HeatMap, kind: Literal["category", "label"]) -> dict[str, Any]:
    """Return which part of an image drove a score; of the view, its name, box and frame."""
    view = place_json(heat.place)
    return {
        kind: heat.of,
        "view": view["view"],
        "view_box": view["box"],
        "frame_ms": view["frame_ms"],
        "background": view["background"],
        "box": list(heat.box),
        "grid": heat.drops.round(4).tolist(),
        "png": base64.b64encode(heat.png).decode(),
    }


def images_response(
    request: Request,
    outcomes: Sequence[ImageOutcome],
    results: Sequence[dict[str, Any]],
    *,
    text_s: float,
    started_s: float,
    **more: Any,  # noqa: ANN401 - JSON values
) -> Response:
    """Return the response about several images.

    Args:
        request: answered.
        outcomes: of its images.
        results: one an image.
        text_s: seconds that the text side or the policy took.
        started_s: when the request's handler began, on the performance counter.
        more: fields of one route.
    """
    services: Services = request.state.services
    model = services.manifest.model
    answer = {
        "request_id": request.state.request_id,
        "model": {
            "id": model.id,
            "bundle_id": services.manifest.bundle_id,
            "demo": model.demo,
            "random": model.random,
        },
        **more,
        "results": results,
        "timings_ms": timings(outcomes, text_s, time.perf_counter() - started_s),
    }
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def timings(outcomes: Sequence[ImageOutcome], text_s: float, total_s: float) -> dict[str, float]:
    """Return milliseconds by stage: of several images the slowest, since they run side by side."""
    slowest = {"intake": 0.0, "decode": 0.0, "views": 0.0, "text": text_s, "encode": 0.0, "score": 0.0}
    for outcome in outcomes:
        for stage, elapsed in outcome.elapsed_s.items():
            slowest[stage] = max(slowest.get(stage, 0.0), elapsed)
    return {stage: round(elapsed * 1e3, 3) for stage, elapsed in {**slowest, "total": total_s}.items()}
