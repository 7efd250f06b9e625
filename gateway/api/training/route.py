"""POST /v1/classifiers/{name}/train: a head learned from examples, saved as a version if it is better than words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.classifiers_and_policies import out
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.disconnect import unless_client_leaves
from gateway.api.openapi import EXAMPLE_IMAGE, request_body
from gateway.api.schemas.training import MOST_LABELS, TrainBody, TrainedOut
from gateway.api.store_calls import ChangeDep, ResourceChange, changed
from gateway.api.training.gathering import Gatherer, Gathering
from gateway.errors import InvalidRequest
from gateway.inference.heads import Head, Output
from gateway.inference.prompts import check_words
from gateway.inference.scoring import TextMatrix
from gateway.limits.admission import Reservation
from gateway.limits.deadline import Deadline
from gateway.moderation.classifiers import Classifier, ClassifierLabel
from gateway.moderation.heads import HeadClassifier, HeadModel, form_of
from gateway.store.versions import Version
from gateway.training.examples import LEAST_EXAMPLES, LEAST_GROUPS, Examples, ZeroShot
from gateway.training.trainer import Training

SHOWN_SKIPPED = 100
EXAMPLE = {
    "labels": [{"label": "circles", "prompts": ["a red circle"]}],
    "examples": [{"labels": ["circles"], "image": EXAMPLE_IMAGE}],
}

router = APIRouter(tags=["policies"])


@router.post(
    "/v1/classifiers/{name}/train",
    summary="Learn a classifier from examples",
    response_model=TrainedOut,
    responses={201: {"model": TrainedOut}},
    openapi_extra=request_body(TrainBody, EXAMPLE),
)
async def train(request: Request, services: ServicesDep, change: ChangeDep, *, activate: bool = False) -> Response:
    """Train a head on images, embeddings and reviewed decisions, and save it as the classifier's next version.

    The version is a draft unless `activate` is true. A head that is not better than the words alone on examples held
    out is not offered: `offered` is false, `reason` says why, and nothing is saved. An example that cannot be used is
    left out and named in `skipped`.
    """
    with services.admission.request() as reservation:
        given = await read_json(request, services.body_rules, reservation)
        body = await asyncio.to_thread(validated, TrainBody, given)
        given.clear()
        most = services.trainer.limits.max_examples
        if len(body.examples) > most:
            raise InvalidRequest(f"{len(body.examples)} examples given; at most {most} are accepted.")
        request.state.images = sum(example.image is not None for example in body.examples)
        working = trained(body, services, reservation)
        labels, gathering, examples, training = await unless_client_leaves(request, working)
        version = None
        if training.head is not None and examples is not None:
            head = await asyncio.to_thread(
                trained_classifier, training, examples, gathering, services, body.description
            )
            version = await saved(head, services, change, activate=activate)
    answer = {
        "offered": version is not None,
        "reason": training.reason,
        "classifier": version and out(version, whole=False),
        "examples": await asyncio.to_thread(counts_json, gathering, labels),
        "skipped": [
            {"index": index, "decision_id": decision_id, "reason": reason}
            for index, decision_id, reason in gathering.skipped[:SHOWN_SKIPPED]
        ],
        "skipped_because": gathering.skipped_because,
        "figures": training.figures or None,
        "sha256": await asyncio.to_thread(gathering.digest),
    }
    headers = {"ETag": version.etag} if version else {}
    return Response(orjson.dumps(answer), 201 if version else 200, headers, "application/json")


async def trained(
    body: TrainBody, services: Services, reservation: Reservation
) -> tuple[tuple[str, ...], Gathering, Examples | None, Training]:
    """Return the labels, the examples, those as arrays (None if they are too few), and what came of them.

    Raises:
        GatewayError: the labels cannot be used, or a part of the service is away.
    """
    deadline = Deadline.after(services.saver.timeout_s)
    text = await words(body, services, deadline)
    labels = tuple(entry.label for entry in body.labels) if text is None or body.labels else text.labels
    output: Output = body.output
    if text is not None and body.from_classifier is not None:
        output = "softmax" if text.mode == "softmax" else "sigmoid"
    check_labels(labels, output, body.harmless, services)
    gatherer = Gatherer(services, frozenset(labels), output == "softmax", body.harmless, deadline)
    async with services.trainer.turn(deadline):
        async with deadline.enforced():
            gathering = await gatherer.gather(body, reservation)
        if (too_few := await asyncio.to_thread(shortage, gathering, labels, output)) is not None:
            return labels, gathering, None, Training(None, too_few, {})
        examples = await asyncio.to_thread(
            as_examples, gathering, labels, output, text, services.manifest.logit_scale, body.seed
        )
        return labels, gathering, examples, await services.trainer.train(examples, deadline)


async def words(body: TrainBody, services: Services, deadline: Deadline) -> TextMatrix | None:
    """Return the text vectors of the labels; None where they have no prompts.

    Raises:
        InvalidRequest: ``from_classifier`` is a head.
        GatewayError: there is no such classifier, or the words cannot be used.
    """
    if body.from_classifier is not None:
        bound = await services.catalog.classifier(body.from_classifier, deadline)
        if isinstance(bound.matrix, Head):
            raise InvalidRequest(f"“{bound.key}” is a head: it has no words to start from. Give labels with prompts.")
        return bound.matrix
    if not body.labels[0].prompts:
        return None
    labels = [
        ClassifierLabel(label=entry.label, prompts=entry.prompts, negatives=body.negatives) for entry in body.labels
    ]
    mode = "softmax" if body.output == "softmax" else "independent"
    asked = Classifier(mode=mode, labels=labels, templates=body.templates)
    checked = await asyncio.to_thread(services.saver.normal(asked).label_set, services.label_rules)
    return await services.text.assemble(checked, deadline, services.text.limits.max_saved_prompts)


def check_labels(labels: Sequence[str], output: Output, harmless: str | None, services: Services) -> None:
    """Check what a head is to tell apart.

    Raises:
        InvalidLabels: labels that cannot be used.
        InvalidRequest: too many, one twice, one alone in a softmax, or a harmless one that is none of them.
    """
    check_words(list(labels), "label", services.label_rules)
    if len(labels) > MOST_LABELS:
        raise InvalidRequest(f"A head that is trained has {MOST_LABELS} labels at most; these are {len(labels)}.")
    if len(set(labels)) != len(labels):
        raise InvalidRequest("Field “labels” names a label twice.")
    if output == "softmax" and len(labels) == 1:
        raise InvalidRequest("A softmax needs two labels or more; a head of one label has the output sigmoid.")
    if harmless is not None and harmless not in labels:
        raise InvalidRequest("Field “harmless” must be one of the labels.")


def shortage(gathering: Gathering, labels: Sequence[str], output: Output) -> str | None:
    """Return what is missing for a training, as a sentence; None if there is enough."""
    needed = f"{LEAST_EXAMPLES} of {LEAST_GROUPS} groups are needed"
    for label in labels:
        sides = [("that it is true of", True)] + ([("that it is not true of", False)] if output == "sigmoid" else [])
        for meaning, truth in sides:
            groups = [example.group for example in gathering.used if (label in example.labels) == truth]
            if len(groups) < LEAST_EXAMPLES or len(set(groups)) < LEAST_GROUPS:
                return (
                    f"The label “{label}” has {len(groups)} examples {meaning}, of {len(set(groups))} groups; {needed}."
                )
    return None


def as_examples(
    gathering: Gathering, labels: Sequence[str], output: Output, text: TextMatrix | None, scale: float, seed: int
) -> Examples:
    """Return gathered examples as arrays; for a thread. Their order is their own: no head depends on the client's."""
    used = sorted(gathering.used, key=lambda example: (example.sha256, example.group, sorted(example.labels)))
    vectors = np.stack([example.vector for example in used]).astype(np.float32)
    truth = np.array([[label in example.labels for label in labels] for example in used], np.float32)
    numbers: dict[str, int] = {}
    groups = np.array([numbers.setdefault(example.group, len(numbers)) for example in used], np.int32)
    zero_shot = None if text is None else ZeroShot.of(vectors, text, scale)
    return Examples(tuple(labels), output, vectors, truth, groups, zero_shot, np.ones(len(vectors), np.float32), seed)


