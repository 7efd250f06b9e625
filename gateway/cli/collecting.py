"""Asks a gateway about labelled images, or about decisions that it logged, for an evaluation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
from tqdm import tqdm

from gateway.cli.connection import Connection
from gateway.cli.judging import Line, Query, answered, ask, side_by_side
from gateway.cli.policies import Refused
from gateway.cli.policies import answered as good
from gateway.cli.sources import Source as OneSource
from gateway.evaluation.collect import (
    OtherRun,
    collection,
    judged_of_classification,
    judged_of_moderation,
    label_names,
)
from gateway.evaluation.judged import JudgedImage, JudgedSet, LabelledImage, Run
from gateway.evaluation.sources import Kind
from gateway.moderation.classifiers import split_reference

INCLUDED = ["views", "embedding"]
DECISIONS_AT_A_TIME = 100
EVALUATION = "evaluation "  # begins the external ids of its decisions
ADDED = frozenset({"name", "version", "active", "created_at", "bundle_id", "classifiers"})
FOR_ALL = frozenset({"unauthorized", "forbidden", "policy_model_mismatch", "no_gateway", "no_json"})
"""Codes of answers that every image would get."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a gateway is asked about each image.

    Attributes:
        connection: the gateway.
        policy: name or name@version; the name of the policy that a body is compared with.
        body: of a policy that is not saved, for logged decisions.
        classifier: name or name@version, instead of a policy.
        concurrency: requests at a time.
        timeout_s: of one request.
    """

    connection: Connection
    policy: str
    body: Mapping[str, Any] | None
    classifier: str | None
    concurrency: int
    timeout_s: float


def pinned(question: Question) -> Run:
    """Return the run: the model, and the very versions that are asked from now on.

    Raises:
        Refused: there is no such policy or classifier, or the gateway says no.
        httpx2.HTTPError: it cannot be reached.
    """
    try:
        return _pinned(question)
    except (ValueError, KeyError, TypeError, IndexError):
        raise Refused(f"{question.connection.address} does not answer as a gateway does") from None


def _pinned(question: Question) -> Run:
    connection = question.connection
    with httpx2.Client(base_url=connection.address, headers=connection.headers, timeout=question.timeout_s) as client:
        model = good(client.get("/v1/models")).json()["data"][0]
        at = datetime.now(UTC).isoformat(timespec="seconds")
        if question.classifier is not None:
            row = _version(client, "classifiers", question.classifier)
            key = f"{row['name']}@{row['version']}"
            return Run(model, None, key, None, {key: _body(row)}, at)
        if question.body is not None:
            asked = {"policy": dict(question.body), "limit": 1, "examples": 0}
            path = f"/v1/policies/{split_reference(question.policy)[0]}/dry-run"
            row = {**question.body, **good(client.post(path, json=asked)).json()["candidate"]}
        else:
            row = _version(client, "policies", question.policy)
            if row["bundle_id"] != model["bundle_id"]:
                raise Refused(
                    f"Policy {row['name']}@{row['version']} was saved for bundle {row['bundle_id']}; the gateway runs "
                    f"{model['bundle_id']}: save it again for this model"
                )
        keys = [f"{name}@{version}" for name, version in row["classifiers"].items()]
        bodies = {key: _body(_version(client, "classifiers", key)) for key in keys}
        policy = {name: row[name] for name in ("name", "version", "classifiers")}
        return Run(model, policy, None, _body(row), bodies, at)


def collect(
    question: Question, run: Run, kind: Kind, images: Sequence[LabelledImage], folder: Path, *, fresh: bool
) -> JudgedSet:
    """Ask about every image that the folder's file does not hold yet, with a progress bar; return them all.

    Raises:
        OtherRun: what is there is of another run, or the gateway changed meanwhile.
        Refused: the gateway says no to all of them.
        httpx2.TransportError: it cannot be reached; what was answered is kept.
        OSError: the file cannot be written.
    """
    held = collection(folder, run, images, fresh=fresh)
    wanted = [image for image in images if image.source not in held.done]
    ask_all = _ask_decisions if kind == "decisions" else _ask_images
    try:
        with tqdm(total=len(images), initial=len(images) - len(wanted), unit="image", disable=None) as bar:

            def take(judged: JudgedImage) -> None:
                held.take(judged)
                bar.update()
                bar.set_postfix(failed=len(held.failed), refresh=False)

            asyncio.run(ask_all(question, held.run, wanted, take))
    finally:
        held.close()
    return held.finish(images)


def external_id_of(run: Run) -> str:
    """Return the external id of an evaluation's decisions, by which they can be deleted from the log."""
    return f"{EVALUATION}{run.at}"


