"""/v1/labelled-sets: images with what is true of them, kept as vectors and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from fastapi import APIRouter, Depends
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.authorization import actor_of
from gateway.api.body.images import read_fields
from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.disconnect import unless_client_leaves
from gateway.api.openapi import request_body
from gateway.api.parameters import Name, known_parameters
from gateway.api.problems import problem
from gateway.api.schemas.jobs import (
    EXAMPLE_LABELLED,
    LabelledImagesBody,
    LabelledImagesForm,
    LabelledImagesOut,
    LabelledSetIn,
    LabelledSetOut,
    LabelledSetsOut,
    Said,
)
from gateway.api.store_calls import stored
from gateway.decoding.views import ViewRule
from gateway.errors import InvalidRequest, NotFound, ServiceError, SetModelMismatch
from gateway.fetching.image_source import ImageRequest
from gateway.limits.deadline import Deadline
from gateway.limits.gather import all_of
from gateway.moderation.verdict_json import place_json
from gateway.pipeline import ImageOutcome
from gateway.store.jobs.labelled_sets import (
    Added,
    LabelledSet,
    LabelledVectors,
    SetOfAnotherBundle,
    TooManySets,
)

VIEWS: tuple[ViewRule, ...] = ("center", "tiles")
"""What any policy may ask for: the full image and its content are among the tiles."""

router = APIRouter(tags=["jobs"], dependencies=[Depends(known_parameters)])


@router.get("/v1/labelled-sets", summary="All labelled sets", response_model=LabelledSetsOut)
async def labelled_sets(services: ServicesDep) -> Any:  # noqa: ANN401 - of the response model
    """Return every labelled set with the number of its images."""
    return {"data": [out(found, services) for found in await stored(services.jobs.sets.all())]}


@router.get("/v1/labelled-sets/{name}", summary="A labelled set", response_model=LabelledSetOut)
async def labelled_set(services: ServicesDep, name: Name) -> Any:  # noqa: ANN401 - of the response model
    """Return a labelled set: how many images it has, by label."""
    return out(await existing(services, name), services)


@router.put(
    "/v1/labelled-sets/{name}",
    summary="Make a labelled set",
    response_model=LabelledSetOut,
    responses={201: {"model": LabelledSetOut}},
    openapi_extra=request_body(LabelledSetIn, {"description": "Drawings of the first week."}),
)
async def put_set(request: Request, services: ServicesDep, name: Name) -> Response:
    """Make an empty set, or describe one anew."""
    with services.admission.request() as reservation:
        given = validated(LabelledSetIn, await read_json(request, services.body_rules, reservation))
    most = services.jobs.max_sets
    try:
        new = await stored(services.jobs.sets.put(name, given.description, most, actor=actor_of(request)))
    except TooManySets:
        raise InvalidRequest(f"There are {most} labelled sets, MAX_LABELLED_SETS: delete one first.") from None
    answer = out(await existing(services, name), services)
    return Response(orjson.dumps(answer), 201 if new else 200, media_type="application/json")


@router.delete("/v1/labelled-sets/{name}", summary="Delete a labelled set", status_code=204)
async def delete_set(request: Request, services: ServicesDep, name: Name) -> Response:
    """Delete a set with its vectors and labels; reports made of it stay."""
    if not await stored(services.jobs.sets.delete(name, actor=actor_of(request))):
        raise missing(name)
    return Response(status_code=204)


@router.post(
    "/v1/labelled-sets/{name}/images",
    summary="Add labelled images",
    response_model=LabelledImagesOut,
    openapi_extra=request_body(LabelledImagesBody, EXAMPLE_LABELLED, LabelledImagesForm),
)
async def add_images(request: Request, services: ServicesDep, name: Name) -> Response:
    """Judge images once and keep their vectors and labels, never the images; each fails by itself.

    A file that is there already gets the labels of now. Hash lists are not asked.
    """
    with services.admission.request() as reservation:
        fields, images = await read_fields(
            request, services.body_rules, reservation, LabelledImagesBody, LabelledImagesForm
        )
        said = fields.said(len(images))
        request.state.images = len(images)
        found = await existing(services, name)
        if found.images and found.bundle_id != services.manifest.bundle_id:
            raise mismatched(name, str(found.bundle_id), services)
        working = added(images, said, services, name, request)
        results = await unless_client_leaves(request, working)
        answer = {"results": results, "set": out(await existing(services, name), services)}
        return Response(orjson.dumps(answer), media_type="application/json")


async def added(
    images: Sequence[ImageRequest], said: Sequence[Said], services: Services, name: str, request: Request
) -> list[dict[str, Any]]:
    """Judge images and keep what is known of them; return a result each.

    Raises:
        GatewayError: all failed, the first by a fault of the service; or nothing can be kept.
    """
    deadline = Deadline.after(services.request_timeout_s)
    rules = frozenset(VIEWS)
    # Each by itself: what an animation gets of the inferences does not depend on its neighbours.
    outcomes = [
        replace(found[0], index=index)
        for index, found in enumerate(
            await all_of(services.pipeline.run([image], rules, deadline, deciding=True) for image in images)
        )
    ]
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if len(errors) == len(outcomes) and isinstance(errors[0], ServiceError):
        raise errors[0]
    for failed in errors:
        services.metrics.errors.labels(failed.code).inc()
    kept = [(outcome, kept_image(outcome, own)) for outcome, own in zip(outcomes, said, strict=True)]
    new = [image for _, image in kept if image is not None]
    became = iter(await _put_in(new, services, name, request) if new else [])
    results = []
    for (outcome, image), own in zip(kept, said, strict=True):
        became_of_it = next(became) if image is not None else None
        error = outcome.error
        if became_of_it == "full":
            error = InvalidRequest(f"The set has {services.jobs.max_images} images, MAX_LABELLED_IMAGES.")
        results.append(
            {
                "index": outcome.index,
                "sha256": outcome.prepared and outcome.prepared.info.sha256,
                "labels": own.labels,
                "outcome": None if error is not None else became_of_it,
                "error": error and problem(error, request.state.request_id),
            }
        )
    return results


async def _put_in(images: Sequence[LabelledVectors], services: Services, name: str, request: Request) -> list[Added]:
    manifest = services.manifest
    try:
        became = await stored(
            services.jobs.sets.add(
                name,
                images,
                bundle_id=manifest.bundle_id,
                most=services.jobs.max_images,
                actor=actor_of(request),
            )
        )
    except SetOfAnotherBundle as other:
        raise mismatched(name, str(other), services) from None
    if became is None:
        raise missing(name)
    return became


def kept_image(outcome: ImageOutcome, said: Said) -> LabelledVectors | None:
    """Return what is kept of an image; None of one that failed."""
    if outcome.prepared is None or outcome.vectors is None:
        return None
    return LabelledVectors(
        sha256=outcome.prepared.info.sha256,
        labels=said.labels,
        group=said.group,
        slices=said.slices,
        places=[place_json(place) for place in outcome.prepared.places],
        warnings=list(outcome.warnings),
        vectors=outcome.vectors.astype("<f4").tobytes(),
    )


async def existing(services: Services, name: str) -> LabelledSet:
    """Return a set.

    Raises:
        NotFound: there is none.
    """
    found = await stored(services.jobs.sets.read(name))
    if found is None:
        raise missing(name)
    return found


def missing(name: str) -> NotFound:
    """Return the error of a set that is not there."""
    return NotFound(f"There is no labelled set “{name}”.")


def mismatched(name: str, bundle_id: str, services: Services) -> SetModelMismatch:
    """Return the error of a set whose vectors are another model's."""
    return SetModelMismatch(
        f"The labelled set “{name}” was judged by bundle {bundle_id}; this service runs {services.manifest.bundle_id}. "
        "Delete it, or make another set, and upload the images again."
    )


def out(found: LabelledSet, services: Services) -> dict[str, Any]:
    """Return a set as the API shows it."""
    return {
        "name": found.name,
        "description": found.description,
        "created_at": found.created_at.isoformat(),
        "bundle_id": found.bundle_id,
        "served": found.bundle_id in {None, services.manifest.bundle_id},
        "images": found.images,
        "labels": dict(found.labels),
        "views": list(VIEWS),
    }
