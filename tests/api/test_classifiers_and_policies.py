"""Classifiers, policies and lists over HTTP, on a fake encoder and a real SQLite store."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fake_encoder import BUNDLE_ID
from tests.support.in_process_app import Web, b64, is_problem, png
from tests.support.saved_policies import ALWAYS, CLASSIFIER, NEVER, moderate, put

pytest_plugins = ["tests.support.saved_policies_fixtures"]


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
        ("/v1/classifiers/x", {**CLASSIFIER, "kind": "tree"}, "invalid_request", "kind"),
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