def of_evaluation(external_id: str | None) -> bool:
    """Return whether a logged decision is an evaluation's."""
    return (external_id or "").startswith(EVALUATION)


async def _ask_images(
    question: Question, run: Run, images: Sequence[LabelledImage], take: Callable[[JudgedImage], None]
) -> None:
    included = INCLUDED
    if run.policy is None:
        asked: dict[str, Any] = {"classifier": run.classifier}
        route, external_id = "/v1/classify", None
        if run.classifiers[run.classifier or ""].get("kind") != "head":  # which compares with no words
            included = [*INCLUDED, "similarity"]
    else:
        asked = {"policy": f"{run.policy['name']}@{run.policy['version']}"}
        route, external_id = "/v1/moderate", external_id_of(run)
    query = Query(route, {**asked, "include": included}, external_id, question.concurrency, question.timeout_s)

    async def one(client: httpx2.AsyncClient, image: LabelledImage) -> None:
        line = await ask(client, query, OneSource(image.source, Path(image.source).name))
        take(_judged(run, image, line))

    await side_by_side(question.connection, question.concurrency, question.timeout_s, images, one)


async def _ask_decisions(
    question: Question, run: Run, images: Sequence[LabelledImage], take: Callable[[JudgedImage], None]
) -> None:
    if run.policy is None:
        raise Refused("Logged decisions are judged by a policy: give --policy rather than --classifier")
    route = f"/v1/policies/{run.policy['name']}/dry-run"
    asked = {"policy": dict(question.body)} if question.body is not None else {"version": run.policy["version"]}

    async def some(client: httpx2.AsyncClient, batch: Sequence[LabelledImage]) -> None:
        fields = {**asked, "decision_ids": [image.source for image in batch], "include": INCLUDED, "examples": 0}
        answer = await answered(lambda: client.post(route, json=fields))
        for image, result in zip(batch, good(answer).json()["results"], strict=True):
            skipped = {"error": {"code": result["skipped"]}} if result["skipped"] else {}
            take(_judged(run, image, {**result, **skipped}))

    await side_by_side(question.connection, question.concurrency, question.timeout_s, _batches(images), some)


def _judged(run: Run, image: LabelledImage, line: Line) -> JudgedImage:
    """Return a gateway's line as a judged image, or as one that failed.

    Raises:
        OtherRun: another model answered, so that figures would mix two.
        Refused: an error that every image would get.
    """
    error = line.get("error")
    if error:
        code = str(error.get("code"))
        if code in FOR_ALL:
            raise Refused(f"The gateway says no: {error.get('detail')} ({code})")
        return JudgedImage(image, error=code)
    bundle = (line.get("model") or run.model).get("bundle_id")
    if bundle != run.model["bundle_id"]:
        raise OtherRun(f"The gateway changed its model meanwhile, from {run.model['bundle_id']} to {bundle}")
    try:
        return (
            judged_of_moderation(image, line) if run.classifier is None else judged_of_classification(image, run, line)
        )
    except (ValueError, KeyError, TypeError):
        raise Refused("The gateway's answer is of another form than this version reads") from None


def _batches(images: Sequence[LabelledImage]) -> Iterator[Sequence[LabelledImage]]:
    for start in range(0, len(images), DECISIONS_AT_A_TIME):
        yield images[start : start + DECISIONS_AT_A_TIME]


def _version(client: httpx2.Client, plural: str, reference: str) -> dict[str, Any]:
    name, number = split_reference(reference)
    params = {"version": number} if number is not None else {}
    row: dict[str, Any] = good(client.get(f"/v1/{plural}/{name}", params=params)).json()
    return row


def _body(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body as it is written, without what the gateway adds to one."""
    return {name: value for name, value in row.items() if name not in ADDED}


def known_labels(run: Run) -> Collection[str]:
    """Return what may be true of an image: the policy's categories, or the classifier's labels, in their order."""
    if run.policy_body is not None:
        return list(dict.fromkeys(rule["category"] for rule in run.policy_body["rules"]))
    return label_names(run.classifiers[run.classifier or ""])
