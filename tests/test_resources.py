"""Classifiers, policies, lists, decisions and moderation over HTTP, on a fake encoder and a real SQLite store."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.errors import ModelUnavailable
from gateway.settings import Settings
from gateway.store.sql import SqlStore
from tests.fakes import BUNDLE_ID, FakeEncoder, write_bundle
from tests.waiting import until
from tests.web import Web, b64, is_problem, png, wait_ready

CLASSIFIER: dict[str, Any] = {
    "mode": "softmax",
    "labels": [{"label": "bad", "prompts": ["b1", "b2"]}, {"label": "good"}],
    "description": "for tests",
}
ALWAYS: dict[str, Any] = {
    "rules": [{"category": "bad", "classifier": "scene", "labels": ["bad"], "review_at": 0.0, "block_at": 0.0}],
    "views": "full",
    "openai_categories": {"bad": ["violence"]},
}
NEVER = {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "review_at": 1.0, "block_at": None}]}


def put(web: Web, path: str, body: dict[str, Any], **options: Any) -> Any:
    return web.client.put(path, json=body, **options)


@pytest.fixture
def made(web: Web) -> Web:
    """The application with a classifier and the policy ``strict``, which blocks everything."""
    assert put(web, "/v1/classifiers/scene", CLASSIFIER).status_code == 201
    assert put(web, "/v1/policies/strict", ALWAYS).status_code == 201
    return web


def moderate(web: Web, *pictures: bytes, **fields: Any) -> Any:
    body = {"images": [b64(picture) for picture in pictures or (png(),)], "policy": "strict", **fields}
    return web.client.post("/v1/moderate", json=body)


@pytest.mark.parametrize("web", [{"max_new_prompts": 5, "max_saved_prompts": 8}], indirect=True)
def test_a_saved_classifier_may_have_more_prompts_than_a_request_and_is_ready_when_it_is_saved(web: Web) -> None:
    labels, templates = ["cat", "dog", "cow"], ["a {}", "my {}"]
    question = {"images": [b64(png())], "labels": labels, "templates": templates}
    is_problem(web.client.post("/v1/classify", json=question), 422, "invalid_labels")
    too_many = {"labels": labels, "templates": [*templates, "the {}"]}
    is_problem(put(web, "/v1/classifiers/farm", too_many), 422, "invalid_labels")
    assert put(web, "/v1/classifiers/farm", {"labels": labels, "templates": templates}).status_code == 201
    answer = web.client.post("/v1/classify", json={"images": [b64(png())], "classifier": "farm"}).json()
    assert {entry["label"] for entry in answer["results"][0]["scores"]} == set(labels)
    assert web.client.post("/v1/classify", json=question).status_code == 200  # none of its prompts is new now


def test_versions_are_immutable_and_etags_guard_them(web: Web) -> None:
    first = put(web, "/v1/classifiers/scene", CLASSIFIER)
    assert (first.status_code, first.json()["version"]) == (201, 1)
    again = put(web, "/v1/classifiers/scene", CLASSIFIER)
    assert (again.status_code, again.json()["version"], again.headers["etag"]) == (200, 1, first.headers["etag"])
    changed = {**CLASSIFIER, "description": "changed"}
    second = put(web, "/v1/classifiers/scene", changed, headers={"if-match": first.headers["etag"]})
    assert (second.status_code, second.json()["version"]) == (200, 2)
    stale = put(web, "/v1/classifiers/scene", CLASSIFIER, headers={"if-match": first.headers["etag"]})
    is_problem(stale, 412, "precondition_failed")
    assert web.client.get("/v1/classifiers/scene?version=1").json()["description"] == "for tests"
    versions = web.client.get("/v1/classifiers/scene/versions").json()["data"]
    assert [entry["version"] for entry in versions] == [2, 1]
    assert any(entry["name"] == "scene" for entry in web.client.get("/v1/classifiers").json()["data"])


def test_a_draft_is_saved_and_promoted_and_rolled_back(web: Web) -> None:
    put(web, "/v1/classifiers/scene", CLASSIFIER)
    draft = put(web, "/v1/classifiers/scene?activate=false", {**CLASSIFIER, "description": "draft"})
    assert (draft.json()["version"], draft.json()["active"]) == (2, False)
    assert web.client.get("/v1/classifiers/scene").json()["version"] == 1
    promoted = web.client.post("/v1/classifiers/scene/activate", json={"version": 2})
    assert promoted.json()["active"] is True
    assert web.client.get("/v1/classifiers/scene").json()["version"] == 2
    web.client.post("/v1/classifiers/scene/activate", json={"version": 1})
    assert web.client.get("/v1/classifiers/scene").json()["version"] == 1
    is_problem(web.client.post("/v1/classifiers/scene/activate", json={"version": 9}), 404, "not_found")


def test_what_was_read_can_be_edited_and_sent_back(made: Web) -> None:
    for path in ("/v1/policies/strict", "/v1/classifiers/scene"):
        read = made.client.get(path)
        same = put(made, path, read.json(), headers={"if-match": f'"other", {read.headers["etag"]}'})
        assert (same.status_code, same.json()) == (200, read.json())
        edited = put(made, path, {**read.json(), "description": "edited"})
        assert (edited.json()["version"], edited.json()["description"]) == (2, "edited")
        is_problem(put(made, path, {**read.json(), "name": "another"}), 422, "invalid_request")


def test_a_stale_if_match_says_what_to_read(made: Web) -> None:
    put(made, "/v1/policies/strict?activate=false", NEVER)
    in_force = made.client.get("/v1/policies/strict").headers["etag"]
    stale = put(made, "/v1/policies/strict", ALWAYS, headers={"if-match": in_force})
    is_problem(stale, 412, "precondition_failed")
    assert "?version=2" in stale.json()["detail"], (
        "the version in force is not the latest: reading it again would not help"
    )
    latest = made.client.get("/v1/policies/strict?version=2").headers["etag"]
    assert put(made, "/v1/policies/strict", ALWAYS, headers={"if-match": latest}).json()["version"] == 3
    absent = put(made, "/v1/policies/other", ALWAYS, headers={"if-match": "*"})
    is_problem(absent, 412, "precondition_failed")
    assert "nothing named" in absent.json()["detail"]


def test_a_first_draft_is_not_served(made: Web) -> None:
    draft = put(made, "/v1/policies/new?activate=false", ALWAYS)
    assert (draft.status_code, draft.json()["active"]) == (201, False)
    refused = moderate(made, policy="new")
    is_problem(refused, 404, "not_found")
    assert "drafts only" in refused.json()["detail"]
    assert moderate(made, policy="new@1").json()["results"][0]["decision"] == "block"
    assert made.client.get("/v1/policies/new").json()["active"] is False
    made.client.post("/v1/policies/new/activate", json={"version": 1})
    assert moderate(made, policy="new").json()["results"][0]["decision"] == "block"


def test_a_deleted_policy_is_gone_with_its_old_versions(made: Web) -> None:
    put(made, "/v1/policies/strict", NEVER)
    assert moderate(made, policy="strict@1").status_code == 200
    made.client.delete("/v1/policies/strict")
    is_problem(moderate(made, policy="strict@1"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/policies/strict?active=false"),
        ("PUT", "/v1/policies/strict?activate=false&activate=true"),
        ("GET", "/v1/decisions?external=user-1"),
        ("DELETE", "/v1/decisions?external_id=a&policy=strict"),
        ("GET", "/v1/lists?limit=3"),
    ],
)
def test_unknown_query_parameters_are_refused(made: Web, method: str, path: str) -> None:
    is_problem(made.client.request(method, path, json=ALWAYS), 422, "invalid_request")
    assert made.client.get("/v1/policies/strict").json()["version"] == 1


def test_filters_that_cannot_be_asked_are_named(made: Web) -> None:
    for query, said in (
        ("since=2026-01-01T00:00:00+02:00", "%2B"),
        ("since=0001-01-01T00:00:00%2B14:00", "out of range"),
        ("limit=501", "at most 500"),
        ("policy=Strict", "name@version"),
        ("category=%00", "A filter"),
        ("cursor=nonsense", "cursor"),
    ):
        refused = made.client.get(f"/v1/decisions?{query}")
        is_problem(refused, 422, "invalid_request")
        assert said in refused.json()["detail"], query
    moderate(made)
    put(made, "/v1/policies/strict", NEVER)
    moderate(made)
    for reference, count in (("strict", 2), ("strict@1", 1), ("strict@3", 0)):
        assert len(made.client.get(f"/v1/decisions?policy={reference}").json()["data"]) == count
    made.client.put("/v1/lists/bad", json={"action": "block", "kind": "sha256"})
    refused = made.client.get("/v1/lists/bad/entries?cursor=abc")
    assert "cursor" in refused.json()["detail"]


@pytest.mark.parametrize("web", [{"perceptual_hash": False}], indirect=True)
def test_a_perceptual_list_that_is_not_asked_is_told(made: Web) -> None:
    made.client.put("/v1/lists/near", json={"action": "block", "kind": "pdq"})
    assert "perceptual_lists_not_asked" not in moderate(made).json()["results"][0]["warnings"], "it is empty"
    made.client.post("/v1/lists/near/entries", content="0f" * 32)
    result = moderate(made).json()["results"][0]
    assert "perceptual_lists_not_asked" in result["warnings"]


@pytest.mark.parametrize(
    ("path", "body", "code", "said"),
    [
        ("/v1/classifiers/Bad Name", CLASSIFIER, "invalid_request", "name"),
        ("/v1/classifiers/x", {**CLASSIFIER, "templates": ["no slot"]}, "invalid_labels", "{}"),
        ("/v1/classifiers/x", {**CLASSIFIER, "labels": []}, "invalid_labels", "labels"),
        ("/v1/classifiers/x", {**CLASSIFIER, "labels": ["only"]}, "invalid_labels", "at least 2"),
        ("/v1/classifiers/x", {**CLASSIFIER, "labels": ["a", "x" * 60]}, "label_too_long", "at most 14"),
        ("/v1/classifiers/x", {**CLASSIFIER, "kind": "head"}, "invalid_request", "kind"),
        ("/v1/policies/x", {"rules": []}, "invalid_request", "rules"),
        (
            "/v1/policies/x",
            {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "classifier": "none"}]},
            "invalid_request",
            "none",
        ),
        (
            "/v1/policies/x",
            {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "labels": ["other"]}]},
            "invalid_request",
            "other",
        ),
        (
            "/v1/policies/x",
            {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "review_at": 0.5}]},
            "invalid_request",
            "review_at",
        ),
        (
            "/v1/policies/x",
            {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "block_at": 1.2}]},
            "invalid_request",
            "“rules.0.block_at” must be at most 1",
        ),
        (
            "/v1/policies/x",
            {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "block_at": True}]},
            "invalid_request",
            "“rules.0.block_at” must be a number",
        ),
        (
            "/v1/policies/x",
            {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "classifier": "Scene"}]},
            "invalid_request",
            "name@version",
        ),
        (
            "/v1/policies/x",
            {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "category": "list:bad"}], "openai_categories": {}},
            "invalid_request",
            "list:",
        ),
        (
            "/v1/classifiers/x",
            {"labels": [{"label": "a", "calibration": {"scale": 0}}, "b"]},
            "invalid_labels",
            "must be more than 0",
        ),
    ],
)
def test_what_is_wrong_is_named(made: Web, path: str, body: dict[str, Any], code: str, said: str) -> None:
    response = put(made, path, body)
    is_problem(response, 422, code)
    assert said in response.json()["detail"]


def test_a_policy_pins_versions_and_a_used_classifier_stays(made: Web) -> None:
    put(made, "/v1/classifiers/scene", {**CLASSIFIER, "description": "newer"})
    policy = made.client.get("/v1/policies/strict").json()
    assert (policy["classifiers"], policy["bundle_id"]) == ({"scene": 1}, BUNDLE_ID)
    assert moderate(made).json()["results"][0]["policy"] == {
        "name": "strict",
        "version": 1,
        "classifiers": {"scene": 1},
    }
    assert put(made, "/v1/policies/strict", ALWAYS).json()["version"] == 2, "the same body pins what is in force now"
    assert made.client.get("/v1/policies/strict").json()["classifiers"] == {"scene": 2}
    is_problem(made.client.delete("/v1/classifiers/scene"), 409, "resource_in_use")
    assert made.client.delete("/v1/policies/strict").status_code == 204
    assert made.client.delete("/v1/classifiers/scene").status_code == 204
    is_problem(moderate(made), 404, "not_found")


def test_a_new_scenario_works_on_the_next_request_and_its_words_cost_no_request(made: Web) -> None:
    calls = len(made.encoder.text_calls)
    response = moderate(made, policy="strict@1")
    assert response.json()["results"][0]["decision"] == "block"
    assert len(made.encoder.text_calls) == calls
    answer = made.client.post("/v1/classify", json={"images": [b64(png())], "classifier": "scene"}).json()
    assert answer["classifier"] == "scene@1"
    assert {score["label"] for score in answer["results"][0]["scores"]} == {"bad", "good"}
    assert len(made.encoder.text_calls) == calls
    both = {"images": [b64(png())], "classifier": "scene", "labels": ["a", "b"]}
    is_problem(made.client.post("/v1/classify", json=both), 422, "invalid_request")


def test_a_decision_says_why_and_is_logged(made: Web) -> None:
    picture = png()
    response = moderate(made, picture, external_id="user-1")
    result = response.json()["results"][0]
    assert result["decision"] == "block"
    (category,) = result["categories"]
    assert (category["category"], category["block_at"]) == ("bad", 0.0)
    assert category["evidence"][0]["view"] == "full"
    assert category["evidence"][0]["box"] == [0, 0, 64, 64]
    assert "uncalibrated" in result["warnings"]
    row = made.client.get(f"/v1/decisions/{result['decision_id']}").json()
    assert row["request_id"] == response.json()["request_id"]
    assert row["image"]["sha256"] == hashlib.sha256(picture).hexdigest()
    assert (row["decision"], row["policy"]["version"], row["external_id"]) == ("block", 1, "user-1")
    assert row["categories"] == result["categories"]
    put(made, "/v1/policies/lenient", NEVER)
    moderate(made, png("blue"), policy="lenient")
    for query, count in (
        ("", 2),
        ("?decision=block", 1),
        ("?policy=lenient", 1),
        ("?category=bad", 1),
        ("?external_id=user-1", 1),
        ("?since=2999-01-01T00:00:00Z", 0),
    ):
        assert len(made.client.get(f"/v1/decisions{query}").json()["data"]) == count, query
    page = made.client.get("/v1/decisions?limit=1").json()
    rest = made.client.get(f"/v1/decisions?limit=1&cursor={page['next_cursor']}").json()
    assert {entry["decision"] for entry in (*page["data"], *rest["data"])} == {"allow", "block"}
    assert made.client.get("/v1/decisions?format=jsonl").text.count("\n") == 2
    is_problem(made.client.get("/v1/decisions?cursor=nonsense"), 422, "invalid_request")
    is_problem(made.client.get("/v1/decisions?limit=many"), 422, "invalid_request")
    path = f"/v1/decisions/{result['decision_id']}/feedback"
    assert made.client.post(path, json={"decision": "allow", "note": "art"}).status_code == 201
    assert made.client.get(f"/v1/decisions/{result['decision_id']}").json()["feedback"][0]["note"] == "art"
    is_problem(made.client.post("/v1/decisions/none/feedback", json={"decision": "allow"}), 404, "not_found")
    assert made.client.delete("/v1/decisions?external_id=user-1").json() == {"deleted": 1}
    is_problem(made.client.get(f"/v1/decisions/{result['decision_id']}"), 404, "not_found")


@pytest.mark.parametrize("web", [{"decision_log": False}], indirect=True)
def test_the_log_can_be_switched_off(made: Web) -> None:
    result = moderate(made).json()["results"][0]
    assert (result["decision"], result["decision_id"]) == ("block", None)
    assert made.client.get("/v1/decisions").json()["data"] == []


@pytest.mark.parametrize(
    "web",
    [{"store_timeout_s": 0.3}, {"store_timeout_s": 0.3, "decision_log_required": True}],
    indirect=True,
    ids=["optional", "required"],
)
def test_a_decision_that_cannot_be_logged(made: Web, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """By default it is given with a warning and no id; where the log is required it is not given, at any endpoint."""
    required = request.node.callspec.id == "required"
    image = {"url": "data:image/png;base64," + b64(png())["base64"]}
    flagging = {"model": "strict", "input": [{"type": "image_url", "image_url": image}]}
    with sqlite3.connect(tmp_path / "data" / "gateway.sqlite", isolation_level=None) as held:
        held.execute("BEGIN IMMEDIATE")  # another process writes, and does not come to an end
        decided, flagged = moderate(made), made.client.post("/v1/moderations", json=flagging)
        unreadable = moderate(made, b"nothing")
        held.execute("ROLLBACK")
    held.close()
    if required:
        is_problem(decided, 503, "storage_unavailable")
        assert (flagged.status_code, flagged.json()["error"]["code"]) == (503, "storage_unavailable")
        for answer in (decided, flagged):
            assert not {"results", "decision", "flagged"} & set(answer.json())
    else:
        (result,) = decided.json()["results"]
        assert (result["decision"], result["decision_id"]) == ("block", None)
        assert "decision_not_logged" in result["warnings"]
        assert flagged.json()["results"][0]["flagged"] is True
    is_problem(unreadable, 415, "unsupported_image")  # there is no decision to log
    until(lambda: not made.client.get("/readyz").json()["degraded"])  # the log notices by itself
    assert moderate(made).json()["results"][0]["decision_id"]
    assert len(made.client.get("/v1/decisions").json()["data"]) == 1, "nothing of what failed was written"


def test_a_failed_picture_has_no_verdict_and_no_row(made: Web) -> None:
    results = moderate(made, png(), b"nothing").json()["results"]
    assert [result["decision"] for result in results] == ["block", None]
    assert results[1]["error"]["code"] == "unsupported_image"
    assert len(made.client.get("/v1/decisions").json()["data"]) == 1
    made.encoder.failure = ModelUnavailable("down")
    is_problem(moderate(made), 503, "model_unavailable")
    assert len(made.client.get("/v1/decisions").json()["data"]) == 1


def test_a_shadow_is_reported_and_never_decides(made: Web) -> None:
    put(made, "/v1/policies/lenient", NEVER)
    result = moderate(made, policy="lenient", shadow="strict").json()["results"][0]
    assert result["decision"] == "allow"
    assert result["shadow"]["decision"] == "block"
    assert result["shadow"]["policy"]["name"] == "strict"


def test_known_pictures_decide_before_any_model(made: Web) -> None:
    known, other = png("red"), png("green")
    digest = hashlib.sha256(known).hexdigest()
    made.client.put("/v1/lists/bad", json={"action": "block", "kind": "sha256"})
    made.client.put("/v1/lists/good", json={"action": "allow", "kind": "sha256"})
    put(made, "/v1/policies/lenient", NEVER)
    added = made.client.post("/v1/lists/bad/entries", content=f"# comment\n{digest.upper()}\n\n")
    assert added.json() == {"received": 1, "added": 1}
    calls = made.encoder.image_calls
    result = moderate(made, known, policy="lenient").json()["results"][0]
    assert result["decision"] == "block"
    assert result["categories"][0]["evidence"][0]["kind"] == "list"
    assert made.encoder.image_calls == calls
    made.client.post("/v1/lists/good/entries", json=[digest, hashlib.sha256(other).hexdigest()])
    assert moderate(made, known).json()["results"][0]["decision"] == "block", "block wins over allow"
    assert moderate(made, other).json()["results"][0]["decision"] == "allow"
    assert made.client.get("/v1/lists/good").json()["entries"] == 2
    assert made.client.request("DELETE", "/v1/lists/bad/entries", json=[digest]).json() == {"deleted": 1}
    assert moderate(made, known).json()["results"][0]["decision"] == "allow"
    is_problem(made.client.put("/v1/lists/p", json={"action": "allow", "kind": "pdq"}), 422, "invalid_request")
    is_problem(made.client.put("/v1/lists/bad", json={"action": "block", "kind": "pdq"}), 422, "invalid_request")
    is_problem(made.client.post("/v1/lists/bad/entries", content="abc"), 422, "invalid_request")
    is_problem(made.client.get("/v1/lists/none"), 404, "not_found")
    assert made.client.delete("/v1/lists/bad").status_code == 204
    assert [entry["name"] for entry in made.client.get("/v1/lists").json()["data"]] == ["good"]


def test_each_picture_of_a_request_meets_its_own_list(made: Web) -> None:
    pictures = {name: png(name) for name in ("red", "green", "blue", "white")}
    for name, action in (("bad", "block"), ("good", "allow")):
        made.client.put(f"/v1/lists/{name}", json={"action": action, "kind": "sha256"})
    made.client.post("/v1/lists/bad/entries", json=[hashlib.sha256(pictures["green"]).hexdigest()])
    made.client.post("/v1/lists/good/entries", json=[hashlib.sha256(pictures["blue"]).hexdigest()])
    results = moderate(made, *pictures.values()).json()["results"]
    assert [result["decision"] for result in results] == ["block", "block", "allow", "block"]
    kinds = [{e["kind"] for c in result["categories"] for e in c["evidence"]} for result in results]
    assert kinds == [{"label"}, {"list"}, {"list"}, {"label"}]


@pytest.mark.parametrize("web", [{"decision_vectors": True}], indirect=True)
def test_a_dry_run_over_stored_vectors_needs_neither_picture_nor_model(made: Web) -> None:
    for color in ("red", "green", "blue"):
        moderate(made, png(color))
    made.encoder.failure = ModelUnavailable("down")
    answer = made.client.post("/v1/policies/strict/dry-run", json={"policy": NEVER}).json()
    assert (answer["compared"], answer["changed"]) == (3, 3)
    assert answer["counts"] == [{"before": "block", "after": "allow", "count": 3}]
    assert {example["after"] for example in answer["examples"]} == {"allow"}
    same = made.client.post("/v1/policies/strict/dry-run", json={"version": 1}).json()
    assert (same["compared"], same["changed"]) == (3, 0)
    assert made.client.get("/v1/policies/strict/versions").json()["data"][0]["version"] == 1, "nothing was saved"


def test_a_dry_run_over_pictures(made: Web) -> None:
    body = {"policy": NEVER, "images": [b64(png("red")), b64(b"nothing")]}
    answer = made.client.post("/v1/policies/strict/dry-run", json=body).json()
    assert (answer["compared"], answer["skipped"], answer["changed"]) == (1, 1, 1)
    is_problem(made.client.post("/v1/policies/strict/dry-run", json={}), 422, "invalid_request")
    both = {**body, "decision": "block"}
    is_problem(made.client.post("/v1/policies/strict/dry-run", json=both), 422, "invalid_request")


def test_openais_shape(made: Web) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(png())["base64"]}}
    answer = made.client.post("/v1/moderations", json={"model": "strict", "input": [part, part]})
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert result["flagged"] is True
    assert (
        len(result["categories"]) == len(result["category_scores"]) == len(result["category_applied_input_types"]) == 13
    )
    assert result["categories"]["violence"] is True
    assert result["category_applied_input_types"]["violence"] == ["image"]
    assert (result["categories"]["sexual/minors"], result["category_scores"]["sexual/minors"]) == (False, 0.0)
    text = made.client.post("/v1/moderations", json={"model": "strict", "input": "some words"})
    assert text.status_code == 400
    assert set(text.json()["error"]) == {"message", "type", "param", "code"}
    assert text.json()["error"]["code"] == "text_not_supported"
    beside = [part, {"type": "text", "text": "words"}]
    assert made.client.post("/v1/moderations", json={"model": "strict", "input": beside}).status_code == 400
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    failed = made.client.post("/v1/moderations", json={"model": "strict", "input": [part, broken]})
    assert (failed.status_code, failed.json()["error"]["code"]) == (415, "unsupported_image")
    for name in ("nothing", "No Name"):
        missing = made.client.post("/v1/moderations", json={"model": name, "input": [part]})
        assert (missing.status_code, missing.json()["error"]["param"]) == (404, "model")
    for wrong, said in (({"type": "audio"}, "“input.0” must have 'type'"), ({"type": "image_url"}, "is required")):
        refused = made.client.post("/v1/moderations", json={"input": [wrong]}).json()["error"]["message"]
        assert said in refused
        assert "union" not in refused


@pytest.mark.parametrize("web", [{"moderations_text": "ignore", "moderations_review_flags": False}], indirect=True)
def test_text_can_be_read_past_and_review_need_not_flag(made: Web) -> None:
    review = {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "block_at": None}]}
    put(made, "/v1/policies/reviewing", review)
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(png())["base64"]}}
    body = {"model": "reviewing", "input": [part, {"type": "text", "text": "words"}]}
    assert made.client.post("/v1/moderations", json=body).json()["results"][0]["flagged"] is False
    assert made.client.post("/v1/moderations", json={"model": "strict", "input": [part]}).json()["results"][0][
        "flagged"
    ]
    only_text = made.client.post("/v1/moderations", json={"input": "words"})
    assert only_text.status_code == 400


def test_until_the_lists_are_read_nothing_is_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is on a list must not pass because its gateway has just started."""
    may_read = asyncio.Event()
    read = SqlStore.lists

    async def slow(self: SqlStore) -> Any:
        await may_read.wait()
        return await read(self)

    monkeypatch.setattr(SqlStore, "lists", slow)
    write_bundle(tmp_path)
    settings = Settings(model_repository=tmp_path, data_dir=tmp_path / "data", log_level="error")
    encoder = FakeEncoder()
    with TestClient(create_app(settings, lambda *_: encoder)) as client:
        web = Web(client, encoder)
        until(lambda: client.get("/readyz").json()["failing"] == ["lists"])
        assert client.get("/readyz").status_code == 503
        put(web, "/v1/classifiers/scene", CLASSIFIER)
        put(web, "/v1/policies/strict", ALWAYS)
        is_problem(moderate(web), 503, "storage_unavailable")
        assert client.portal is not None
        client.portal.call(may_read.set)
        wait_ready(web)
        assert moderate(web).json()["results"][0]["decision"] == "block"
