"""Versions beside the active one: a shadow of all traffic, and a candidate for a share of the images."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from gateway.moderation.rollout import place
from tests.support.in_process_app import Web, b64, is_problem, png
from tests.support.saved_policies import ALWAYS, NEVER, moderate, put
from tests.support.waiting import until

pytest_plugins = ["tests.support.saved_policies_fixtures"]

PATH = "/v1/policies/strict/rollout"
DRAFT = "/v1/policies/strict?activate=false"


def rolled_out(web: Web, **body: Any) -> Any:
    answer = web.client.put(PATH, json=body)
    assert answer.status_code == 200, answer.text
    return answer


def versions(web: Web, *pictures: bytes, **fields: Any) -> list[int]:
    answer = moderate(web, *pictures, **fields)
    assert answer.status_code == 200, answer.text
    return [result["policy"]["version"] for result in answer.json()["results"]]


def counted(web: Web) -> dict[str, float]:
    lines = [line for line in web.client.get("/metrics").text.splitlines() if line.startswith("gateway_shadow_dec")]
    return {line.split('shadow="')[1].split('"')[0]: float(line.split()[-1]) for line in lines if "_total{" in line}


def test_a_share_is_spread_evenly_and_a_larger_one_keeps_the_files_of_a_smaller() -> None:
    """Of 10,000 files a tenth is 1000, give or take 4 standard deviations of 30."""
    files = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(10_000)]
    places = [place("default", file) for file in files]
    assert 0 <= min(places) < max(places) < 1
    assert 880 <= sum(at < 0.1 for at in places) <= 1120
    assert places == [place("default", file) for file in files]
    others = [place("other", file) for file in files]
    both = sum(at < 0.1 and other < 0.1 for at, other in zip(places, others, strict=True))
    assert both < 160, "not the same files of each policy"


def test_a_shadow_is_compared_without_any_client_asking(made: Web) -> None:
    put(made, DRAFT, NEVER)
    assert made.client.get("/v1/policies/strict").json()["version"] == 1, "no version is made or activated for it"
    rolled_out(made, shadow="strict@2")
    (result,) = moderate(made, png("red")).json()["results"]
    assert (result["decision"], result["policy"]["version"]) == ("block", 1)
    assert (result["shadow"]["decision"], result["shadow"]["policy"]["version"]) == ("allow", 2)
    rolled_out(made, shadow="lenient") if put(made, "/v1/policies/lenient", ALWAYS) else None
    (alike,) = moderate(made, png("blue")).json()["results"]
    assert (alike["shadow"]["decision"], alike["shadow"]["policy"]["name"]) == ("block", "lenient")
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(png("green"))["base64"]}}
    assert made.client.post("/v1/moderations", json={"model": "strict", "input": [part]}).status_code == 200
    assert moderate(made, policy="strict@1").json()["results"][0]["shadow"] is None, "who names a version gets it alone"
    rows = made.client.get("/v1/decisions?shadow_differs=true").json()["data"]
    assert [row["id"] for row in rows] == [result["decision_id"]]
    assert rows[0]["shadow"]["decision"] == "allow"
    assert len(made.client.get("/v1/decisions?shadow_differs=false").json()["data"]) == 2
    assert made.client.get("/v1/decisions?shadow_differs=true&format=jsonl").text.count("\n") == 1
    assert counted(made) == {"milder": 1, "same": 2}
    (asked,) = moderate(made, shadow="strict@2").json()["results"]
    assert asked["shadow"]["policy"]["version"] == 2, "a request's own shadow goes before"
    assert made.client.delete(PATH).status_code == 204
    assert moderate(made).json()["results"][0]["shadow"] is None


def test_a_shadow_of_a_known_image_is_no_comparison(made: Web) -> None:
    put(made, "/v1/lists/bad", {"action": "block", "kind": "sha256"})
    made.client.post("/v1/lists/bad/entries", json=[hashlib.sha256(png()).hexdigest()])
    put(made, DRAFT, NEVER)
    rolled_out(made, shadow="strict@2")
    moderate(made)
    assert made.client.get("/v1/decisions").json()["data"][0]["shadow_differs"] is None
    assert counted(made) == {}


def test_a_candidate_decides_about_its_share_and_everything_says_so(made: Web) -> None:
    put(made, DRAFT, NEVER)
    pictures = [png((number, 0, 0), size=64) for number in range(0, 240, 8)]  # type: ignore[arg-type]
    rolled_out(made, candidate={"version": 2, "share": 0.5}, shadow="strict@2")
    before = versions(made, *pictures)
    assert 5 <= before.count(2) <= 25
    assert versions(made, *reversed(pictures)) == before[::-1]
    (result,) = moderate(made, pictures[before.index(2)]).json()["results"]
    assert (result["decision"], result["policy"]["version"]) == ("allow", 2)
    row = made.client.get(f"/v1/decisions/{result['decision_id']}").json()
    assert (row["decision"], row["policy"]["version"], row["shadow_differs"]) == ("allow", 2, False)
    assert len(made.client.get("/v1/decisions?policy=strict@2").json()["data"]) == 2 * before.count(2) + 1
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(picture)["base64"]}}
        for picture in (pictures[before.index(1)], pictures[before.index(2)])
    ]
    said = made.client.post("/v1/moderations", json={"model": "strict", "input": parts}).json()
    assert said["model"].startswith("strict@1,strict@2:")
    assert versions(made, *pictures, policy="strict@1") == [1] * len(pictures)
    rolled_out(made, candidate={"version": 2, "share": 1})
    assert versions(made, *pictures) == [2] * len(pictures)
    rolled_out(made, candidate={"version": 2, "share": 0})
    assert versions(made, *pictures) == [1] * len(pictures)


@pytest.mark.parametrize("how", ["delete", "activate", "put"])
def test_a_rollout_ends(made: Web, how: str) -> None:
    put(made, DRAFT, NEVER)
    rolled_out(made, candidate={"version": 2, "share": 1})
    put(made, "/v1/policies/strict?activate=false", {**NEVER, "description": "a draft ends nothing"})
    put(made, "/v1/classifiers/another", {"labels": ["a", "b"]})
    assert versions(made, png()) == [2]
    if how == "delete":
        assert made.client.delete(PATH).status_code == 204
    elif how == "activate":
        assert made.client.post("/v1/policies/strict/activate", json={"version": 1}).status_code == 200
    else:
        put(made, "/v1/policies/strict", {**ALWAYS, "description": "new"})
    assert versions(made, png()) == [4 if how == "put" else 1]
    is_problem(made.client.get(PATH), 404, "not_found")
    is_problem(made.client.delete(PATH), 404, "not_found")
    rows = made.client.get("/v1/audit?kind=rollout").json()["data"]
    assert [(row["action"], row["name"]) for row in rows] == [("delete", "strict"), ("put", "strict")]


def test_a_deleted_policy_leaves_no_rollout_behind(made: Web) -> None:
    put(made, DRAFT, NEVER)
    put(made, "/v1/policies/other", NEVER)
    rolled_out(made, candidate={"version": 2, "share": 1}, shadow="other")
    assert made.client.delete("/v1/policies/other").status_code == 204
    (result,) = moderate(made).json()["results"]
    assert (result["policy"]["version"], result["shadow"]) == (2, None)
    assert made.client.delete("/v1/policies/strict").status_code == 204
    put(made, "/v1/policies/strict", ALWAYS)
    is_problem(made.client.get(PATH), 404, "not_found")
    until(lambda: versions(made, png()) == [3])


def test_what_cannot_run_beside_a_policy_is_refused(made: Web) -> None:
    put(made, DRAFT, NEVER)
    wrong: list[dict[str, Any]] = [
        {},
        {"shadow": None},
        {"shadow": "none"},
        {"shadow": "strict"},
        {"shadow": "strict@1"},
        {"candidate": {"version": 9, "share": 0.1}},
        {"candidate": {"version": 1, "share": 0.1}},
        {"candidate": {"version": 2}},
        {"candidate": {"version": 2, "share": 1.1}},
        {"candidate": {"version": 2, "share": -0.1}},
        {"candidate": {"version": 2, "share": True}},
        {"candidate": {"version": 2, "share": "0.1"}},
    ]
    for body in wrong:
        is_problem(made.client.put(PATH, json=body), 422, "invalid_request")
    is_problem(made.client.put("/v1/policies/none/rollout", json={"shadow": "strict"}), 404, "not_found")
    is_problem(made.client.get(PATH), 404, "not_found")


def test_preconditions_hold_for_rollouts(made: Web) -> None:
    put(made, DRAFT, NEVER)
    body = {"candidate": {"version": 2, "share": 0.25}}
    first = made.client.put(PATH, json=body, headers={"if-none-match": "*"})
    assert (first.status_code, first.json()) == (200, {"policy": "strict", "shadow": None, **body})
    assert made.client.get(PATH).headers["etag"] == first.headers["etag"]
    is_problem(made.client.put(PATH, json=body, headers={"if-none-match": "*"}), 412, "precondition_failed")
    second = made.client.put(PATH, json=body, headers={"if-match": first.headers["etag"]})
    assert second.headers["etag"] != first.headers["etag"]
    stale = {"if-match": first.headers["etag"]}
    is_problem(made.client.delete(PATH, headers=stale), 412, "precondition_failed")
    assert made.client.delete(PATH, headers={"if-match": second.headers["etag"]}).status_code == 204


@pytest.mark.parametrize("web", [{"max_inferences": 8}], indirect=True)
def test_no_request_is_refused_for_the_views_of_what_runs_beside_its_policy(made: Web) -> None:
    """Eight images have an inference each: enough for the centre, not for what may be without bars too."""
    put(made, "/v1/policies/strict", {**ALWAYS, "views": "center"})
    put(made, DRAFT, {**NEVER, "views": "full"})
    pictures = [png()] * 8
    for body in ({"shadow": "strict@3"}, {"candidate": {"version": 3, "share": 1}}):
        rolled_out(made, **body)
        results = moderate(made, *pictures).json()["results"]
        assert {result["decision"] for result in results} == ({"block"} if "shadow" in body else {"allow"})
        assert {result["shadow"] and result["shadow"]["decision"] for result in results} == (
            {"allow"} if "shadow" in body else {None}
        )
    asked = moderate(made, *pictures, policy="strict@3").json()["results"]
    assert {result["error"]["code"] for result in asked} == {"invalid_request"}, "what a client asks for is counted"
