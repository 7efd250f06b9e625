"""POST /v1/policies/{name}/dry-run."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.images import read_fields
from gateway.api.classifiers_and_policies import check_same_name
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.disconnect import unless_client_leaves
from gateway.api.image_results import raise_or_count_errors
from gateway.api.openapi import EXAMPLE_IMAGE, EXAMPLE_POLICY, request_body
from gateway.api.parameters import Name
from gateway.api.schemas.stored_requests import DryRunBody, DryRunFields, DryRunForm
from gateway.api.schemas.stored_responses import DryRunOut
from gateway.api.store_calls import stored
from gateway.decoding.views import ViewRule
from gateway.errors import InvalidRequest
from gateway.fetching.image_source import ImageRequest
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.policy_diff import (
    NO_DECISION,
    NO_VECTORS,
    OTHER_MODEL,
    OTHER_VIEWS,
    Comparison,
    Sample,
    compare,
    sample_of,
    sees,
)
from gateway.moderation.verdict_json import categories_json, check_views_fit, policy_json, views_json
from gateway.moderation.verdicts import verdict_of
from gateway.store.decisions import DecisionFilter

PAGE = 200
NONE_ANALYZED = "No image could be analyzed; skipped_because has the codes of their errors."
NO_DECISIONS = "no_decisions"
HINTS = {
    NO_VECTORS: "No vectors were kept with these decisions: set DECISION_VECTORS=true, and those made from then on can "
    "be compared, but for images that a hash list decided. Or send images.",
    NO_DECISIONS: "The log holds no decision of this policy that since, until and the other filters leave: widen them. "
    "DECISION_LOG=false keeps none. Or send images.",
    OTHER_VIEWS: "The kept vectors are of other views than a policy needs. Send images; or name the candidate as a "
    "shadow for a while, so that its views are kept too.",
    NO_DECISION: "The log holds none of these decisions: they were deleted, or made by another gateway.",
    OTHER_MODEL: "These decisions were made with another model. Send images.",
}

router = APIRouter(tags=["policies"])


@router.post(
    "/v1/policies/{name}/dry-run",
    summary="What a candidate would change",
    response_model=DryRunOut,
    openapi_extra=request_body(DryRunBody, {"policy": EXAMPLE_POLICY, "images": [EXAMPLE_IMAGE]}, DryRunForm),
)
async def dry_run(request: Request, services: ServicesDep, name: Name) -> Response:
    """Compare a candidate body, or a version, with the active version: over images, or over stored vectors.

    Over stored vectors neither an image nor the model is needed.
    """
    with services.admission.request() as reservation:
        fields, images = await read_fields(
            request, services.body_rules, reservation, DryRunBody, DryRunForm, needs_image=False
        )
        if images and fields.filters:
            raise InvalidRequest(f"Give images, or {', '.join(fields.filters)} for stored decisions, not both.")
        request.state.images = len(images)
        answer = await unless_client_leaves(request, compared(fields, images, services, name))
        return Response(orjson.dumps(answer), media_type="application/json")


async def compared(
    fields: DryRunFields, images: Sequence[ImageRequest], services: Services, name: str
) -> dict[str, Any]:
    """Look both policies up, get the samples, and compare.

    Raises:
        GatewayError: there is no such policy, or the candidate cannot work.
    """
    deadline = Deadline.after(services.saver.timeout_s)
    active = await services.catalog.policy(name, deadline)
    candidate = await candidate_policy(fields, services, name, deadline)
    if images:
        samples = await samples_of_images(images, services, frozenset({active.views, candidate.views}), deadline)
    elif fields.decision_ids:
        samples = await samples_of_ids(fields.decision_ids, services)
    else:
        samples = await samples_of_log(fields, services, active.name)
    scale = services.manifest.logit_scale
    comparison = await asyncio.to_thread(compare, samples, active, candidate, scale, fields.examples)
    answer = comparison_json(comparison, active, candidate)
    if fields.decision_ids:
        pairs = list(zip(fields.decision_ids, samples, strict=True))
        views = sum(len(sample.places) for sample in samples if not isinstance(sample, str))
        check_views_fit([candidate], views, services.manifest.embedding_dim, fields.include)
        answer["results"] = await asyncio.to_thread(results_json, pairs, candidate, scale, fields.include)
    return answer


async def candidate_policy(fields: DryRunFields, services: Services, name: str, deadline: Deadline) -> BoundPolicy:
    """Return the policy in the body, or the saved version that it names."""
    if fields.policy is None:
        return await services.catalog.policy(f"{name}@{fields.version}", deadline)
    check_same_name(name, fields.policy.name or name)
    return await services.catalog.bind_candidate(name, fields.policy, deadline)


async def samples_of_images(
    images: Sequence[ImageRequest], services: Services, views: frozenset[ViewRule], deadline: Deadline
) -> list[Sample | str]:
    """Return the request's images as samples; a failed one as the code of its error.

    Raises:
        GatewayError: the only image failed, or all failed by one fault of the service.
    """
    outcomes = await services.pipeline.run(images, views, deadline, deciding=True)
    raise_or_count_errors(outcomes, services.metrics)
    return [
        Sample(
            None, outcome.id, outcome.prepared.info.sha256, outcome.vectors, outcome.prepared.places, outcome.warnings
        )
        if outcome.prepared is not None and outcome.vectors is not None
        else outcome.error.code
        if outcome.error is not None
        else NO_VECTORS
        for outcome in outcomes
    ]


async def samples_of_log(fields: DryRunFields, services: Services, policy: str) -> list[Sample | str]:
    """Return the newest logged decisions that the filter leaves, as samples; of none with vectors, why."""
    wanted = DecisionFilter(
        since=fields.since,
        until=fields.until,
        policy=policy,
        decision=fields.decision,
        category=fields.category,
        external_id=fields.external_id,
        with_vectors=True,
    )
    samples: list[Sample | str] = []
    cursor: str | None = None
    while len(samples) < fields.limit:
        limit = min(PAGE, fields.limit - len(samples))
        page = await stored(services.decisions.page(wanted, cursor=cursor, limit=limit))
        dim = services.manifest.embedding_dim
        samples += [sample_of(record, dim, services.manifest.bundle_id) for record in page.records]
        cursor = page.next_cursor
        if cursor is None:
            break
    if not samples and (await stored(services.decisions.page(replace(wanted, with_vectors=False), limit=1))).records:
        return [NO_VECTORS]
    return samples


async def samples_of_ids(ids: Sequence[str], services: Services) -> list[Sample | str]:
    """Return a sample for each id, or why there is none."""
    found = {record.id: record for record in await stored(services.decisions.named(ids))}
    dim, bundle_id = services.manifest.embedding_dim, services.manifest.bundle_id
    return [sample_of(found[one], dim, bundle_id) if one in found else NO_DECISION for one in ids]


def results_json(
    pairs: Sequence[tuple[str, Sample | str]], candidate: BoundPolicy, scale: float, include: Collection[str]
) -> list[dict[str, Any]]:
    """Return what the candidate says of each stored decision, or why it cannot; for a thread."""
    results: list[dict[str, Any]] = []
    for decision_id, sample in pairs:
        why = sample if isinstance(sample, str) else None if sees(candidate, sample.places) else OTHER_VIEWS
        result: dict[str, Any] = {"decision_id": decision_id, "skipped": why}
        if not isinstance(sample, str) and why is None:
            verdict = verdict_of(candidate, sample.vectors, sample.places, scale, sample.warnings)
            result |= {
                "image_sha256": sample.image_sha256,
                "decision": verdict.decision,
                "categories": categories_json(verdict.categories),
            }
            if include:
                result["views"] = views_json(candidate, sample.vectors, sample.places, scale, include)
        results.append(result)
    return results


def comparison_json(comparison: Comparison, active: BoundPolicy, candidate: BoundPolicy) -> dict[str, Any]:
    """Return a comparison as JSON values; why nothing was compared is its most frequent reason."""
    why = max(comparison.skipped, key=comparison.skipped.__getitem__, default=NO_DECISIONS)
    nothing = not comparison.compared
    return {
        "active": policy_json(active),
        "candidate": policy_json(candidate),
        "compared": comparison.compared,
        "skipped": sum(comparison.skipped.values()),
        "skipped_because": comparison.skipped,
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
        "warnings": ["nothing_compared", why] if nothing else [],
        "hint": HINTS.get(why, NONE_ANALYZED) if nothing else None,
    }
