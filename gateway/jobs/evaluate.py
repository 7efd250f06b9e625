"""The job ``evaluate``: images of a labelled set, or reviewed decisions, scored by a policy, and the report of them.

Scoring is done here, from vectors. What the figures need (``gateway.evaluation``, which loads scikit-learn) runs in a
process of its own, ``python -m gateway.evaluation.job``, with a folder that both know: ``order.json`` and rows go in,
``result.json`` and the report come out. A row is a line of JSON: of a set as ``gateway.evaluation.judged`` reads it, of
reviewed decisions as ``/v1/decisions?format=jsonl&reviewed=true`` has it.
"""

from __future__ import annotations

import asyncio
import gzip
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import structlog

from gateway.errors import InternalError, InvalidRequest, JobTooLarge, NotFound
from gateway.inference.bundle import Manifest
from gateway.inference.scoring import score
from gateway.jobs.held import HeldJob, Made
from gateway.jobs.report_folder import BEFORE, CHILD, JUDGED, ORDER, OUT, RESULT, ROWS
from gateway.limits.deadline import Deadline
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.catalog import Catalog
from gateway.moderation.policy_diff import OTHER_VIEWS, places_of, sees
from gateway.moderation.sampling import standing_verdicts
from gateway.moderation.verdict_json import policy_json
from gateway.moderation.verdicts import uses, verdict_of
from gateway.store.decisions import DecisionFilter, DecisionRecord, Decisions, Feedback
from gateway.store.jobs.jobs import JobFile
from gateway.store.jobs.labelled_sets import LabelledSets, LabelledVectors
from gateway.store.versions import Version, Versions
from gateway.training.confined_process import run_confined

KIND = "evaluate"
KEPT_JUDGED = f"{JUDGED}.gz"
FILES = {
    "report.html": "text/html; charset=utf-8",
    "report.json": "application/json",
    "compare.html": "text/html; charset=utf-8",
    "compare.json": "application/json",
    JUDGED: "application/gzip",
}
"""What is kept of the report; judged images are compressed."""
PAGE = 200
COMPRESSION = 3
SHOWN_CHARS = 2000


