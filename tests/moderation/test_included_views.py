"""`include` of moderate and of dry runs over named decisions: what a category's score is made of, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from gateway.moderation.heads import packed
from tests.support.fake_encoder import DIM
from tests.support.in_process_app import Web, b64, is_problem, png
from tests.support.saved_policies import ALWAYS, CLASSIFIER, NEVER, moderate, put

pytest_plugins = ["tests.support.saved_policies_fixtures"]

BOTH = ["views", "embedding"]
DRY_RUN = "/v1/policies/strict/dry-run"
CALIBRATED = {
    **CLASSIFIER,
    "labels": [{**CLASSIFIER["labels"][0], "calibration": {"scale": 2.0, "offset": -1.0}}, {"label": "good"}],
}


def one(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    return dict(result)


def bad_by_view(result: dict[str, Any], classifier: str) -> list[float]:
    by_label = [{row["label"]: row["score"] for row in view["classifiers"][classifier]} for view in result["views"]]
    return [scores["bad"] for scores in by_label]


def test_the_score_of_a_category_follows_from_the_views(made: Web) -> None:
    put(made, "/v1/policies/strict", {**ALWAYS, "views": "tiles"})
    result = one(moderate(made, png(size=300), include=BOTH))
    places = [(entry["view"], entry["box"]) for entry in result["categories"][0]["evidence"]]
    assert set(result["views"][0]["classifiers"]) == {"scene@1"}
    bad = bad_by_view(result, "scene@1")
    assert result["categories"][0]["score"] == pytest.approx(max(bad), abs=1e-6)
    best = result["views"][int(np.argmax(bad))]
    assert places == [(best["view"], best["box"])]
    for view in result["views"]:
        assert sum(row["score"] for row in view["classifiers"]["scene@1"]) == pytest.approx(1, abs=1e-5)
        assert np.linalg.norm(view["embedding"]) == pytest.approx(1, abs=1e-5)


def test_scores_of_views_are_those_before_calibration(made: Web) -> None:
    before = one(moderate(made, include=["views"]))
    put(made, "/v1/classifiers/scene", CALIBRATED)
    put(made, "/v1/policies/strict", {**ALWAYS, "description": "again"})
    after = one(moderate(made, include=["views"]))
    raw = max(bad_by_view(after, "scene@2"))
    assert raw == pytest.approx(max(bad_by_view(before, "scene@1")), abs=1e-6)
    logit = 2 * np.log(raw / (1 - raw)) - 1
    assert after["categories"][0]["score"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    assert "embedding" not in after["views"][0]


@pytest.mark.parametrize("web", [{"decision_vectors": True}], indirect=True)
def test_nothing_more_is_inferred_or_logged(made: Web) -> None:
    plain = one(moderate(made))
    calls = made.encoder.image_calls
    asked = one(moderate(made, include=BOTH))
    assert made.encoder.image_calls == calls + 1
    assert set(asked) == {*plain, "views"}
    kept = [made.client.get(f"/v1/decisions/{result['decision_id']}").json() for result in (plain, asked)]
    assert kept[0].keys() == kept[1].keys()
    assert "classifiers" not in json.dumps(kept[1]["categories"])


def test_views_are_those_of_the_policy_that_decided_whatever_its_shadow_looks_at(made: Web) -> None:
    put(made, "/v1/policies/other", {**NEVER, "views": "tiles"})
    result = one(moderate(made, png(size=300), shadow="other", include=BOTH))
    assert [view["view"] for view in result["views"]] == ["full"]
    assert result["shadow"]["policy"]["name"] == "other"


def test_a_repeated_request_gets_the_views_again_and_one_that_asks_for_others_is_another(made: Web) -> None:
    def ask(*include: str) -> Any:
        body = {"images": [b64(png())], "policy": "strict", "include": include}
        return made.client.post("/v1/moderate", json=body, headers={"Idempotency-Key": "one"})

    first, again = ask(*BOTH), ask(*BOTH)
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    assert one(again)["views"][0]["embedding"]
    is_problem(ask("views"), 422, "idempotency_key_reused")


def test_a_form_asks_by_repeating_the_field_and_what_is_not_known_is_refused(made: Web) -> None:
    files: Any = [("file", png()), ("policy", (None, "strict")), *(("include", (None, name)) for name in BOTH)]
    view = one(made.client.post("/v1/moderate", files=files))["views"][0]
    assert {"classifiers", "embedding"} <= set(view)
    is_problem(moderate(made, include=["similarity"]), 422, "invalid_request")


def test_of_a_batch_the_failed_image_has_no_views_and_what_a_list_decides_has_none_to_show(made: Web) -> None:
    put(made, "/v1/lists/known", {"action": "block", "kind": "sha256"})
    sha256 = one(moderate(made))["image"]["sha256"]
    assert made.client.post("/v1/lists/known/entries", json={"entries": [sha256]}).status_code < 300
    listed, failed, judged = moderate(made, png(), b"none", png("blue"), include=BOTH).json()["results"]
    assert listed["views"] == []
    assert "views" not in failed
    assert judged["views"]


@pytest.mark.parametrize("web", [{"decision_vectors": True}], indirect=True)
def test_named_decisions_get_the_candidates_verdict_from_their_vectors_alone(made: Web) -> None:
    first, second = (one(moderate(made, png(color), include=BOTH)) for color in ("red", "blue"))
    calls = made.encoder.image_calls
    ids = [second["decision_id"], "ff" * 16, first["decision_id"]]
    answer = made.client.post(DRY_RUN, json={"policy": NEVER, "decision_ids": ids, "include": BOTH}).json()
    assert [result["decision_id"] for result in answer["results"]] == ids
    assert [result["skipped"] for result in answer["results"]] == [None, "decision_not_found", None]
    assert (answer["compared"], answer["changed"], made.encoder.image_calls) == (2, 2, calls)
    for result, known in ((answer["results"][0], second), (answer["results"][2], first)):
        assert result["decision"] == "allow"
        assert result["image_sha256"] == known["image"]["sha256"]
        assert result["views"] == known["views"]
        assert result["categories"][0]["score"] == known["categories"][0]["score"]
    shown = made.client.post(DRY_RUN, json={"version": 1, "decision_ids": ids[:1]}).json()["results"]
    assert [result["decision"] for result in shown] == ["block"]
    assert "views" not in shown[0]


def test_named_decisions_without_vectors_say_so_and_filters_do_not_go_with_them(made: Web) -> None:
    decision_id = one(moderate(made))["decision_id"]
    answer = made.client.post(DRY_RUN, json={"version": 1, "decision_ids": [decision_id]}).json()
    assert answer["results"] == [{"decision_id": decision_id, "skipped": "vectors_not_kept"}]
    wrongs: tuple[dict[str, Any], ...] = (
        {"decision_ids": [decision_id], "decision": "block"},
        {"decision_ids": [decision_id], "images": [b64(png())]},
        {"decision_ids": ["a"] * 201},
        {"include": ["views"]},
    )
    for wrong in wrongs:
        is_problem(made.client.post(DRY_RUN, json={"version": 1, **wrong}), 422, "invalid_request")


@pytest.mark.parametrize("web", [{"decision_vectors": True}], indirect=True)
def test_views_that_no_answer_holds_are_refused_before_any_work(made: Web) -> None:
    count = 3000
    head = {
        "kind": "head",
        "labels": [f"label {number}" for number in range(count)],
        "output": "sigmoid",
        "model": {"id": "fake", "embedding_dim": DIM},
        "layers": [{"weight": packed(np.zeros((count, DIM))), "bias": packed(np.zeros(count))}],
    }
    assert put(made, "/v1/classifiers/large", head).status_code == 201
    put(made, "/v1/policies/strict", {**ALWAYS, "attributes": ["large"]})
    calls = made.encoder.image_calls
    is_problem(moderate(made, include=["views"]), 422, "invalid_request")
    assert made.encoder.image_calls == calls
    decision = one(moderate(made))["decision_id"]
    asked = {"version": 2, "decision_ids": [decision] * 200, "include": ["views"]}
    is_problem(made.client.post(DRY_RUN, json=asked), 422, "invalid_request")
    assert made.client.post(DRY_RUN, json={**asked, "decision_ids": [decision]}).status_code == 200
    assert made.client.post(DRY_RUN, json={**asked, "include": ["heatmap"]}).status_code == 422
