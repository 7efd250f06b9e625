"""POST /v1/policies/{name}/dry-run."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.images import check_count, image_request
from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.disconnect import unless_client_leaves
from gateway.api.openapi import request_body
from gateway.api.parameters import Name
from gateway.api.schemas.stored_requests import DryRunBody
from gateway.api.schemas.stored_responses import DryRunOut
from gateway.api.store_calls import stored
from gateway.decoding.views import ViewRule
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.policy_diff import Comparison, Sample, compare, sample_of
from gateway.moderation.verdict_json import categories_json, policy_json
from gateway.store.decisions import DecisionFilter

PAGE = 200

router = APIRouter(tags=["policies"])


@router.post(
    "/v1/policies/{name}/dry-run",
    summary="What a candidate would change",
    response_model=DryRunOut,
    openapi_extra=request_body(DryRunBody),
)
async def dry_run(request: Request, services: ServicesDep, name: Name) -> Response:
    """Compare a candidate body, or a version, with the active version: over images, or over stored vectors.

    Over stored vectors neither an image nor the model is needed.
    """
    with services.admission.request() as reservation:
        fields = validated(DryRunBody, await read_json(request, services.body_rules, reservation))
        request.state.images = len(fields.images)
        answer = await unless_client_leaves(request, compared(fields, services, name))
        return Response(orjson.dumps(answer), media_type="application/json")


async def compared(fields: DryRunBody, services: Services, name: str) -> dict[str, Any]:
    """Look both policies up, get the samples, and compare.

    Raises:
        GatewayError: there is no such policy, or the candidate cannot work.
    """
    deadline = Deadline.after(services.saver.timeout_s)
    active = await services.catalog.policy(name, deadline)
    candidate = await candidate_policy(fields, services, name, deadline)
    if fields.images:
        samples = await samples_of_images(fields, services, frozenset({active.views, candidate.views}), deadline)
    else:
        samples = await samples_of_log(fields, services, active.name)
    scale = services.manifest.logit_scale
    comparison = await asyncio.to_thread(compare, samples, active, candidate, scale, fields.examples)
    return comparison_json(comparison, active, candidate)


async def candidate_policy(fields: DryRunBody, services: Services, name: str, deadline: Deadline) -> BoundPolicy:
    """Return the policy in the body, or the saved version that it names."""
    if fields.policy is None:
        return await services.catalog.policy(f"{name}@{fields.version}", deadline)
    return await services.catalog.bind_candidate(name, fields.policy, deadline)


async def samples_of_images(
    fields: DryRunBody, services: Services, views: frozenset[ViewRule], deadline: Deadline
) -> list[Sample | None]:
    """Return the request's images as samples; a failed one is skipped."""
    check_count(fields.images, services.body_rules.max_images)
    images = [image_request(image) for image in fields.images]
    outcomes = await services.pipeline.run(images, views, deadline, both_grounds=True)
    return [
        Sample(None, outcome.id, outcome.prepared.info.sha256, outcome.vectors, outcome.prepared.places)
        if outcome.prepared is not None and outcome.vectors is not None
        else None
        for outcome in outcomes
    ]


async def samples_of_log(fields: DryRunBody, services: Services, policy: str) -> list[Sample | None]:
    """Return the newest logged decisions that the filter leaves, as samples."""
    wanted = DecisionFilter(
        since=fields.since,
        until=fields.until,
        policy=policy,
        decision=fields.decision,
        category=fields.category,
        external_id=fields.external_id,
        with_vectors=True,
    )
    samples: list[Sample | None] = []
    cursor: str | None = None
    while len(samples) < fields.limit:
        limit = min(PAGE, fields.limit - len(samples))
        page = await stored(services.decisions.page(wanted, cursor=cursor, limit=limit))
        dim = services.manifest.embedding_dim
        samples += [sample_of(record, dim, services.manifest.bundle_id) for record in page.records]
        cursor = page.next_cursor
        if cursor is None:
            break
    return samples


def comparison_json(comparison: Comparison, active: BoundPolicy, candidate: BoundPolicy) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    return {
        "active": policy_json(active),
        "candidate": policy_json(candidate),
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
                "categories": categories_json(change.after.categories),
            }
            for change in comparison.changes
        ],
        "warnings": [] if comparison.compared else ["nothing_compared"],
    }
