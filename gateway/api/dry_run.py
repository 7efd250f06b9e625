"""POST /v1/policies/{name}/dry-run."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.images import image_request
from gateway.api.body.reader import validated
from gateway.api.classifiers_and_policies import admitted, away
from gateway.api.decisions import aware
from gateway.api.dependencies import Services
from gateway.api.disconnect import unless_client_leaves
from gateway.api.openapi import request_body
from gateway.api.schemas.stored_requests import DryRunBody
from gateway.api.schemas.stored_responses import DryRunOut
from gateway.errors import InvalidRequest
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.classifiers import check_name
from gateway.moderation.policy_diff import Comparison, Sample, compare, sample_of
from gateway.moderation.verdicts import policy_out, verdict_out
from gateway.store.decisions import DecisionFilter

PAGE = 200

router = APIRouter(tags=["policies"])


@router.post(
    "/v1/policies/{name}/dry-run",
    summary="What a candidate would change",
    response_model=DryRunOut,
    openapi_extra=request_body(DryRunBody),
)
async def dry_run(request: Request, name: str) -> Response:
    """Compare a candidate body, or a version, with the active version: over images, or over stored vectors.

    Over stored vectors neither an image nor the model is needed.
    """
    async with admitted(request) as given:
        asked = validated(DryRunBody, given)
        request.state.images = len(asked.images)
        return await unless_client_leaves(request, compared(asked, request.state.services, check_name(name)))


async def compared(asked: DryRunBody, services: Services, name: str) -> Response:
    """Return the comparison as a response.

    Raises:
        GatewayError: there is no such policy, or the candidate cannot work.
    """
    deadline = Deadline.after(services.saver.timeout_s)
    active = await services.catalog.policy(name, deadline)
    if asked.policy is not None:
        candidate, _ = await services.catalog.bind_candidate(name, asked.policy, deadline)
    else:
        candidate = await services.catalog.policy(f"{name}@{asked.version}", deadline)
    samples = await (of_images if asked.images else of_log)(asked, services, active, candidate, deadline)
    scale = services.manifest.logit_scale
    comparison = await asyncio.to_thread(compare, samples, active, candidate, scale, asked.examples)
    return Response(orjson.dumps(out(comparison, active, candidate)), media_type="application/json")


async def of_images(
    asked: DryRunBody, services: Services, active: BoundPolicy, candidate: BoundPolicy, deadline: Deadline
) -> list[Sample | None]:
    """Return the request's images as samples; a failed one is skipped."""
    if len(asked.images) > services.body_rules.max_images:
        raise InvalidRequest(f"At most {services.body_rules.max_images} images are accepted in a request.")
    images = [image_request(image) for image in asked.images]
    looks = await services.pipeline.run(images, frozenset({active.views, candidate.views}), deadline)
    return [
        Sample(None, look.id, look.prepared.info.sha256, look.vectors, look.prepared.places)
        if look.prepared is not None and look.vectors is not None
        else None
        for look in looks
    ]


async def of_log(
    asked: DryRunBody, services: Services, active: BoundPolicy, _: BoundPolicy, __: Deadline
) -> list[Sample | None]:
    """Return the newest logged decisions that the filter leaves, as samples."""
    wanted = DecisionFilter(
        since=aware(asked.since),
        until=aware(asked.until),
        policy=active.name,
        decision=asked.decision,
        category=asked.category,
        external_id=asked.external_id,
        with_vectors=True,
    )
    samples: list[Sample | None] = []
    cursor: str | None = None
    while len(samples) < asked.limit:
        page = await away(services.decisions.page(wanted, cursor=cursor, limit=min(PAGE, asked.limit - len(samples))))
        dim = services.manifest.embedding_dim
        samples += [sample_of(record, dim, services.manifest.bundle_id) for record in page.records]
        cursor = page.next_cursor
        if cursor is None:
            break
    return samples


def out(comparison: Comparison, active: BoundPolicy, candidate: BoundPolicy) -> dict[str, Any]:
    """Return a comparison as the API shows it."""
    return {
        "active": policy_out(active),
        "candidate": policy_out(candidate),
        "compared": comparison.compared,
        "skipped": comparison.skipped,
        "changed": sum(count for (before, after), count in comparison.counts.items() if before != after),
        "counts": [
            {"before": before, "after": after, "count": count}
            for (before, after), count in sorted(comparison.counts.items())
        ],
        "examples": [
            {
                "decision_id": change.sample.decision_id,
                "external_id": change.sample.external_id,
                "image_sha256": change.sample.image_sha256,
                "before": change.before,
                "after": change.after.decision,
                "categories": verdict_out(change.after)["categories"],
            }
            for change in comparison.changes
        ],
        "warnings": [] if comparison.compared else ["nothing_compared"],
    }