@dataclass(frozen=True, slots=True)
class EvaluationLimits:
    """Of one evaluation.

    Attributes:
        timeout_s: for the process that makes the report, by the clock and of the processor.
        memory_bytes: that it may take.
        file_bytes: of each file.
        max_images: images, or reviewed decisions, the newest.
    """

    timeout_s: float
    memory_bytes: int
    file_bytes: int
    max_images: int


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Does jobs of this kind.

    Attributes:
        catalog: has the policies.
        versions: their bodies, as they were saved.
        sets: labelled sets.
        decisions: the log.
        manifest: of the bundle.
        limits: of one.
    """

    catalog: Catalog
    versions: Versions
    sets: LabelledSets
    decisions: Decisions
    manifest: Manifest
    limits: EvaluationLimits

    async def run(self, held: HeldJob) -> Made:
        """Do a job.

        Raises:
            GatewayError: it cannot be done.
            JobLost: it is another's, or nobody's, now.
            StoreUnavailable: the store is away.
        """
        asked = held.job.request
        async with _folder() as folder:
            policy = await self.catalog.policy(asked["policy"], Deadline.after(self.limits.timeout_s))
            run = await self._run_json(policy)
            rows = await held.kept(ROWS)
            if rows is None:
                rows = await self._rows(held, policy, asked["source"])
                await held.keep(ROWS, rows)
            total = held.progress.get("total", 0)
            held.tell("report", total, total)
            steps = {**asked.get("goals", {}), "calibrate": asked.get("calibrate", False)}
            before = await self._before(held, asked.get("compare_with"))
            order = {"source": next(iter(asked["source"])), "run": run, "steps": steps}
            await asyncio.to_thread(_put, folder, rows, order, before)
            await self._report(folder)
            return await asyncio.to_thread(_taken, folder, self.limits.file_bytes)

    async def _run_json(self, policy: BoundPolicy) -> dict[str, Any]:
        """Return what was asked of which model, as ``gateway.evaluation.judged.Run`` has it."""
        row = await self._version("policy", policy.name, policy.version)
        classifiers = {
            bound.key: (await self._version("classifier", bound.name, bound.version)).body
            for bound in policy.classifiers.values()
        }
        return {
            "model": self.manifest.described(),
            "policy": policy_json(policy),
            "classifier": None,
            "policy_body": row.body,
            "classifiers": classifiers,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    async def _version(self, kind: Any, name: str, number: int) -> Version:  # noqa: ANN401 - its literal
        row = await self.versions.read(kind, name, number)
        if row is None:
            raise NotFound(f"The {kind} “{name}@{number}” was deleted meanwhile.")
        return row

    async def _rows(self, held: HeldJob, policy: BoundPolicy, source: Mapping[str, Any]) -> bytes:
        """Return the rows, compressed page by page."""
        pages = (
            self._of_set(held, policy, source["set"])
            if "set" in source
            else self._of_reviewed(held, policy, source["reviewed"])
        )
        parts: list[bytes] = []
        size = 0
        async for page in pages:
            parts.append(page)  # members of gzip, one behind the other, are one file (RFC 1952, 2.2)
            size += len(page)
            if size > self.limits.file_bytes:
                raise _too_large(self.limits)
        return b"".join(parts)

    async def _of_set(self, held: HeldJob, policy: BoundPolicy, name: str) -> AsyncIterator[bytes]:
        found = await self.sets.read(name)
        if found is None or not found.images:
            raise NotFound(f"The labelled set “{name}” was deleted, or has no image.")
        if found.bundle_id != self.manifest.bundle_id:
            raise InvalidRequest(f"The vectors of the labelled set “{name}” are another model's; upload it again.")
        done, after = 0, ""
        held.tell("score", 0, found.images)
        while page := await self.sets.page(name, after=after, limit=PAGE):
            yield await asyncio.to_thread(scored_rows, page, policy, self.manifest)
            done, after = done + len(page), page[-1].sha256
            held.tell("score", done, found.images)

    async def _of_reviewed(self, held: HeldJob, policy: BoundPolicy, asked: Mapping[str, Any]) -> AsyncIterator[bytes]:
        since, until = (
            None if asked.get(name) is None else datetime.fromisoformat(asked[name]) for name in ("since", "until")
        )
        wanted = DecisionFilter(since=since, until=until, policy=policy.name, reviewed=True)
        left, cursor = self.limits.max_images, None
        while left:
            page = await self.decisions.page(wanted, limit=min(PAGE, left), cursor=cursor)
            if page.records:
                feedback = await self.decisions.feedback_on([record.id for record in page.records])
                yield await asyncio.to_thread(reviewed_rows, page.records, feedback)
            left, cursor = left - len(page.records), page.next_cursor
            held.tell("read", self.limits.max_images - left, self.limits.max_images - left)
            if cursor is None:
                return

    async def _before(self, held: HeldJob, job_id: str | None) -> bytes | None:
        if job_id is None:
            return None
        file = await held.jobs.file(job_id, KEPT_JUDGED)
        if file is None:
            raise NotFound(f"The job “{job_id}” that is to be compared with has no judged images any more.")
        return file.data

    async def _report(self, folder: Path) -> None:
        """Run the process that makes the report.

        Raises:
            JobTooLarge: it took more time, memory or space than it may.
            InternalError: a bug.
        """
        try:
            ended = await run_confined(
                CHILD,
                [str(self.limits.file_bytes), str(folder)],
                memory_bytes=self.limits.memory_bytes,
                timeout_s=self.limits.timeout_s,
                environment={"MPLCONFIGDIR": str(folder), "MPLBACKEND": "Agg", "HOME": str(folder)},
            )
        except TimeoutError:
            raise _too_large(self.limits) from None
        if ended.code != 0:
            structlog.get_logger("jobs").error("report failed", exit=ended.code, said=ended.said[-SHOWN_CHARS:])
            if ended.is_out_of_bounds:
                raise _too_large(self.limits)
            raise InternalError("The report failed by a fault of the service; there is none.")


def scored_rows(images: Sequence[LabelledVectors], policy: BoundPolicy, manifest: Manifest) -> bytes:
    """Return a page of a set as the policy judges it, compressed; for a thread."""
    return _packed([_scored(image, policy, manifest) for image in images])


def _scored(image: LabelledVectors, policy: BoundPolicy, manifest: Manifest) -> dict[str, Any]:
    row: dict[str, Any] = {
        "source": image.sha256,
        "labels": image.labels,
        "slices": image.slices,
        "group": image.group,
        "sha256": image.sha256,
        "decision": None,
        "scores": {},
        "views": {},
        "vectors": None,
        "elapsed_ms": None,
        "error": None,
    }
    places = places_of(image.places)
    if not sees(policy, places):
        return {**row, "error": OTHER_VIEWS}
    vectors = np.frombuffer(image.vectors, "<f4").reshape(len(places), manifest.embedding_dim).astype(np.float32)
    verdict = verdict_of(policy, vectors, places, manifest.logit_scale, image.warnings)
    used = vectors[[number for number, place in enumerate(places) if uses(policy, place.view)]]
    views = {
        key: {
            "labels": bound.matrix.labels,
            "probabilities": score(used, bound.matrix, manifest.logit_scale).probabilities,
        }
        for key, bound in policy.classifiers.items()
    }
    scores = {entry.category: entry.score for entry in verdict.categories}
    return {**row, "decision": verdict.decision, "scores": scores, "views": views}


def reviewed_rows(records: Sequence[DecisionRecord], feedback: Sequence[Feedback]) -> bytes:
    """Return a page of reviewed decisions with the verdicts on them, compressed; for a thread."""
    by_decision: dict[str, list[Feedback]] = {}
    for given in feedback:
        by_decision.setdefault(given.decision_id, []).append(given)
    rows = []
    for record in records:
        verdicts = standing_verdicts(record, by_decision.get(record.id, ()))
        if verdicts:
            rows.append(_reviewed(record, verdicts))
    return _packed(rows)


def _reviewed(record: DecisionRecord, verdicts: Sequence[Feedback]) -> dict[str, Any]:
    return {
        "id": record.id,
        "at": record.at.isoformat(),
        "image": {"sha256": record.image_sha256},
        "policy": record.detail.get("policy", {"name": record.policy, "version": record.policy_version}),
        "decision": record.decision,
        "audit_share": record.detail.get("audit_share"),
        "scores": record.categories,
        "categories": record.detail.get("categories", []),
        "warnings": record.detail.get("warnings", []),
        "feedback": [
            {
                "at": given.at.isoformat(),
                "decision": given.decision,
                "categories": given.categories,
                "reviewer": given.reviewer,
                "key": given.key,
            }
            for given in verdicts
        ],
    }


def _packed(rows: Sequence[Mapping[str, Any]]) -> bytes:
    lines = b"".join(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n" for row in rows)
    return gzip.compress(lines, COMPRESSION, mtime=0)


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    """Have a folder of one's own, which is gone afterwards."""
    made = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="evaluate-")
    try:
        yield Path(made.name)
    finally:
        await asyncio.to_thread(made.cleanup)


