"""Samples and histograms for sliders: the scores are those of a dry run, the counts those of a hand."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.moderation.sampling import wilson
from tests.support.in_process_app import Web, is_problem, png
from tests.support.saved_policies import ALWAYS, CLASSIFIER, NEVER, moderate, put

pytest_plugins = ["tests.support.saved_policies_fixtures"]

PATH = "/v1/policies/strict"
COLORS = ("red", "green", "blue", "black", "white", "pink", "gold", "navy")
HALF = {**ALWAYS, "rules": [{**ALWAYS["rules"][0], "review_at": 0.3, "block_at": 0.5}]}
kept = pytest.mark.parametrize("web", [{"decision_vectors": True}], indirect=True)


def posted(web: Web, what: str, **body: Any) -> dict[str, Any]:
    answer = web.client.post(f"{PATH}/{what}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def decided(web: Web) -> dict[str, float]:
    """Moderate a picture of each color; return the score of each decision by its id."""
    answer = moderate(web, *(png(color) for color in COLORS)).json()["results"]
    return {result["decision_id"]: result["categories"][0]["score"] for result in answer}


@kept
def test_a_sample_scores_as_a_dry_run_does(made: Web) -> None:
    ids = decided(made)
    put(made, "/v1/classifiers/other", {**CLASSIFIER, "labels": [{"label": "bad"}, {"label": "worse"}]})
    rule = {**HALF["rules"][0], "classifier": "other"}
    candidate = {**HALF, "rules": [rule, {**rule, "category": "second", "labels": ["worse"]}]}
    found = posted(made, "sample", policy=candidate)
    assert [entry["category"] for entry in found["categories"]] == ["bad", "second"]
    assert (found["source"], found["skipped"], found["hint"]) == ("vectors", 0, None)
    asked = {"policy": candidate, "decision_ids": list(ids), "examples": 0}
    results = made.client.post(f"{PATH}/dry-run", json=asked).json()["results"]
    expected = {
        result["decision_id"]: {entry["category"]: entry["score"] for entry in result["categories"]}
        for result in results
    }
    assert {row["id"]: dict(zip(("bad", "second"), row["scores"], strict=True)) for row in found["rows"]} == expected
    assert {row["before"] for row in found["rows"]} == {"block"}


def test_logged_scores_serve_where_thresholds_alone_differ(made: Web) -> None:
    ids = decided(made)
    found = posted(made, "sample", policy=HALF)
    assert found["source"] == "scores"
    assert {row["id"]: row["scores"][0] for row in found["rows"]} == pytest.approx(ids)
    put(made, "/v1/classifiers/scene", {**CLASSIFIER, "description": "another version"})
    other = posted(made, "sample", policy=HALF)
    assert (other["rows"], other["skipped_because"]) == ([], {"other_classifiers": len(COLORS)})
    assert "DECISION_VECTORS" in other["hint"]
    pinned = {**HALF, "rules": [{**HALF["rules"][0], "classifier": "scene@1"}]}
    assert len(posted(made, "sample", policy=pinned, limit=3)["rows"]) == 3
    assert posted(made, "sample", policy={**pinned, "views": "center"})["rows"] == []


def test_what_is_asked_wrongly_is_refused(made: Web) -> None:
    assert "since and until" in posted(made, "sample")["hint"]
    for wrong in ({"limit": 5001}, {"policy": HALF, "version": 1}, {"bins": 1}, {"policy": {**HALF, "name": "b"}}):
        is_problem(made.client.post(f"{PATH}/histogram", json=wrong), 422, "invalid_request")
    is_problem(made.client.post("/v1/policies/none/sample", json={}), 404, "not_found")


@kept
def test_a_histogram_counts_and_rates_as_by_hand(made: Web) -> None:
    ids = decided(made)
    ranked = sorted(ids, key=ids.__getitem__)
    # Of the eight: five with a verdict, the highest and the third blocked for “bad”, one blocked for something else.
    given = {ranked[-1]: ("block", []), ranked[-2]: ("allow", []), ranked[-3]: ("block", ["bad"])}
    given |= {ranked[0]: ("allow", []), ranked[1]: ("block", ["other"])}
    for one, (said, categories) in given.items():
        body = {"decision": said, "categories": categories}
        assert made.client.post(f"/v1/decisions/{one}/feedback", json=body).status_code == 201
    (found,) = posted(made, "histogram", policy=HALF, bins=20)["categories"]
    assert (found["review_at"], found["block_at"]) == (0.3, 0.5)
    assert found["labelled"] == {"positives": 2, "negatives": 3}
    assert len(found["edges"]) == 21
    for number, (low, high) in enumerate(zip(found["edges"], found["edges"][1:], strict=False)):
        inside = {one for one, score in ids.items() if low <= score < high}
        positives = inside & {ranked[-1], ranked[-3]}
        assert found["counts"][number] == len(inside)
        assert found["blocked"][number] == len(positives)
        assert found["allowed"][number] == len(inside & set(given)) - len(positives)
    for point in found["curve"]:
        over = {one for one, score in ids.items() if score >= point["threshold"]}
        true, seen = len(over & {ranked[-1], ranked[-3]}), len(over & set(given))
        assert point["flagged"] == len(over)
        assert point["recall"] == true / 2
        assert point["precision"] == (true / seen if seen else None)
    first = found["curve"][0]
    assert (first["precision"], first["precision_interval"]) == (0.4, pytest.approx([0.1176, 0.7693], abs=1e-4))


def test_wilsons_interval_is_that_of_the_literature() -> None:
    """Newcombe (1998), table I: 81 of 263 and 0 of 20, and 1 of 29, method 3."""
    assert wilson(81, 263) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0345, 0.0061, 0.1718), abs=1e-4)
    assert wilson(0, 0) is None


@kept
def test_labels_are_what_reviewers_said_last(made: Web) -> None:
    put(made, "/v1/policies/strict", NEVER)
    (one,) = [result["decision_id"] for result in moderate(made).json()["results"]]
    for said in ("block", "allow", "block"):
        assert made.client.post(f"/v1/decisions/{one}/feedback", json={"decision": said}).status_code == 201
    (row,) = posted(made, "sample")["rows"]
    assert (row["before"], row["label"], row["label_categories"]) == ("allow", "block", [])
