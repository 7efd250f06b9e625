"""What scores mean: thresholds, sums and maxima, views, evidence, calibration. Pure arithmetic, no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from gateway.decoding.views import Place
from gateway.moderation.calibration import Calibration, calibrated
from gateway.moderation.policy import BoundRule, ClassifierScores, Policy, Rule, judge, overall

PLACES = (
    Place("full", (0, 0, 300, 100), None),
    Place("tile 1", (0, 0, 100, 100), None),
    Place("tile 2", (200, 0, 300, 100), 40),
)
SCORES = {
    "gore@1": ClassifierScores(
        ("blood", "wound", "harmless"), np.array([[0.1, 0.1, 0.8], [0.2, 0.1, 0.7], [0.5, 0.3, 0.2]], np.float32)
    ),
    "signs@2": ClassifierScores(("rude", "angry"), np.array([[0.4, 0.1], [0.3, 0.2], [0.1, 0.45]], np.float32)),
}


def rule(classifier: str = "gore@1", aggregate: Any = "sum", category: str = "gore", **changes: Any) -> BoundRule:
    fields: dict[str, Any] = {"labels": ["blood", "wound"], "review_at": 0.5, "block_at": 0.85, **changes}
    return BoundRule(Rule(category=category, classifier="x", **fields), classifier, aggregate)


def test_labels_that_mean_the_same_add_up_and_the_worst_view_counts() -> None:
    (verdict,) = judge([rule()], SCORES, PLACES)
    assert verdict.score == pytest.approx(0.8)
    assert verdict.decision == "review"
    assert [entry.label for entry in verdict.evidence] == ["blood", "wound"]
    assert verdict.evidence[0].place == PLACES[2]


def test_independent_labels_take_the_maximum() -> None:
    (verdict,) = judge([rule("signs@2", "max", labels=["rude", "angry"])], SCORES, PLACES)
    assert verdict.score == pytest.approx(0.45)
    assert verdict.decision == "allow"


@pytest.mark.parametrize(
    ("review_at", "block_at", "decision"),
    [(0.5, 0.8, "block"), (0.8, None, "review"), (0.81, None, "allow"), (None, 0.81, "allow"), (None, 0.8, "block")],
)
def test_a_rule_fires_at_its_threshold(review_at: float | None, block_at: float | None, decision: str) -> None:
    exact = {"c": ClassifierScores(("a",), np.array([[0.8]], np.float64).astype(np.float32))}
    scores = {"c": ClassifierScores(("a",), exact["c"].probabilities.astype(np.float64))}
    threshold = float(exact["c"].probabilities[0, 0])
    given = [threshold if value == 0.8 else value for value in (review_at, block_at)]
    bound = rule("c", "max", labels=["a"], review_at=given[0], block_at=given[1])
    assert judge([bound], scores, PLACES[:1])[0].decision == decision


def test_the_strictest_rule_decides_and_comes_first() -> None:
    verdicts = judge(
        [rule("signs@2", "max", "signs", labels=["rude"], review_at=0.9, block_at=None), rule(block_at=0.7)],
        SCORES,
        PLACES,
    )
    assert [(verdict.category, verdict.decision) for verdict in verdicts] == [("gore", "block"), ("signs", "allow")]
    assert overall(verdicts) == "block"
    assert overall(()) == "allow"


def test_two_rules_of_one_category_give_one_verdict_with_the_evidence_of_both() -> None:
    (verdict,) = judge([rule(), rule("signs@2", "max", labels=["angry"], review_at=0.4, block_at=0.44)], SCORES, PLACES)
    assert (verdict.decision, verdict.block_at) == ("block", 0.44)
    assert {entry.label for entry in verdict.evidence} == {"blood", "wound", "angry"}


def test_calibration_is_platt_scaling_and_one_without_changes_nothing() -> None:
    scores = np.array([[0.2, 0.9, 0.5]], np.float32)
    made = calibrated(scores, [Calibration(scale=2, offset=1), None, Calibration()])
    expected = 1 / (1 + np.exp(-(2 * np.log(0.2 / 0.8) + 1)))
    assert made[0, 0] == pytest.approx(expected, abs=1e-5)
    assert made[0, 1] == scores[0, 1]
    assert made[0, 2] == scores[0, 2]
    assert np.isfinite(calibrated(np.array([[0.0, 1.0]], np.float32), [Calibration(scale=3)] * 2)).all()


def test_calibration_by_hand() -> None:
    """0.2 has odds of 1 to 4: scale 2 squares them, 1 to 16; offset ln 3 makes three times as much of them, 3 to 4."""
    scores = np.array([[0.2, 0.2, 0.2]], np.float32)
    given = [Calibration(scale=2), Calibration(offset=float(np.log(3))), Calibration(scale=2, offset=float(np.log(3)))]
    made = calibrated(scores, given)
    assert made[0].tolist() == pytest.approx([1 / 17, 3 / 7, 3 / 19], abs=1e-6)
    assert made.dtype == np.float32


def test_certainty_stays_certain_where_nothing_is_calibrated() -> None:
    given = [None, Calibration(), Calibration(scale=2), None, Calibration(), Calibration(scale=2)]
    made = calibrated(np.array([[0, 0, 0, 1, 1, 1]], np.float32), given)[0].tolist()
    assert [made[position] for position in (0, 1, 3, 4)] == [0, 0, 1, 1]
    assert 0 <= made[2] < 1e-12, "less than any score of an image"
    assert calibrated(np.array([[0, 1]], np.float32), [None, None]).tolist() == [[0, 1]]


def test_a_verdict_says_its_thresholds_and_the_scores_of_its_evidence() -> None:
    (verdict,) = judge([rule()], SCORES, PLACES)
    assert (verdict.category, verdict.review_at, verdict.block_at) == ("gore", 0.5, 0.85)
    assert [entry.score for entry in verdict.evidence] == pytest.approx([0.5, 0.3])
    assert [entry.kind for entry in verdict.evidence] == ["label", "label"]


def test_a_sum_is_never_above_one() -> None:
    scores = {"c": ClassifierScores(("a", "b"), np.array([[0.7, 0.4]], np.float32))}
    assert judge([rule("c", labels=["a", "b"])], scores, PLACES[:1])[0].score == 1.0


def test_the_three_weightiest_labels_are_shown_the_first_named_of_equals() -> None:
    names = [f"label {number}" for number in range(64)]
    probabilities = np.full((1, 64), 0.01, np.float32)
    probabilities[0, 40] = 0.2
    scores = {"c": ClassifierScores(tuple(names), probabilities)}
    (verdict,) = judge([rule("c", labels=names)], scores, PLACES[:1])
    assert [entry.label for entry in verdict.evidence] == ["label 40", "label 0", "label 1"]


def test_of_one_decision_the_higher_score_comes_first() -> None:
    first = rule("signs@2", "max", "mild", labels=["rude"], review_at=0.9, block_at=None)
    second = rule("gore@1", "max", "strong", labels=["blood"], review_at=0.9, block_at=None)
    verdicts = judge([first, second], SCORES, PLACES)
    assert [(verdict.category, verdict.decision) for verdict in verdicts] == [("strong", "allow"), ("mild", "allow")]


def test_block_is_stricter_than_review_and_review_than_allow() -> None:
    review = rule("gore@1", "max", "review", labels=["blood"], block_at=None)
    block = rule("gore@1", "max", "block", labels=["blood"], block_at=0.5)
    allow = rule("gore@1", "max", "allow", labels=["wound"])
    assert overall(judge([review, block, allow], SCORES, PLACES)) == "block"
    assert overall(judge([review, allow], SCORES, PLACES)) == "review"
    assert overall(judge([allow], SCORES, PLACES)) == "allow"


def test_a_category_of_two_rules_is_called_by_its_name_and_shows_the_stricter_rules_thresholds() -> None:
    mild = rule("signs@2", "max", labels=["angry"], review_at=0.2, block_at=0.9)
    (verdict,) = judge([rule(block_at=0.7), mild], SCORES, PLACES)
    assert (verdict.category, verdict.decision, verdict.review_at, verdict.block_at) == ("gore", "block", 0.5, 0.7)
    assert verdict.score == pytest.approx(0.8)
    assert [entry.label for entry in verdict.evidence] == ["blood", "wound", "angry"]


GOOD: dict[str, Any] = {
    "rules": [{"category": "gore", "classifier": "gore", "labels": ["blood"], "review_at": 0.5, "block_at": 0.85}],
    "openai_categories": {"gore": ["violence/graphic"]},
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "rules": [{**GOOD["rules"][0], **changes}]}


@pytest.mark.parametrize(
    "body",
    [
        {**GOOD, "rules": []},
        changed(review_at=0.9),
        changed(review_at=None, block_at=None),
        changed(block_at=1.1),
        changed(labels=[]),
        changed(labels=["blood", "blood"]),
        changed(classifier="gore@0"),
        changed(classifier="Gore!"),
        changed(aggregate="mean"),
        changed(threshold=0.5),
        {**GOOD, "views": "everything"},
        {**GOOD, "openai_categories": {"gore": ["gore"]}},
        {**GOOD, "openai_categories": {"gore": ["sexual/minors"]}},
        {**GOOD, "openai_categories": {"nudity": ["sexual"]}},
    ],
)
def test_bodies_that_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(body)


def test_a_good_body_is_taken() -> None:
    policy = Policy.model_validate(GOOD)
    assert policy.views == "tiles"
    assert policy.rules[0].aggregate is None


TUNED_ON: dict[str, Any] = {
    "at": "2026-01-01T00:00:00+00:00",
    "images": 10,
    "harmless": 8,
    "by_category": {"gore": 2},
    "parts": ["train", "calibration"],
    "digest": "0" * 64,
    "model": "demo",
    "bundle_id": "b1",
    "policy": "default@1",
    "goals": {"block_fpr": 0.1},
    "confidence": 0.95,
    "promises": ["at most 10 % of harmless images are blocked"],
}


def test_a_policy_says_what_its_thresholds_were_chosen_on() -> None:
    rules = [{"category": "gore", "classifier": "gore", "labels": ["blood"], "review_at": 0.5}]
    made = Policy.model_validate({"rules": rules, "tuned_on": TUNED_ON})
    assert made.tuned_on is not None
    assert made.model_dump(mode="json")["tuned_on"] == {**TUNED_ON, "prevalence": {}}
    assert Policy.model_validate({"rules": rules, "tuned_on": None}).tuned_on is None


@pytest.mark.parametrize(
    "changes",
    [
        {"images": -1},
        {"digest": "x"},
        {"confidence": 2},
        {"parts": ["all"]},
        {"promises": ["x" * 501]},
        {"promises": ["x"] * 211},
        {"by_category": {str(number): 1 for number in range(201)}},
        {"goals": {"x" * 65: 0.1}},
        {"prevalence": {"gore": float("nan")}},
        {"more": 1},
    ],
)
def test_what_a_policy_was_tuned_on_is_bounded(changes: dict[str, Any]) -> None:
    rules = [{"category": "gore", "classifier": "gore", "labels": ["blood"], "review_at": 0.5}]
    with pytest.raises(ValidationError):
        Policy.model_validate({"rules": rules, "tuned_on": {**TUNED_ON, **changes}})
