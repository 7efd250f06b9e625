"""The service about itself: health, metrics, models."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from gateway.api.dependencies import ServicesDep
from gateway.api.schemas.responses import ModelOut, ModelsResponse, ReadinessOut

router = APIRouter(tags=["service"])

PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.head("/livez", include_in_schema=False, response_class=PlainTextResponse)
@router.get("/livez", summary="Does the process run?", response_class=PlainTextResponse)
async def livez() -> str:
    """Answer 200 while the process runs."""
    return "ok\n"


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Can requests be answered?",
    response_model=ReadinessOut,
    responses={503: {"model": ReadinessOut, "description": "Not ready; the failing checks are named."}},
)
async def readyz(services: ServicesDep) -> JSONResponse:
    """Answer 200 when a real inference has succeeded recently and policies and lists are loaded, else 503.

    A store that is lost or takes no writes is 200 with the status ``degraded`` and the reasons: what is in force goes
    on serving; ``causes`` has the class of what the store fails for, such as ``authentication`` or ``disk_full``. So
    are a Triton that cannot be asked while others can, and policies that cannot be applied with the bundle being
    served: a request that names one gets 409. A process that is about to end answers 503 first, while it goes on
    answering everything else.
    """
    ready = services.readiness
    failing, reasons, states = ready.failing(), ready.reasons(), ready.encoder.states()
    status = "unready" if failing else "degraded" if reasons else "ready"
    up = sum(reason is None for reason in states.values())
    said = {
        "status": status,
        "failing": failing,
        "degraded": ready.degraded,
        "reasons": reasons,
        "causes": ready.causes(),
        "tritons": {"up": up, "of": len(states)},
    }
    return JSONResponse(said, 503 if failing else 200)


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def metrics(services: ServicesDep) -> Response:
    """Return this gateway's metrics in Prometheus' text format; of several replicas each has its own."""
    return Response(await asyncio.to_thread(services.metrics.exposition), media_type=PROMETHEUS_TYPE)


@router.get("/v1/models", summary="Which models answer", response_model=ModelsResponse)
async def models(services: ServicesDep) -> ModelsResponse:
    """Return the served model with what a client needs to know about it."""
    return ModelsResponse(data=[ModelOut(**services.manifest.described())])
