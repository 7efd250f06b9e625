"""POST /v1/classify."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.images import read_fields
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.disconnect import unless_client_leaves
from gateway.api.image_results import heatmap_json, image_json, images_response, raise_or_count_errors
from gateway.api.openapi import EXAMPLE_IMAGE, request_body
from gateway.api.schemas.requests import ClassifyBody, ClassifyFields, ClassifyForm
from gateway.api.schemas.responses import ClassifyResponse
from gateway.decoding.preprocess import PreprocessedImage
from gateway.errors import InvalidRequest
from gateway.fetching.image_source import ImageRequest
from gateway.inference.explanation import Explain, Explained
from gateway.inference.heads import Head
from gateway.inference.prompts import LabelRequest
from gateway.inference.scoring import Floats, Scores, TextMatrix, best_similarity, score
from gateway.inference.triton import Vectors
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundClassifier
from gateway.moderation.verdict_json import place_json
from gateway.observability.stage_timer import StageTimer
from gateway.pipeline import ImageOutcome

router = APIRouter()


@router.post(
    "/v1/classify",
    summary="Score images against words",
    response_model=ClassifyResponse,
    openapi_extra=request_body(
        ClassifyBody,
        {"images": [EXAMPLE_IMAGE], "labels": ["a red circle", "a blue square"]},
        ClassifyForm,
    ),
    tags=["images"],
)
async def classify(request: Request, services: ServicesDep) -> Response:
    """Score each image against the labels: a softmax over them all, or each label against its negatives.

    One image: a failure is the response itself. Several: each failed image carries its own problem, and the others
    are complete.
    """
    started_s = time.perf_counter()
    with services.admission.request() as reservation:
        fields, images = await read_fields(request, services.body_rules, reservation, ClassifyBody, ClassifyForm)
        request.state.images = len(images)
        deadline = Deadline.after(services.request_timeout_s)
        timer = StageTimer()
        running = classified(fields, images, services, timer, deadline)
        labels, outcomes = await unless_client_leaves(request, running)
        raise_or_count_errors(outcomes, services.metrics)
        results = [result(outcome, labels, fields, services, request.state.request_id) for outcome in outcomes]
        return images_response(
            request,
            outcomes,
            results,
            text_s=timer.elapsed_s["text"],
            started_s=started_s,
            classifier=labels.classifier and labels.classifier.key,
            mode=labels.text.mode,
        )


@dataclass(frozen=True, slots=True)
class LabelsToScore:
    """The labels as vectors or a head, and the classifier that they come from."""

    text: TextMatrix | Head
    classifier: BoundClassifier | None

    def calibrated(self, probabilities: Floats) -> Floats:
        """Return probabilities [V, L] as the classifier calibrates them; words of a request have no calibration."""
        return probabilities if self.classifier is None else self.classifier.calibrated(probabilities)


async def classified(
    fields: ClassifyFields, images: list[ImageRequest], services: Services, timer: StageTimer, deadline: Deadline
) -> tuple[LabelsToScore, list[ImageOutcome]]:
    """Look the labels up, and run the images.

    Raises:
        RequestError: the labels cannot be used, or there is no such classifier.
        ServiceError: the labels' vectors could not be computed.
    """
    with timer.stage("text"):
        labels = await labels_to_score(fields, services, deadline)
    services.metrics.observe_stages(timer.elapsed_s)
    explain = explain_label(labels, fields, services) if "heatmap" in fields.include else None
    return labels, await services.pipeline.run(images, frozenset({fields.views}), deadline, explain=explain)


def explain_label(labels: LabelsToScore, fields: ClassifyFields, services: Services) -> Explain:
    """Return what heat maps are to explain: a label in the view where it scores best; by default the best label.

    Raises:
        InvalidRequest: there is no such label.
    """
    if fields.heatmap_of is not None and fields.heatmap_of not in labels.text.labels:
        raise InvalidRequest("Field “heatmap_of” names none of the labels.")

    def probabilities(vectors: Vectors) -> Floats:
        scores = score(vectors, labels.text, services.manifest.logit_scale)
        return labels.calibrated(scores.probabilities)

    def explain(_: PreprocessedImage, vectors: Vectors) -> Explained:
        by_view = probabilities(vectors)
        name = fields.heatmap_of
        column = int(by_view.mean(axis=0).argmax()) if name is None else labels.text.labels.index(name)
        row = int(by_view[:, column].argmax())
        return Explained(labels.text.labels[column], row, lambda rows: probabilities(rows)[:, column])

    return explain


async def labels_to_score(fields: ClassifyFields, services: Services, deadline: Deadline) -> LabelsToScore:
    """Return the labels of a saved classifier, or those of the request."""
    if fields.classifier is not None:
        bound = await services.catalog.classifier(fields.classifier, deadline)
        if "similarity" in fields.include and isinstance(bound.matrix, Head):
            raise InvalidRequest(f"“{bound.key}” is a head, which compares with no words: there is no similarity.")
        return LabelsToScore(bound.matrix, bound)
    return LabelsToScore(await services.text.matrix(label_request(fields, services), deadline), None)


def label_request(fields: ClassifyFields, services: Services) -> LabelRequest:
    """Return the words to ask for, with the bundle's templates and negatives where none are given."""
    templates = services.manifest.templates if fields.templates is None else tuple(fields.templates)
    negatives: tuple[str, ...] = ()
    if fields.mode == "independent":
        negatives = services.manifest.negatives if fields.negatives is None else tuple(fields.negatives)
    return LabelRequest(tuple(fields.labels), templates, negatives, fields.mode)


def result(
    outcome: ImageOutcome, labels: LabelsToScore, fields: ClassifyFields, services: Services, request_id: str
) -> dict[str, Any]:
    """Return one image's part of the answer."""
    answer = {**image_json(outcome, request_id), "scores": None}
    if "heatmap" in fields.include:
        answer["heatmap"] = outcome.heat and heatmap_json(outcome.heat, "label")
    scores = services.pipeline.score(outcome, labels.text)
    if outcome.prepared is None or outcome.vectors is None or scores is None:
        return answer
    least = None if labels.classifier is None else labels.classifier.none_below
    if least is not None and scores.similarities is not None:
        answer["none_of_these"] = best_similarity(scores.similarities) < least
    scores = Scores(labels.calibrated(scores.probabilities), scores.similarities)
    if "similarity" not in fields.include:
        scores = Scores(scores.probabilities, None)
    names = labels.text.labels
    answer["scores"] = ranked(names, *scores.mean(), fields.top_k)
    if "embedding" in fields.include:
        answer["embedding"] = np.ascontiguousarray(outcome.vectors[0])
    if "views" in fields.include:
        near = repeat(None) if scores.similarities is None else scores.similarities
        rows = zip(outcome.prepared.places, scores.probabilities, near, strict=False)
        answer["views"] = [
            {**place_json(place), "scores": ranked(names, probabilities, similarities, fields.top_k)}
            for place, probabilities, similarities in rows
        ]
    return answer


def ranked(
    labels: tuple[str, ...], scores: Floats, similarities: Floats | None, top_k: int | None
) -> list[dict[str, Any]]:
    """Return labels with scores [L] and, if given, similarities [L], best first; ties keep the order given."""
    rows = []
    for position in np.argsort(-scores, kind="stable")[:top_k]:
        row = {"label": labels[position], "score": scores[position]}
        if similarities is not None:
            row["similarity"] = similarities[position]
        rows.append(row)
    return rows
