"""POST /v1/classify."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from gateway.deadline import Deadline
from gateway.errors import GatewayError, InvalidRequest, ServiceError
from gateway.intake import Base64, ImageRequest, Upload, Url
from gateway.labels import LabelRequest
from gateway.pipeline import Evidence, Judgement, Question
from gateway.routes.body import BodyRules, RawBody, form_fields, read_body, validated
from gateway.routes.leaving import unless_client_leaves
from gateway.routes.openapi import request_body
from gateway.routes.problems import problem
from gateway.routes.services import Services
from gateway.schemas import ClassifyBody, ClassifyFields, ClassifyForm, ClassifyResponse, ImageIn
from gateway.scoring import Floats, TextMatrix

LISTS = frozenset({"labels", "templates", "negatives", "include", "url"})
FILES = frozenset({"file"})

router = APIRouter()


@router.post(
    "/v1/classify",
    summary="Score pictures against words",
    response_model=ClassifyResponse,
    openapi_extra=request_body(ClassifyBody, ClassifyForm),
    tags=["images"],
)
async def classify(request: Request) -> Response:
    """Score each picture against the labels: a softmax over them all, or each label against its negatives.

    One picture: a failure is the response itself. Several: each failed picture carries its own problem, and the others
    are complete.
    """
    services: Services = request.state.services
    start = time.perf_counter()
    with services.admission.request() as reservation:
        body = await read_body(request, services.body_rules, reservation)
        fields, images = read_question(body, services.body_rules)
        question = Question(label_request(fields, services), fields.views)
        deadline = Deadline.after(services.request_timeout_s)
        text, judged, text_s = await unless_client_leaves(
            request, services.pipeline.classify(images, question, deadline)
        )
        for judgement in judged:
            if judgement.error is not None and len(judged) > 1:
                services.metrics.errors.labels(judgement.error.code).inc()
        raise_if_all_failed(judged)
        request_id = request.state.request_id
        answer = {
            "request_id": request_id,
            "model": model_reference(services),
            "classifier": None,
            "mode": fields.mode,
            "results": [result(judgement, text, fields, request_id) for judgement in judged],
            "timings_ms": timings(judged, text_s, time.perf_counter() - start),
        }
        return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def read_question(body: RawBody, rules: BodyRules) -> tuple[ClassifyFields, list[ImageRequest]]:
    """Return the checked fields and the pictures of either kind of body.

    Raises:
        RequestError: a field or the number of pictures is wrong.
    """
    fields: ClassifyFields
    if body.json is not None:
        checked = validated(ClassifyBody, body.json)
        fields, images = checked, [image_request(image) for image in checked.images]
    else:
        given = form_fields(body.parts, LISTS, FILES, rules.max_json_bytes)
        form = validated(ClassifyForm, given)
        fields = form
        images = [ImageRequest(Upload(part.content)) for part in body.parts if part.name in FILES]
        images += [ImageRequest(Url(url)) for url in form.url]
    if not images:
        raise InvalidRequest("No image given: send file parts, url fields, or “images” in JSON.")
    if len(images) > rules.max_images:
        raise InvalidRequest(f"{len(images)} images given; at most {rules.max_images} are accepted in a request.")
    return fields, images


def image_request(image: ImageIn) -> ImageRequest:
    """Return the picture that a JSON entry names."""
    if image.base64 is not None:
        return ImageRequest(Base64(image.base64), image.id)
    return ImageRequest(Url(image.url or ""), image.id)


def label_request(fields: ClassifyFields, services: Services) -> LabelRequest:
    """Return the words to ask for, with the bundle's templates and negatives where none are given."""
    templates = services.manifest.templates if fields.templates is None else tuple(fields.templates)
    negatives: tuple[str, ...] = ()
    if fields.mode == "independent":
        negatives = services.manifest.negatives if fields.negatives is None else tuple(fields.negatives)
    return LabelRequest(tuple(fields.labels), templates, negatives, fields.mode)


def raise_if_all_failed(judged: list[Judgement]) -> None:
    """Raise the error of the only picture, or the one fault of the service that failed every picture."""
    errors = [judgement.error for judgement in judged if judgement.error is not None]
    if len(errors) < len(judged):
        return
    codes = {error.code for error in errors}
    if len(judged) == 1 or (len(codes) == 1 and isinstance(errors[0], ServiceError)):
        raise errors[0]


def model_reference(services: Services) -> dict[str, Any]:
    """Return which model answers."""
    model = services.manifest.model
    return {"id": model.id, "bundle_id": services.manifest.bundle_id, "demo": model.demo, "random": model.random}


def result(judgement: Judgement, text: TextMatrix, fields: ClassifyFields, request_id: str) -> dict[str, Any]:
    """Return one picture's part of the answer."""
    answer: dict[str, Any] = {"index": judgement.index, "id": judgement.id, "image": None, "scores": None}
    answer["error"] = failure(judgement.error, request_id)
    evidence = judgement.evidence
    if evidence is None:
        return answer
    info = evidence.info
    answer["image"] = {
        "sha256": info.sha256,
        "format": info.format,
        "width": info.width,
        "height": info.height,
        "frames": info.frames,
        "frames_analyzed": info.frames_analyzed,
    }
    with_similarity = "similarity" in fields.include
    answer["scores"] = ranked(text.labels, *evidence.scores.mean(), fields.top_k, with_similarity=with_similarity)
    if "embedding" in fields.include:
        answer["embedding"] = np.ascontiguousarray(evidence.vectors[0])
    if "views" in fields.include:
        answer["views"] = views(evidence, text, fields.top_k, with_similarity=with_similarity)
    return answer


def views(evidence: Evidence, text: TextMatrix, top_k: int | None, *, with_similarity: bool) -> list[dict[str, Any]]:
    """Return the scores of each view of each frame."""
    rows = zip(evidence.places, evidence.scores.probabilities, evidence.scores.similarities, strict=True)
    return [
        {
            "view": place.name,
            "box": place.box,
            "frame_ms": place.frame_ms,
            "scores": ranked(text.labels, probabilities, similarities, top_k, with_similarity=with_similarity),
        }
        for place, probabilities, similarities in rows
    ]


def ranked(
    labels: tuple[str, ...], scores: Floats, similarities: Floats, top_k: int | None, *, with_similarity: bool
) -> list[dict[str, Any]]:
    """Return labels with scores [L] and similarities [L], best first; ties keep the order in which they were given."""
    order = np.argsort(-scores, kind="stable")[:top_k].tolist()
    values = scores.tolist()
    if not with_similarity:
        return [{"label": labels[position], "score": values[position]} for position in order]
    near = similarities.tolist()
    return [{"label": labels[position], "score": values[position], "similarity": near[position]} for position in order]


def failure(error: GatewayError | None, request_id: str) -> dict[str, Any] | None:
    """Return an item's problem document, or None."""
    return None if error is None else problem(error, request_id)


def timings(judged: list[Judgement], text_s: float, total_s: float) -> dict[str, float]:
    """Return milliseconds by stage: of several pictures the slowest, since they run side by side."""
    slowest = {"intake": 0.0, "decode": 0.0, "views": 0.0, "text": text_s, "encode": 0.0, "score": 0.0}
    for judgement in judged:
        for stage, elapsed in judgement.elapsed_s.items():
            slowest[stage] = max(slowest[stage], elapsed)
    return {stage: round(elapsed * 1e3, 3) for stage, elapsed in {**slowest, "total": total_s}.items()}
