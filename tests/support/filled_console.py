"""A gateway as people meet it after some weeks: drawings decided, reviewed and waiting, policies, a list, a report."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from scripts.serve import TOUR
from tests.conftest import ROOT, Stack
from tests.support.gateway_processes import more_gateways

DRAWINGS = ROOT / "gateway" / "console" / "demo"
TRUTH = {"bare-figure": "nudity", "splatter": "gore", "scrawl": "offensive"}  # the others are harmless
WAITING = 12  # drawings of the tour's policy, which nobody has judged
AT_ONCE = 15
JOB_S = 400
LABELLED = 24  # drawings in the labelled set
POLL_S = 0.5  # the job has a processor to itself


@dataclass(frozen=True)
class Filled:
    """Where it is, and what there is to look at."""

    url: str
    decision: str
    job: str


@contextmanager
def filled_gateway(stack: Stack, folder: Path) -> Iterator[Filled]:
    """Run an open gateway and fill it through its API; only the times of the decisions are moved in its database."""
    with (
        more_gateways(stack, 1, folder, **TOUR) as (url,),
        httpx2.Client(base_url=url, timeout=120) as client,
    ):
        names: list[str] = json.loads((DRAWINGS / "drawings.json").read_text())
        _tour(client)
        decided = _moderate(client, names, "default")
        with closing(sqlite3.connect(folder / "gateway.sqlite", timeout=30)) as database, database:
            database.execute(
                "UPDATE decisions SET at = strftime('%Y-%m-%d %H:%M:%f000', at, '-' || (9 * (? - number)) || ' hours')"
                " FROM (SELECT id AS one, row_number() OVER (ORDER BY at, id) AS number FROM decisions) WHERE one = id",
                (len(names),),
            )
        waiting = _moderate(client, names[:WAITING], "tour")
        _verdicts(client, decided)
        first = next(iter(waiting.values()))
        _said(client.post(f"/v1/reviews/{first}/appeal", json={"note": "It is a drawing of paint."}))
        yield Filled(url, first, _evaluated(client, names))


def _said(answer: httpx2.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


def _tour(client: httpx2.Client) -> None:
    """Save the policy of the console's tour, and a draft of the default one."""
    default = _said(client.get("/v1/policies/default"))
    body = {"views": default["views"], "rules": default["rules"]}
    eager = [{**rule, "review_at": 0.2, "block_at": None} for rule in body["rules"]]
    _said(client.put("/v1/policies/tour", json={"views": body["views"], "rules": eager, "description": "Asks people."}))
    body["rules"][0]["block_at"] = 0.95
    _said(client.put("/v1/policies/default?activate=false", json=body))
    entries = [{"sha256": f"{number:064x}"} for number in range(3)]
    _said(client.put("/v1/lists/known-ads", json={"action": "block", "kind": "sha256"}))
    _said(client.post("/v1/lists/known-ads/entries", json={"entries": entries}))


def _moderate(client: httpx2.Client, names: list[str], policy: str) -> dict[str, str]:
    """Return the ids of decisions by the drawings' names."""
    found: dict[str, str] = {}
    for start in range(0, len(names), AT_ONCE):
        images = [
            {"base64": base64.b64encode((DRAWINGS / f"{name}.webp").read_bytes()).decode(), "external_id": name}
            for name in names[start : start + AT_ONCE]
        ]
        answer = _said(client.post("/v1/moderate", json={"images": images, "policy": policy}))
        for image, result in zip(images, answer["results"], strict=True):
            found[image["external_id"]] = result["decision_id"]
    return found


def _verdicts(client: httpx2.Client, decided: dict[str, str]) -> None:
    """Judge two of three as they are, and one of ten otherwise."""
    for number, (name, decision) in enumerate(decided.items()):
        category = TRUTH.get(name.rsplit("-", 2)[0])
        blocked = (category is not None) != (number % 10 == 9)
        verdict: dict[str, Any] = {"decision": "block" if blocked else "allow", "reviewer": ("ann", "ben")[number % 2]}
        if blocked and category:
            verdict["note"] = "As the policy says."
        if number % 3:
            verdict["categories"] = [category or "gore"] * blocked
            _said(client.post(f"/v1/decisions/{decision}/feedback", json=verdict))


def _evaluated(client: httpx2.Client, names: list[str]) -> str:
    """Return the id of an evaluation that is done, over the drawings as a labelled set."""
    _said(client.put("/v1/labelled-sets/drawings", json={"description": "Drawings of the tour"}))
    for start in range(0, LABELLED, AT_ONCE):
        images = [
            {
                "base64": base64.b64encode((DRAWINGS / f"{name}.webp").read_bytes()).decode(),
                "labels": [TRUTH.get(name.rsplit("-", 2)[0], "harmless")],
            }
            for name in names[start : min(start + AT_ONCE, LABELLED)]
        ]
        _said(client.post("/v1/labelled-sets/drawings/images", json={"images": images}))
    asked = {"kind": "evaluate", "policy": "default", "source": {"set": "drawings"}, "goals": {"catch": 0.8}}
    job: str = _said(client.post("/v1/jobs", json=asked))["id"]
    end = time.monotonic() + JOB_S
    while (state := _said(client.get(f"/v1/jobs/{job}"))["state"]) in {"queued", "running"} and time.monotonic() < end:
        time.sleep(POLL_S)
    assert state == "done"
    return job
