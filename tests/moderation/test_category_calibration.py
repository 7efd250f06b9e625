"""Fitted calibrations, saved and served: what the gateway answers is what was fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gateway.evaluation.calibration import Calibrated, calibrate
from gateway.evaluation.judged import ClassifierViews, JudgedImage, JudgedSet, LabelledImage, Run
from gateway.inference.activations import sigmoid
from gateway.moderation.calibration import GroupCalibration, calibrated, log_odds
from tests.support.in_process_app import Web, ask, b64, is_problem, png
from tests.support.saved_policies import moderate, put

LABELS = ["blood", "wound", "calm", "blue sky"]
CLASSIFIER: dict[str, Any] = {"labels": [{"label": label} for label in LABELS]}
RULE: dict[str, Any] = {
    "category": "gore",
    "classifier": "scene",
    "labels": ["blood", "wound"],
    "review_at": 0.4,
    "block_at": 0.7,
}
POLICY: dict[str, Any] = {"rules": [RULE], "views": "full"}
GROUP = {"labels": ["wound", "blood"], "aggregate": "sum", "scale": 0.5, "offset": -1.0}
PICTURES = [png(f"#{number:02x}{(3 * number) % 256:02x}80", 64) for number in range(160)]


@pytest.fixture
def saved(web: Web) -> Web:
    assert put(web, "/v1/classifiers/scene", CLASSIFIER).status_code == 201
    assert put(web, "/v1/policies/strict", POLICY).status_code == 201
    return web


def moderated(web: Web) -> list[dict[str, Any]]:
    results = []
    for start in range(0, len(PICTURES), 20):
        answer = moderate(web, *PICTURES[start : start + 20])
        assert answer.status_code == 200, answer.text
        results += answer.json()["results"]
    return results


def classified(web: Web, **fields: Any) -> list[dict[str, Any]]:
    results = []
    for start in range(0, len(PICTURES), 20):
        images = [b64(picture) for picture in PICTURES[start : start + 20]]
        body = {"images": images, "classifier": "scene", "views": "full", "include": ["views"], **fields}
        answer = web.client.post("/v1/classify", json=body)
        assert answer.status_code == 200, answer.text
        results += answer.json()["results"]
    return results


def collected(web: Web) -> JudgedSet:
    """What the gateway answers about the pictures, gore being likelier the higher its score, by a flatter slope."""
    rng = np.random.default_rng(4)
    images = []
    for number, (said, views) in enumerate(zip(moderated(web), classified(web), strict=True)):
        rows = [{entry["label"]: entry["score"] for entry in view["scores"]} for view in views["views"]]
        kept = ClassifierViews(tuple(LABELS), np.array([[row[label] for label in LABELS] for row in rows], np.float32))
        score = said["categories"][0]["score"]
        true = rng.random() < sigmoid(0.2 * log_odds(score))
        image = LabelledImage(f"{number}.png", frozenset({"gore"} if true else ()))
        images.append(
            JudgedImage(image, said["image"]["sha256"], said["decision"], {"gore": score}, views={"scene@1": kept})
        )
    bodies = {path: web.client.get(f"/v1/{path}").json() for path in ("policies/strict", "classifiers/scene")}
    run = Run({}, None, None, bodies["policies/strict"], {"scene@1": bodies["classifiers/scene"]}, "2026-01-01")
    return JudgedSet(run, tuple(images))


def save(web: Web, made: Calibrated) -> None:
    for name, body in made.classifiers.items():
        assert put(web, f"/v1/classifiers/{name}", body).status_code == 200
    assert made.policy is not None
    assert put(web, "/v1/policies/strict", made.policy).status_code == 200


@pytest.mark.parametrize("prevalence", [None, {"gore": 0.02}])
def test_what_was_fitted_is_what_is_served(saved: Web, prevalence: dict[str, float] | None) -> None:
    judged = collected(saved)
    made = calibrate(judged, prevalence, parts=("train", "calibration", "test"))
    assert made.outcomes[0].method == "platt"
    save(saved, made)
    served = moderated(saved)
    scores = [result["categories"][0]["score"] for result in served]
    assert scores == pytest.approx(made.judged.scores("gore").tolist(), abs=1e-6)
    assert [result["decision"] for result in served] == [image.decision for image in judged.images]
    assert {result["decision"] for result in served} == {"allow", "review", "block"}
    assert all("uncalibrated" not in result["warnings"] for result in served)


def test_evidence_keeps_the_labels_scores_and_classify_is_as_it_was(saved: Web) -> None:
    before, plain = moderated(saved)[0], classified(saved)
    assert "uncalibrated" in before["warnings"]
    assert put(saved, "/v1/classifiers/scene", {**CLASSIFIER, "calibrations": [GROUP]}).status_code == 200
    assert put(saved, "/v1/policies/strict", POLICY).status_code == 200
    after = moderated(saved)[0]
    (was,), (is_now,) = before["categories"], after["categories"]
    assert is_now["score"] == pytest.approx(float(sigmoid(0.5 * log_odds(was["score"]) - 1)), abs=1e-6)
    assert is_now["evidence"] == was["evidence"]
    assert "uncalibrated" not in after["warnings"]
    assert classified(saved) == plain


@pytest.mark.parametrize(
    "rule",
    [{"labels": ["blood"]}, {"labels": ["blood", "wound", "calm"]}, {"aggregate": "max"}],
    ids=["part of it", "more than it", "another aggregate"],
)
def test_a_rule_of_other_labels_than_a_group_is_not_calibrated_and_warns(saved: Web, rule: dict[str, Any]) -> None:
    put(saved, "/v1/policies/strict", {**POLICY, "rules": [{**RULE, **rule}]})
    before = moderate(saved, PICTURES[0]).json()["results"][0]
    put(saved, "/v1/classifiers/scene", {**CLASSIFIER, "calibrations": [GROUP]})
    put(saved, "/v1/policies/strict", {**POLICY, "rules": [{**RULE, **rule}], "description": "pinned anew"})
    after = moderate(saved, PICTURES[0]).json()["results"][0]
    assert after["policy"]["classifiers"] != before["policy"]["classifiers"]
    assert after["categories"] == before["categories"]
    assert "uncalibrated" in after["warnings"]


def test_one_label_is_the_same_whether_added_up_or_not() -> None:
    group = GroupCalibration(labels=["blood"], aggregate="max")
    assert group.fits(["blood"], "sum")
    assert not group.fits(["wound"], "sum")


def test_a_temperature_divides_the_logits_of_moderate_and_classify(saved: Web) -> None:
    plain = classified(saved)
    assert put(saved, "/v1/classifiers/scene", {**CLASSIFIER, "temperature": 3.0}).status_code == 200
    assert put(saved, "/v1/policies/strict", POLICY).status_code == 200
    verdicts = moderated(saved)
    for was, now, verdict in zip(plain, classified(saved), verdicts, strict=True):
        sharp = {entry["label"]: entry["score"] ** (1 / 3) for entry in was["scores"]}
        expected = {label: share / sum(sharp.values()) for label, share in sharp.items()}
        assert {entry["label"]: entry["score"] for entry in now["scores"]} == pytest.approx(expected, abs=1e-6)
        assert verdict["categories"][0]["score"] == pytest.approx(expected["blood"] + expected["wound"], abs=1e-6)
    assert "uncalibrated" not in verdicts[0]["warnings"]


@pytest.mark.parametrize(
    "fields",
    [
        {"calibrations": [{"labels": ["sky"], "scale": 2.0}]},
        {"calibrations": [GROUP, {"labels": ["blood", "wound"]}]},
        {"calibrations": [{**GROUP, "kind": "isotonic"}]},
        {"calibrations": [{**GROUP, "scale": 0.0}]},
        {"temperature": 0.0},
        {"none_below": 1.5},
    ],
)
def test_calibrations_that_cannot_work_are_refused(web: Web, fields: dict[str, Any]) -> None:
    answer = put(web, "/v1/classifiers/scene", {**CLASSIFIER, **fields})
    is_problem(answer, 422, "invalid_request")


def test_an_image_that_no_label_fits_is_said_to_be_none_of_these(saved: Web) -> None:
    plain = classified(saved, include=["similarity"])
    assert all("none_of_these" not in result for result in plain)
    best = [max(entry["similarity"] for entry in result["scores"]) for result in plain]
    middle = float(np.median(best))
    assert put(saved, "/v1/classifiers/scene", {**CLASSIFIER, "none_below": middle}).status_code == 200
    told = classified(saved, include=["similarity"], top_k=1)
    assert [result["none_of_these"] for result in told] == [similarity < middle for similarity in best]
    assert [result["scores"] for result in told] == [result["scores"][:1] for result in plain]
    assert "none_of_these" not in ask(saved).json()["results"][0]


@pytest.mark.parametrize("temperature", [0.01, 100.0])
def test_a_temperature_leaves_probabilities_of_many_labels_finite(temperature: float) -> None:
    count = 4096
    even = np.full((1, count), 1 / count, np.float32)
    assert calibrated(even, [None] * count, "softmax", temperature) == pytest.approx(even)
