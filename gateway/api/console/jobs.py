"""/v1/jobs: work that takes longer than a request, done by whichever replica is free."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.authorization import actor_of, key_name
from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.console.labelled_sets import existing, mismatched
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.openapi import request_body
from gateway.api.parameters import Limit, Text, known_parameters
from gateway.api.problems import TYPE_PREFIX
from gateway.api.schemas.jobs import EXAMPLE_JOB, JobIn, JobOut, JobsOut
from gateway.api.store_calls import stored
from gateway.errors import EvaluationNotInstalled, InvalidRequest, NotFound, Overloaded
from gateway.evaluation.installed import is_installed
from gateway.jobs.evaluate import KEPT_JUDGED, KIND
from gateway.limits.deadline import Deadline
from gateway.moderation.moderator import decision_id
from gateway.store.jobs.jobs import FileEntry, Job, State, TooManyJobs

RETRY_AFTER_S = 60
HTML = "text/html; charset=utf-8"
# A report is one page that loads nothing and runs nothing. In the sandbox it is of no origin, so not of the gateway's.
REPORT_POLICY = (
    "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)

router = APIRouter(tags=["jobs"], dependencies=[Depends(known_parameters)])

JobId = Annotated[str, Path(max_length=64)]


@router.post(
    "/v1/jobs",
    summary="Begin a job",
    status_code=202,
    response_model=JobOut,
    openapi_extra=request_body(JobIn, EXAMPLE_JOB),
)
async def begin(request: Request, services: ServicesDep) -> Response:
    """Put an evaluation into the queue: a report of a policy on a labelled set, or on decisions that were reviewed.

    With `goals` it proposes thresholds that keep them, with `calibrate` calibrations, as `draft` in the result: a
    policy body to save with `?activate=false` (classifiers in `classifiers` first).
    """
    with services.admission.request() as reservation:
        asked = validated(JobIn, await read_json(request, services.body_rules, reservation))
    job = await job_of(asked, services, key_name(request))
    try:
        await stored(services.jobs.jobs.add(job, services.jobs.max_open, actor=actor_of(request)))
    except TooManyJobs:
        raise Overloaded(
            f"{services.jobs.max_open} jobs wait or run, MAX_OPEN_JOBS.", retry_after_s=RETRY_AFTER_S
        ) from None
    return Response(orjson.dumps(out(job, ())), 202, media_type="application/json")


@router.get("/v1/jobs", summary="Jobs, newest first", response_model=JobsOut)
async def jobs(
    services: ServicesDep,
    kind: Text = None,
    state: Annotated[State | None, Query()] = None,
    cursor: Text = None,
    limit: Limit = 50,
) -> Response:
    """Return a page of jobs; those that ended are kept for JOB_RETENTION_DAYS."""
    kept = services.jobs.jobs
    found = await stored(kept.latest(limit + 1, kind=kind, state=state, before=cursor))
    page = found[:limit]
    files = await stored(kept.files([job.id for job in page])) if page else {}
    answer = {
        "data": [out(job, files.get(job.id, ())) for job in page],
        "next_cursor": page[-1].id if len(found) > limit else None,
    }
    return Response(orjson.dumps(answer), media_type="application/json")


@router.get("/v1/jobs/{job_id}", summary="A job", response_model=JobOut)
async def job(services: ServicesDep, job_id: JobId) -> Response:
    """Return how far a job is, and what came of it."""
    return await shown(await stored(services.jobs.jobs.read(job_id)), services)


@router.delete("/v1/jobs/{job_id}", summary="Cancel a job", response_model=JobOut)
async def cancel(request: Request, services: ServicesDep, job_id: JobId) -> Response:
    """Cancel a job that waits or runs; one that has ended stays as it is."""
    return await shown(await stored(services.jobs.jobs.cancel(job_id, actor=actor_of(request))), services)


@router.get(
    "/v1/jobs/{job_id}/files/{name}",
    summary="A file of a job",
    response_class=Response,
    responses={
        200: {
            "content": {
                kind: {"schema": {"type": "string"}} for kind in ("text/html", "application/json", "application/gzip")
            }
        }
    },
)
async def file(services: ServicesDep, job_id: JobId, name: Annotated[str, Path(max_length=64)]) -> Response:
    """Return a file that a job which is done has made: `report.html`, `report.json` and others."""
    found = await stored(services.jobs.jobs.read(job_id))
    content = await stored(services.jobs.jobs.file(job_id, name)) if found and found.state == "done" else None
    if content is None:
        raise NotFound("There is no such file of a job that is done.")
    headers = (
        {"Content-Security-Policy": REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"}
        if content.content_type == HTML
        else {"Content-Disposition": f'attachment; filename="{content.name}"'}
    )
    return Response(content.data, headers=headers, media_type=content.content_type)


async def job_of(asked: JobIn, services: Services, key: str | None) -> Job:
    """Return the job that is asked for, once it is clear that it can be done.

    Raises:
        GatewayError: there is no such policy, set or job, or it is another model's; or the extra is not installed.
    """
    if not is_installed():
        raise EvaluationNotInstalled("Install it in the gateway: pip install 'clip-moderation-gateway[evaluate]'")
    policy = await services.catalog.policy(asked.policy, Deadline.after(services.request_timeout_s))
    if asked.source.set is not None:
        found = await existing(services, asked.source.set)
        if not found.images:
            raise InvalidRequest(f"The labelled set “{found.name}” has no image.")
        if found.bundle_id != services.manifest.bundle_id:
            raise mismatched(found.name, str(found.bundle_id), services)
    if asked.compare_with is not None:
        files = (await stored(services.jobs.jobs.files([asked.compare_with]))).get(asked.compare_with, [])
        if KEPT_JUDGED not in {entry.name for entry in files}:
            raise NotFound(f"There is no job “{asked.compare_with}” that is done, to compare with.")
    request = {**asked.model_dump(mode="json", exclude_none=True), "policy": policy.key}
    now = datetime.now(UTC)
    return Job(decision_id(now), KIND, services.manifest.bundle_id, request, now, key)


async def shown(job: Job | None, services: Services) -> Response:
    """Return a job with its files.

    Raises:
        NotFound: there is none.
    """
    if job is None:
        raise NotFound("There is no such job.")
    files = (await stored(services.jobs.jobs.files([job.id]))).get(job.id, ())
    return Response(orjson.dumps(out(job, files)), media_type="application/json")


def out(job: Job, files: Sequence[FileEntry]) -> dict[str, Any]:
    """Return a job as the API shows it; files are those of one that is done."""
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "request": job.request,
        "progress": {"step": None, "done": 0, "total": 0, **job.progress},
        "created_at": job.created_at.isoformat(),
        "created_by": job.created_by,
        "started_at": job.started_at and job.started_at.isoformat(),
        "ended_at": job.ended_at and job.ended_at.isoformat(),
        "attempts": job.attempts,
        "error": job.error and {"type": TYPE_PREFIX + job.error["code"], **job.error},
        "result": job.result,
        "files": [
            {"name": entry.name, "bytes": entry.bytes, "content_type": entry.content_type}
            for entry in files
            if job.state == "done"
        ],
    }
