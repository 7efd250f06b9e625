"""Dry runs by the public API: what a candidate may be, where images come from, and why nothing was compared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.in_process_app import Web, b64, is_problem, png
from tests.support.saved_policies import ALWAYS, NEVER, moderate, put

pytest_plugins = ["tests.support.saved_policies_fixtures"]

PATH = "/v1/policies/strict/dry-run"
CENTER = {**NEVER, "views": "center"}


def dry_run(web: Web, **body: Any) -> dict[str, Any]:
    answer = web.client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("web", [{"decision_vectors": True}], indirect=True)
def test_the_candidate_is_named_like_the_policy_whatever_its_classifiers_are_called(made: Web) -> None:
    put(made, "/v1/classifiers/another", made.client.get("/v1/classifiers/scene").json() | {"name": "another"})
    rules = [{**NEVER["rules"][0], "classifier": "another", "category": "other"}, *NEVER["rules"]]
    moderate(made)
    answer = dry_run(made, policy={**NEVER, "rules": rules})
    assert answer["candidate"] == {"name": "strict", "version": 0, "classifiers": {"another": 1, "scene": 1}}
    assert (answer["compared"], answer["warnings"], answer["hint"]) == (1, [], None)


def test_a_policy_as_it_is_read_is_a_candidate(made: Web) -> None:
    """As PUT takes it: what the service adds is passed over, another name and a typing error are refused."""
    read = made.client.get("/v1/policies/strict").json()
    assert {"name", "version", "active", "created_at", "bundle_id", "classifiers"} <= set(read)
    images = [b64(png())]
    assert dry_run(made, policy=read, images=images)["changed"] == 0
    assert dry_run(made, policy={**read, **NEVER}, images=images)["changed"] == 1
    wrongs: tuple[dict[str, Any], ...] = ({"name": "other"}, {"rulez": []}, {"rules": 1})
    for wrong in wrongs:
        bodies = {**read, **wrong}
        refused = made.client.post(PATH, json={"policy": bodies, "images": images})
        is_problem(refused, 422, "invalid_request")
        is_problem(made.client.put("/v1/policies/strict", json=bodies), 422, "invalid_request")
        assert next(iter(wrong)) in refused.json()["detail"]


def test_a_form_with_files_is_a_dry_run_too(made: Web) -> None:
    files = [("file", ("a.png", png("red"), "image/png")), ("file", ("b.png", png("blue"), "image/png"))]
    by_body = made.client.post(PATH, files=files, data={"options": json.dumps({"policy": NEVER, "examples": 1})})
    assert (by_body.json()["compared"], by_body.json()["changed"], len(by_body.json()["examples"])) == (2, 2, 1)
    by_version = made.client.post(PATH, files=files, data={"version": "1"}).json()
    assert (by_version["compared"], by_version["changed"]) == (2, 0)
    is_problem(made.client.post(PATH, files=files), 422, "invalid_request")
    is_problem(made.client.post(PATH, files=files, data={"version": "1", "decision": "block"}), 422, "invalid_request")


def test_images_that_cannot_be_analyzed_are_named_by_their_errors(made: Web) -> None:
    private = {"url": "http://127.0.0.1/a.png"}
    answer = dry_run(made, version=1, images=[b64(b"nothing"), private, private])
    assert answer["skipped_because"] == {"unsupported_image": 1, "source_url_forbidden": 2}
    assert answer["warnings"] == ["nothing_compared", "source_url_forbidden"]
    is_problem(made.client.post(PATH, json={"version": 1, "images": [b64(b"nothing")]}), 415, "unsupported_image")


def test_nothing_compared_says_what_to_set(made: Web) -> None:
    empty = dry_run(made, policy=ALWAYS)
    assert (empty["compared"], empty["warnings"]) == (0, ["nothing_compared", "no_decisions"])
    assert "since" in empty["hint"]
    moderate(made)
    without = dry_run(made, policy=ALWAYS)
    assert without["warnings"] == ["nothing_compared", "vectors_not_kept"]
    assert "DECISION_VECTORS" in without["hint"]
    outside = dry_run(made, policy=ALWAYS, since="2999-01-01T00:00:00Z")
    assert outside["warnings"] == ["nothing_compared", "no_decisions"]


@pytest.mark.parametrize("web", [{"decision_vectors": True}], indirect=True)
def test_vectors_of_other_views_are_told(made: Web) -> None:
    moderate(made)
    answer = dry_run(made, policy=CENTER)
    assert (answer["skipped"], answer["skipped_because"]) == (1, {"other_views": 1})
    assert answer["warnings"] == ["nothing_compared", "other_views"]
    put(made, "/v1/policies/beside", CENTER)
    moderate(made, png("blue"), shadow="beside")  # what the hint says to do
    assert dry_run(made, policy=CENTER)["compared"] == 1