def _put(folder: Path, rows: bytes, order: Mapping[str, Any], before: bytes | None) -> None:
    (folder / ROWS).write_bytes(rows)
    (folder / ORDER).write_bytes(orjson.dumps(order))
    if before is not None:
        (folder / BEFORE).mkdir()
        (folder / BEFORE / JUDGED).write_bytes(gzip.decompress(before))


def _taken(folder: Path, most_bytes: int) -> Made:
    """Return what the process made.

    Raises:
        InvalidRequest: the images do not do for what was asked; it says why.
        JobTooLarge: a file is too large.
    """
    result = orjson.loads((folder / RESULT).read_bytes())
    if "refused" in result:
        raise InvalidRequest(f"{result['refused']}.")
    files = []
    for name, content_type in FILES.items():
        path = folder / OUT / name
        if path.is_file():
            data = path.read_bytes()
            kept = JobFile(KEPT_JUDGED, content_type, gzip.compress(data, COMPRESSION, mtime=0))
            files.append(kept if name == JUDGED else JobFile(name, content_type, data))
    if sum(len(file.data) for file in files) > most_bytes:
        raise JobTooLarge(f"Its files are over {most_bytes >> 20} MiB, JOB_FILES_MIB.")
    return Made(result, tuple(files))


def _too_large(limits: EvaluationLimits) -> JobTooLarge:
    return JobTooLarge(
        f"It took more than {limits.timeout_s:g} s, {limits.memory_bytes >> 20} MiB of memory or "
        f"{limits.file_bytes >> 20} MiB of files: JOB_TIMEOUT_S, JOB_MEMORY_MIB, JOB_FILES_MIB. There is no report."
    )
