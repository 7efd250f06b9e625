"""GET /v1/status and GET /v1/keys: how the service does, and who may use it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson
from fastapi import APIRouter, Depends
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.dependencies import Services, ServicesDep
from gateway.api.parameters import known_parameters
from gateway.api.schemas.access import KeysOut, StatusOut
from gateway.api.store_calls import stored
from gateway.observability.figures import errors_by_code, stage_times, value_of
from gateway.store.access.activity import Replica
from gateway.store.outages import StoreUnavailable

router = APIRouter(tags=["service"], dependencies=[Depends(known_parameters)])


@router.get("/v1/status", summary="How the service does", response_model=StatusOut)
async def status(request: Request, services: ServicesDep) -> Response:
    """Return what people look at first when something is wrong.

    Throughput, stages, errors and requests in flight are those of the gateway that answers (`replica`); of several,
    Prometheus sums up. Without the store `replicas` has this gateway alone, and `lists` are those last seen.
    """
    access, metrics, ready = services.access, services.metrics, services.readiness
    answer: dict[str, Any] = {
        "version": request.app.version,
        "replica": access.presence.replica_id,
        "model": services.manifest.described(),
        "ready": not ready.failing(),
        "failing": ready.failing(),
        "degraded": ready.reasons(),
        "tritons": [
            {"address": address, "up": reason is None, "reason": reason}
            for address, reason in ready.encoder.states().items()
        ],
        "causes": ready.causes(),
        "not_applicable": [{"kind": kind, "name": name} for kind, name in sorted(services.catalog.not_applicable)],
        "replicas": [_shown(replica) for replica in await replicas_of(services)],
        "throughput": asdict(access.presence.recent.rates()),
        "stages": [asdict(times) for times in stage_times(metrics.stage_seconds)],
        "in_flight": {"requests": value_of(metrics.in_flight)},
        "errors": [{"code": code, "count": count} for code, count in errors_by_code(metrics).items()],
        **await _counts(services),
    }
    return Response(orjson.dumps(answer), media_type="application/json")


@router.get("/v1/keys", summary="API keys and when they were last used", response_model=KeysOut)
async def keys(services: ServicesDep) -> Response:
    """List the keys in force, never what opens them. Empty while none are configured."""
    keyring, used = services.access.keys.current, await stored(services.access.activity.last_uses())
    data = [
        {
            "name": key.name,
            "roles": sorted(key.roles),
            "rate": key.rate,
            "last_used_at": used[key.name].isoformat() if key.name in used else None,
        }
        for key in (keyring.keys if keyring else ())
    ]
    return Response(orjson.dumps({"data": data}), media_type="application/json")


async def replicas_of(services: Services) -> list[Replica]:
    """Return the gateways that run, this one as it is now."""
    itself = services.access.presence.itself()
    try:
        others = await services.access.activity.running()
    except StoreUnavailable:
        others = ()
    return [itself, *(replica for replica in others if replica.id != itself.id)]


async def _counts(services: Services) -> dict[str, Any]:
    """Return what the store counts; null of what cannot be told now."""
    found: dict[str, Any] = {"lists": [], "reviews": None, "webhooks": None, "jobs": None}
    try:
        found["lists"] = [
            {
                "name": kept.name,
                "entries": kept.entries,
                "action": kept.action,
                "kind": kept.kind,
                "withhold": kept.withhold,
            }
            for kept in await services.lists.every()
        ]
        counts = await services.review.cases.counts()
        events, jobs = await services.outbox.counts(), await services.jobs.jobs.counts()
    except StoreUnavailable:
        return found
    oldest = counts.oldest_at and counts.oldest_at.isoformat()
    found["reviews"] = {"waiting": counts.waiting, "claimed": counts.claimed, "oldest_at": oldest}
    found["webhooks"] = {"waiting": events.waiting, "dead": events.dead}
    found["jobs"] = {state: jobs[state] for state in ("queued", "running", "failed")}
    return found


def _shown(replica: Replica) -> dict[str, Any]:
    times = {"started_at": replica.started_at.isoformat(), "seen_at": replica.seen_at.isoformat()}
    return {"id": replica.id, **times, "ready": replica.ready, "degraded": replica.degraded}
