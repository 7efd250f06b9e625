"""POST /v1/policies/{name}/sample and /histogram: what sliders for thresholds are drawn from."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.classifiers_and_policies import check_same_name
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.disconnect import unless_client_leaves
from gateway.api.openapi import request_body
from gateway.api.parameters import Name
from gateway.api.schemas.samples import EXAMPLE_SAMPLE, HistogramIn, HistogramsOut, SampleIn, SampleOut
from gateway.api.store_calls import stored
from gateway.errors import RequestError
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.policy_diff import OTHER_MODEL, OTHER_VIEWS
from gateway.moderation.sampling import (
    BY_A_LIST,
    OTHER_CLASSIFIERS,
    SampledDecision,
    histograms,
    logged_decision,
    rescored_decision,
    standing_verdict,
)
from gateway.moderation.verdict_json import policy_json
from gateway.store.decisions import DecisionFilter, DecisionRecord, Feedback

PAGE = 200
NO_DECISIONS = "no_decisions"
HINTS = {
    NO_DECISIONS: "The log holds no decision of this policy between since and until.",
    OTHER_CLASSIFIERS: "No vectors were kept with these decisions, and the scores that were logged are of other "
    "classifiers, labels or views: set DECISION_VECTORS=true, and later decisions can be scored.",
    OTHER_VIEWS: "The kept vectors are of other views than this policy needs.",
    OTHER_MODEL: "These decisions were made with another model.",
    BY_A_LIST: "A hash list decided all of these; nothing was scored.",
}

router = APIRouter(tags=["policies"])


@dataclass(slots=True)
class Sampled:
    """Decisions as a policy scores them, and how many could not be scored, by reason."""

    policy: BoundPolicy
    source: Literal["vectors", "scores"] = "vectors"
    rows: list[SampledDecision] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def json(self) -> dict[str, Any]:
        """Return what both answers say of it."""
        why = self.skipped.most_common(1)[0][0] if self.skipped else NO_DECISIONS
        return {
            "policy": policy_json(self.policy),
            "skipped": self.skipped.total(),
            "skipped_because": dict(self.skipped),
            "source": self.source,
            "hint": None if self.rows else HINTS.get(why, HINTS[OTHER_CLASSIFIERS]),
        }


@router.post(
    "/v1/policies/{name}/sample",
    summary="Logged decisions as a policy scores them",
    response_model=SampleOut,
    openapi_extra=request_body(SampleIn, EXAMPLE_SAMPLE),
)
async def sample(request: Request, services: ServicesDep, name: Name) -> Response:
    """Score logged decisions of a policy by a candidate, a row each, so that a page can count while a slider moves.

    With stored vectors the candidate scores anew. Without any, the logged scores serve where the candidate differs in
    its thresholds alone. A row's decision is the strictest of its rules' (score at or above the threshold); where
    `warned`, review instead of allow.
    """
    with services.admission.request() as reservation:
        asked = validated(SampleIn, await read_json(request, services.body_rules, reservation))
        found = await unless_client_leaves(request, sampled(asked, services, name))
        return Response(await asyncio.to_thread(sample_bytes, found), media_type="application/json")


@router.post(
    "/v1/policies/{name}/histogram",
    summary="How a policy's scores are spread",
    response_model=HistogramsOut,
    openapi_extra=request_body(HistogramIn, {**EXAMPLE_SAMPLE, "bins": 20}),
)
async def histogram(request: Request, services: ServicesDep, name: Name) -> Response:
    """Count the scores of the same sample by rule, with precision and recall by the reviewers' verdicts on it.

    Reviewers see what a policy flagged, and little else: recall is then of what was reviewed, not of the traffic.
    """
    with services.admission.request() as reservation:
        asked = validated(HistogramIn, await read_json(request, services.body_rules, reservation))
        found = await unless_client_leaves(request, sampled(asked, services, name))
        made = await asyncio.to_thread(histograms, found.rows, found.policy.rules, asked.bins)
        rows = zip(made, rules_json(found.policy), strict=True)
        answer = {**found.json(), "sampled": len(found.rows), "categories": [{**row, **rule} for row, rule in rows]}
        return Response(orjson.dumps(answer), media_type="application/json")


async def sampled(asked: SampleIn, services: Services, name: str) -> Sampled:
    """Look the policy up and score decisions by it, page by page, so that few vectors are in memory.

    Raises:
        GatewayError: there is no such policy, the candidate cannot work, or it took too long.
    """
    deadline = Deadline.after(services.saver.timeout_s)
    async with deadline.enforced():
        found = Sampled(await _candidate(asked, services, name, deadline))
        await _take(found, asked, services, name, deadline)
        if not found.rows and not found.skipped:
            found.source = "scores"
            await _take(found, asked, services, name, deadline)
    return found


async def _candidate(asked: SampleIn, services: Services, name: str, deadline: Deadline) -> BoundPolicy:
    if asked.policy is not None:
        check_same_name(name, asked.policy.name or name)
        return await services.catalog.bind_candidate(name, asked.policy, deadline)
    return await services.catalog.policy(name if asked.version is None else f"{name}@{asked.version}", deadline)


async def _take(found: Sampled, asked: SampleIn, services: Services, name: str, deadline: Deadline) -> None:
    wanted = DecisionFilter(since=asked.since, until=asked.until, policy=name, with_vectors=found.source == "vectors")
    versions: dict[int, BoundPolicy | None] = {}
    left, cursor = asked.limit, None
    while left:
        page = await stored(services.decisions.page(wanted, cursor=cursor, limit=min(PAGE, left)))
        reviewed = [record.id for record in page.records if record.reviewed_at is not None]
        feedback = await stored(services.decisions.feedback_on(reviewed)) if reviewed else ()
        if found.source == "scores":
            for number in {record.policy_version for record in page.records} - versions.keys():
                versions[number] = await _version(f"{name}@{number}", services, deadline)
        made = await asyncio.to_thread(_rows, found, page.records, feedback, services, versions)
        for row in made:
            if isinstance(row, str):
                found.skipped[row] += 1
            else:
                found.rows.append(row)
        left, cursor = left - len(page.records), page.next_cursor
        if cursor is None:
            return


async def _version(reference: str, services: Services, deadline: Deadline) -> BoundPolicy | None:
    try:
        return await services.catalog.policy(reference, deadline)
    except RequestError:  # deleted, or another bundle's
        return None


def _rows(
    found: Sampled,
    records: Sequence[DecisionRecord],
    feedback: Sequence[Feedback],
    services: Services,
    versions: dict[int, BoundPolicy | None],
) -> list[SampledDecision | str]:
    """Return a page's rows; for a thread."""
    by_decision: dict[str, list[Feedback]] = {}
    for given in feedback:
        by_decision.setdefault(given.decision_id, []).append(given)
    manifest, made = services.manifest, list[SampledDecision | str]()
    for record in records:
        verdict = standing_verdict(record, by_decision.get(record.id, ()))
        made.append(
            rescored_decision(record, found.policy, verdict, manifest.embedding_dim, manifest.logit_scale)
            if found.source == "vectors"
            else logged_decision(record, found.policy, versions[record.policy_version], verdict)
        )
    return made


def sample_bytes(found: Sampled) -> bytes:
    """Return the answer of a sample; for a thread."""
    rows = [
        {
            "id": row.id,
            "at": row.at.isoformat(),
            "external_id": row.external_id,
            "scores": row.scores,
            "before": row.before,
            "warned": row.warned,
            "label": row.label,
            "label_categories": row.label_categories,
        }
        for row in found.rows
    ]
    return orjson.dumps({**found.json(), "categories": rules_json(found.policy), "rows": rows})


def rules_json(policy: BoundPolicy) -> list[dict[str, Any]]:
    """Return the category and thresholds of each rule."""
    return [
        {"category": bound.rule.category, "review_at": bound.rule.review_at, "block_at": bound.rule.block_at}
        for bound in policy.rules
    ]
