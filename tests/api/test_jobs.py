"""Jobs by the public API, in process: from a labelled set to a report, and what goes wrong on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.child_processes import reports_of
from tests.support.in_process_app import Web, is_problem, png
from tests.support.saved_policies import ALWAYS, NEVER, moderate, put
from tests.support.waiting import until

pytest_plugins = ["tests.support.saved_policies_fixtures"]

pytestmark = pytest.mark.heavy

COLORS = ("red", "green", "blue", "black", "white", "pink", "gold", "navy", "teal", "lime", "gray", "brown")
HALF = {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "review_at": 0.3, "block_at": 0.5}]}
WAIT_S = 120


@pytest.fixture
def labelled(made: Web) -> Web:
    """A set of twelve drawings, every third of which is bad, and the policy ``strict``."""
    put(made, "/v1/policies/strict", HALF)
    assert made.client.put("/v1/labelled-sets/mine", json={}).status_code == 201
    files = [("file", ("a.png", png(color), "image/png")) for color in COLORS]
    labels = ['["bad"]' if number % 3 == 0 else "[]" for number in range(len(COLORS))]
    answer = made.client.post("/v1/labelled-sets/mine/images", files=files, data={"labels": labels})
    assert answer.json()["set"]["labels"] == {"bad": 4, "harmless": 8}, answer.text
    return made


def begun(web: Web, **asked: Any) -> str:
    body = {"kind": "evaluate", "policy": "strict", "source": {"set": "mine"}, **asked}
    answer = web.client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "queued"
    return str(answer.json()["id"])


def job_of(web: Web, job: str) -> dict[str, Any]:
    found: dict[str, Any] = web.client.get(f"/v1/jobs/{job}").json()
    return found


def ended(web: Web, job: str) -> dict[str, Any]:
    until(
        lambda: job_of(web, job)["state"] not in {"queued", "running"},
        lambda: f"it never ended: {job_of(web, job)}",
        WAIT_S,
    )
    return job_of(web, job)


def test_a_set_becomes_a_report_whose_figures_are_those_of_the_images(labelled: Web) -> None:
    job = begun(labelled)
    found = ended(labelled, job)
    assert (found["state"], found["error"], found["attempts"]) == ("done", None, 1)
    assert found["progress"] == {"step": "report", "done": 12, "total": 12}
    assert (found["result"]["pictures"], found["result"]["failed"], found["result"]["draft"]) == (12, 0, None)
    asked = moderate(labelled, *(png(color) for color in COLORS)).json()["results"]
    blocked = [result["decision"] == "block" for result in asked]
    (category,) = found["result"]["categories"]
    truth = [number % 3 == 0 for number in range(12)]
    assert (category["category"], category["positives"]) == ("bad", 4)
    recall = sum(one and two for one, two in zip(blocked, truth, strict=True)) / 4
    assert category["block"]["recall"]["value"] == pytest.approx(recall)
    assert {entry["name"] for entry in found["files"]} == {"report.html", "report.json", "judged.jsonl.gz"}
    page = labelled.client.get(f"/v1/jobs/{job}/files/report.html")
    assert page.headers["content-security-policy"].startswith("sandbox")
    assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "SAMEORIGIN"
    assert "<html" in page.text
    report = labelled.client.get(f"/v1/jobs/{job}/files/report.json")
    assert report.json()["categories"] == found["result"]["categories"]
    assert report.headers["content-disposition"] == 'attachment; filename="report.json"'
    assert json.loads(report.text)["policy"]["version"] == 2
    until(lambda: 'gateway_jobs{state="done"} 1.0' in labelled.client.get("/metrics").text)
    again = ended(labelled, begun(labelled, compare_with=job, policy="strict@1"))
    assert {"compare.html", "compare.json"} <= {entry["name"] for entry in again["files"]}
    compared = labelled.client.get(f"/v1/jobs/{again['id']}/files/compare.json").json()
    assert compared["pictures"] == 12
    listed = labelled.client.get("/v1/jobs", params={"state": "done", "limit": 1}).json()
    assert [one["id"] for one in listed["data"]] == [again["id"]]
    more = labelled.client.get("/v1/jobs", params={"cursor": listed["next_cursor"]}).json()
    assert ([one["id"] for one in more["data"]], more["next_cursor"]) == ([job], None)


def test_goals_make_a_draft_that_put_takes_or_say_what_is_missing(labelled: Web) -> None:
    promised = ended(labelled, begun(labelled, goals={"block_fpr": 0.9, "confidence": 0.5}))
    assert promised["state"] == "done", promised
    assert len(promised["result"]["promises"]) == 1
    draft = promised["result"]["draft"]
    saved = labelled.client.put("/v1/policies/strict", json=draft, params={"activate": "false"})
    assert (saved.status_code, saved.json()["version"], saved.json()["active"]) == (200, 3, False), saved.text
    assert draft["rules"][0]["classifier"] == "scene@1"
    refused = ended(labelled, begun(labelled, goals={"block_fpr": 0.01}))["result"]
    assert (refused["draft"], refused["promises"]) == (None, [])
    assert len(refused["missing"]) == 1


def test_reviewed_decisions_become_a_report(made: Web) -> None:
    put(made, "/v1/policies/strict", {**HALF, "audit_share": 1.0})
    results = moderate(made, *(png(color) for color in COLORS)).json()["results"]
    for number, result in enumerate(results):
        said = {"decision": "block" if number % 3 == 0 else "allow", "categories": ["bad"] if number % 3 == 0 else []}
        made.client.post(f"/v1/decisions/{result['decision_id']}/feedback", json=said)
    found = ended(made, begun(made, source={"reviewed": {"since": "2020-01-01T00:00:00Z"}}))
    assert (found["state"], found["result"]["pictures"]) == ("done", 12), found
    assert found["result"]["categories"][0]["positives"] == 4
    none = ended(made, begun(made, source={"reviewed": {"since": "2999-01-01T00:00:00Z"}}))
    assert (none["state"], none["error"]["code"], none["files"]) == ("failed", "invalid_request", [])
    assert "No reviewed decision" in none["error"]["detail"]


@pytest.mark.parametrize("web", [{"job_memory_mib": 16}], indirect=True)
def test_a_report_out_of_memory_fails_with_our_words(labelled: Web) -> None:
    found = ended(labelled, begun(labelled))
    assert (found["state"], found["error"]["code"]) == ("failed", "job_too_large")
    assert (found["result"], found["files"]) == (None, [])
    assert "JOB_MEMORY_MIB" in found["error"]["detail"]
    is_problem(labelled.client.get(f"/v1/jobs/{found['id']}/files/report.html"), 404, "not_found")


@pytest.mark.parametrize("web", [{"job_timeout_s": 0.2}], indirect=True)
def test_a_report_that_takes_too_long_fails(labelled: Web) -> None:
    found = ended(labelled, begun(labelled))
    assert (found["state"], found["error"]["code"]) == ("failed", "job_too_large")
    assert "JOB_TIMEOUT_S" in found["error"]["detail"]


def test_what_cannot_be_done_is_said_at_once(labelled: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(status: int, code: str, **asked: Any) -> None:
        body = {"policy": "strict", "source": {"set": "mine"}, **asked}
        is_problem(labelled.client.post("/v1/jobs", json=body), status, code)

    refused(404, "not_found", policy="nothing")
    refused(404, "not_found", source={"set": "nothing"})
    refused(404, "not_found", compare_with="nothing")
    refused(422, "invalid_request", source={})
    refused(422, "invalid_request", goals={"block_fpr": 2})
    refused(422, "invalid_request", source={"reviewed": {}}, calibrate=True)
    labelled.client.put("/v1/labelled-sets/empty", json={})
    refused(422, "invalid_request", source={"set": "empty"})
    is_problem(labelled.client.get("/v1/jobs/nothing"), 404, "not_found")
    is_problem(labelled.client.delete("/v1/jobs/nothing"), 404, "not_found")
    monkeypatch.setattr("gateway.api.console.jobs.is_installed", lambda: False)
    refused(501, "evaluation_not_installed")


@pytest.mark.parametrize("web", [{"jobs_at_a_time": 1, "max_open_jobs": 2}], indirect=True)
def test_a_cancelled_job_ends_its_process(labelled: Web) -> None:
    first, second = begun(labelled), begun(labelled)
    is_problem(
        labelled.client.post("/v1/jobs", json={"policy": "strict", "source": {"set": "mine"}}), 503, "overloaded"
    )
    until(lambda: bool(reports_of()), lambda: f"no process: {job_of(labelled, first)}", WAIT_S)
    (process,) = reports_of()
    environment = process.environ()
    assert not {name for name in environment if "KEY" in name or "DATABASE" in name}
    cancelled = labelled.client.delete(f"/v1/jobs/{first}").json()
    assert (cancelled["state"], cancelled["files"]) == ("cancelled", [])
    until(lambda: not process.is_running(), lambda: "it runs on", WAIT_S)
    assert ended(labelled, second)["state"] == "done"
    assert job_of(labelled, first)["state"] == "cancelled"


def test_never_allows(made: Web) -> None:
    """A policy that blocks nothing has a report too."""
    put(made, "/v1/policies/strict", NEVER)
    made.client.put("/v1/labelled-sets/mine", json={})
    files = [("file", ("a.png", png(), "image/png"))]
    made.client.post("/v1/labelled-sets/mine/images", files=files, data={"labels": "[]"})
    assert ended(made, begun(made))["state"] == "done"