def trained_classifier(
    training: Training, examples: Examples, gathering: Gathering, services: Services, description: str
) -> HeadClassifier:
    """Return a trained head as a classifier's body."""
    assert training.head is not None  # noqa: S101 - the caller has looked
    manifest = services.manifest
    fields = form_of(training.head) | {
        "model": HeadModel(
            id=manifest.model.id, embedding_dim=manifest.embedding_dim, bundle_id=manifest.bundle_id
        ).model_dump(),
        "training": {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": examples.seed,
            "sha256": gathering.digest(),
            "examples": counts_json(gathering, examples.labels),
            "figures": training.figures,
        },
        "description": description,
    }
    return HeadClassifier.model_validate(fields)


async def saved(head: HeadClassifier, services: Services, change: ResourceChange, *, activate: bool) -> Version:
    """Save a head as the classifier's next version; return that."""
    saving = services.saver.save(
        change.name, head, activate=activate, actor=change.actor, precondition=change.precondition
    )
    return (await changed(change, saving, services.catalog)).version


def counts_json(gathering: Gathering, labels: Sequence[str]) -> dict[str, Any]:
    """Return how many examples there are."""
    return {
        "used": len(gathering.used),
        "groups": len(set(gathering.groups())),
        "by_label": gathering.counts(labels),
    }
