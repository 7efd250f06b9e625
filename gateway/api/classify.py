"""POST /v1/classify."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.images import read_fields
from gateway.api.body.reader import BodyRules, RawBody, read_body
from gateway.api.dependencies import Services
from gateway.api.disconnect import unless_client_leaves
from gateway.api.openapi import request_body
from gateway.api.problems import problem
from gateway.api.schemas.requests import ClassifyBody, ClassifyFields, ClassifyForm
from gateway.api.schemas.responses import ClassifyResponse
from gateway.decoding.decoder import ImageInfo
from gateway.errors import GatewayError, ServiceError
from gateway.fetching.image_source import ImageRequest
from gateway.inference.prompts import LabelRequest
from gateway.inference.scoring import Floats, Scores, TextMatrix
from gateway.limits.deadline import Deadline
from gateway.moderation.classifiers import Calibration
from gateway.moderation.policy import calibrated
from gateway.observability.metrics import Metrics
from gateway.observability.stage_timer import StageTimer
from gateway.pipeline import ImageOutcome

LISTS = frozenset({"labels", "templates", "negatives", "include", "url"})

router = APIRouter()


@router.post(
    "/v1/classify",
    summary="Score images against words",
    response_model=ClassifyResponse,
    openapi_extra=request_body(ClassifyBody, ClassifyForm),
    tags=["images"],
)
async def classify(request: Request) -> Response:
    """Score each image against the labels: a softmax over them all, or each label against its negatives.

    One image: a failure is the response itself. Several: each failed image carries its own problem, and the others
    are complete.
    """
    services: Services = request.state.services
    start = time.perf_counter()
    with services.admission.request() as reservation:
        fields, images = read_question(await read_body(request, services.body_rules, reservation), services.body_rules)
        request.state.images = len(images)
        deadline = Deadline.after(services.request_timeout_s)
        timer = StageTimer()
        question, looks = await unless_client_leaves(request, ask(fields, images, services, timer, deadline))
        count_errors(looks, services.metrics)
        raise_if_all_failed(looks)
        request_id = request.state.request_id
        results = [result(look, question, fields, services, request_id) for look in looks]
        answer = {
            "request_id": request_id,
            "model": model_reference(services),
            "classifier": question.classifier,
            "mode": question.text.mode,
            "results": results,
            "timings_ms": timings(looks, timer.elapsed_s["text"], time.perf_counter() - start),
        }
        return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the words, each label's calibration, and the key of the classifier they came from."""

    text: TextMatrix
    calibrations: tuple[Calibration | None, ...]
    classifier: str | None


async def ask(
    fields: ClassifyFields, images: list[ImageRequest], services: Services, timer: StageTimer, deadline: Deadline
) -> tuple[Question, list[ImageOutcome]]:
    """Return the question with its text side computed, and a look at every image.

    Raises:
        RequestError: the question cannot be asked.
        ServiceError: the text side could not be computed.
    """
    with timer.stage("text"):
        if fields.classifier is not None:
            bound = await services.catalog.classifier(fields.classifier, deadline)
            question = Question(bound.matrix, bound.calibrations, bound.key)
        else:
            text = await services.text.matrix(label_request(fields, services), deadline)
            question = Question(text, (None,) * len(text.labels), None)
    services.metrics.observe_stages(timer.elapsed_s)
    return question, await services.pipeline.run(images, frozenset({fields.views}), deadline)


def read_question(body: RawBody, rules: BodyRules) -> tuple[ClassifyFields, list[ImageRequest]]:
    """Return the checked fields and the images of either kind of body.

    Raises:
        RequestError: a field or the number of images is wrong.
    """
    return read_fields(body, rules, ClassifyBody, ClassifyForm, LISTS)


def label_request(fields: ClassifyFields, services: Services) -> LabelRequest:
    """Return the words to ask for, with the bundle's templates and negatives where none are given."""
    templates = services.manifest.templates if fields.templates is None else tuple(fields.templates)
    negatives: tuple[str, ...] = ()
    if fields.mode == "independent":
        negatives = services.manifest.negatives if fields.negatives is None else tuple(fields.negatives)
    return LabelRequest(tuple(fields.labels), templates, negatives, fields.mode)


def count_errors(looks: Sequence[ImageOutcome], metrics: Metrics) -> None:
    """Count the errors of batch items; that of an only image is counted where it becomes the response."""
    for look in looks:
        if look.error is not None and len(looks) > 1:
            metrics.errors.labels(look.error.code).inc()


def raise_if_all_failed(looks: Sequence[ImageOutcome]) -> None:
    """Raise the error of the only image, or the one fault of the service that failed every image."""
    errors = [look.error for look in looks if look.error is not None]
    if len(errors) < len(looks):
        return
    codes = {error.code for error in errors}
    if len(looks) == 1 or (len(codes) == 1 and isinstance(errors[0], ServiceError)):
        raise errors[0]


def model_reference(services: Services) -> dict[str, Any]:
    """Return which model answers."""
    model = services.manifest.model
    return {"id": model.id, "bundle_id": services.manifest.bundle_id, "demo": model.demo, "random": model.random}


def result(
    look: ImageOutcome, question: Question, fields: ClassifyFields, services: Services, request_id: str
) -> dict[str, Any]:
    """Return one image's part of the answer."""
    answer: dict[str, Any] = {"index": look.index, "id": look.id, "image": None, "scores": None}
    answer["error"] = failure(look.error, request_id)
    scores = services.pipeline.score(look, question.text)
    if look.prepared is None or look.vectors is None or scores is None:
        return answer
    answer["image"] = image_out(look.prepared.info)
    scores = Scores(calibrated(scores.probabilities, question.calibrations), scores.similarities)
    with_similarity = "similarity" in fields.include
    labels = question.text.labels
    answer["scores"] = ranked(labels, *scores.mean(), fields.top_k, with_similarity=with_similarity)
    if "embedding" in fields.include:
        answer["embedding"] = np.ascontiguousarray(look.vectors[0])
    if "views" in fields.include:
        rows = zip(look.prepared.places, scores.probabilities, scores.similarities, strict=True)
        answer["views"] = [
            {
                "view": place.view,
                "box": place.box,
                "frame_ms": place.frame_ms,
                "scores": ranked(labels, probabilities, near, fields.top_k, with_similarity=with_similarity),
            }
            for place, probabilities, near in rows
        ]
    return answer


def image_out(info: ImageInfo) -> dict[str, Any]:
    """Return what was looked at."""
    return {
        "sha256": info.sha256,
        "format": info.format,
        "width": info.width,
        "height": info.height,
        "frames": info.frames,
        "frames_analyzed": info.frames_analyzed,
    }


def ranked(
    labels: tuple[str, ...], scores: Floats, similarities: Floats, top_k: int | None, *, with_similarity: bool
) -> orjson.Fragment:
    """Return labels with scores [L] and similarities [L], best first; ties keep the order in which they were given.

    It is JSON already: of 1,000 labels the objects would take longer to make than their logits.
    """
    order = np.argsort(-scores, kind="stable")[:top_k]
    # Within a string of JSON a quote has a backslash before it, so that only the ends of strings are found.
    words = orjson.dumps([labels[position] for position in order.tolist()])[2:-2].split(b'","')
    columns = [repeat(b'{"label":"'), words, repeat(b'","score":'), _numbers(scores[order])]
    if with_similarity:
        columns += [repeat(b',"similarity":'), _numbers(similarities[order])]
    rows = zip(*columns, repeat(b"},"))
    return orjson.Fragment(b"[" + b"".join(chain.from_iterable(rows))[:-1] + b"]")


def _numbers(values: Floats) -> list[bytes]:
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


def failure(error: GatewayError | None, request_id: str) -> dict[str, Any] | None:
    """Return an item's problem document, or None."""
    return None if error is None else problem(error, request_id)


def timings(looks: Sequence[ImageOutcome], text_s: float, total_s: float) -> dict[str, float]:
    """Return milliseconds by stage: of several images the slowest, since they run side by side."""
    slowest = {"intake": 0.0, "decode": 0.0, "views": 0.0, "text": text_s, "encode": 0.0, "score": 0.0}
    for look in looks:
        for stage, elapsed in look.elapsed_s.items():
            slowest[stage] = max(slowest.get(stage, 0.0), elapsed)
    return {stage: round(elapsed * 1e3, 3) for stage, elapsed in {**slowest, "total": total_s}.items()}
