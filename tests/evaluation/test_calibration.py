"""Categories of judged images whose true probabilities are known: what is chosen, refused, moved and told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.evaluation.calibration import Calibrated, calibrate
from gateway.evaluation.fitting.score_maps import calibration_error, log_losses
from gateway.evaluation.judged import ClassifierViews, JudgedSet
from gateway.evaluation.rescoring import bodies_of, rescored
from gateway.evaluation.risk_control import Goals, choose
from gateway.inference.activations import sigmoid
from gateway.moderation.calibration import log_odds
from gateway.moderation.policy import Policy
from tests.support.viewed_sets import CLASSIFIER, KEY, LABELS, POLICY, judged_set

GORE, NONE = frozenset({"gore"}), frozenset[str]()


def views_of(rng: np.random.Generator, sharpness: float = 2.0) -> np.ndarray:
    """Probabilities of one to four views."""
    logits = rng.normal(0, sharpness, (int(rng.integers(1, 5)), 3)) - np.array([1.5, 1.5, 0])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.asarray(shares, np.float32)


def platt_set(count: int, scale: float = 0.5, offset: float = -1.0, **fields: Any) -> JudgedSet:
    """Images of which gore is true with the probability sigmoid(scale x logit(score) + offset)."""
    rng = np.random.default_rng(7)
    views = [views_of(rng) for _ in range(count)]
    scores = np.array([given[:, :2].sum(axis=1).max() for given in views])
    true = rng.random(count) < sigmoid(scale * log_odds(scores) + offset)
    return judged_set(views, [GORE if one else NONE for one in true], **fields)


def of_test(made: Calibrated, name: str = "after") -> tuple[float, float]:
    """Calibration error and log loss on the test part."""
    (outcome,) = made.outcomes
    scores = getattr(outcome, name)
    return (
        calibration_error(scores, outcome.truth, outcome.weights),
        float(log_losses(scores, outcome.truth).mean()),
    )


@pytest.fixture(scope="module")
def made() -> Calibrated:
    return calibrate(platt_set(4000))


def test_platt_scaling_of_a_category_is_found_and_its_probabilities_hold_on_the_test_part(made: Calibrated) -> None:
    (group,) = made.classifiers["scene"]["calibrations"]
    assert (group["kind"], set(group["labels"]), group["aggregate"]) == ("platt", {"blood", "wound"}, "sum")
    assert group["scale"] == pytest.approx(0.5, abs=0.08)
    assert group["offset"] == pytest.approx(-1, abs=0.15)
    (outcome,) = made.outcomes
    assert (group["images"], outcome.method) == (outcome.images, "platt")
    assert group["prevalence"] == pytest.approx(outcome.positives / outcome.images)
    assert of_test(made, "before")[0] > 0.15
    assert of_test(made)[0] < 0.04
    assert of_test(made)[1] < of_test(made, "before")[1] - 0.1


def test_images_are_rescored_in_the_same_order_and_every_decision_stays(made: Calibrated) -> None:
    before = platt_set(4000)
    old, new = before.scores("gore"), made.judged.scores("gore")
    (group,) = made.classifiers["scene"]["calibrations"]
    assert new == pytest.approx(sigmoid(group["scale"] * log_odds(old) + group["offset"]), abs=1e-9)
    assert (np.argsort(old, kind="stable") == np.argsort(new, kind="stable")).all()
    decisions = [image.decision for image in made.judged.images]
    assert decisions == [image.decision for image in before.images]
    assert set(decisions) == {"allow", "review", "block"}
    assert made.changed == 0
    assert made.policy is not None
    (rule,) = made.policy["rules"]
    assert rule["review_at"] == pytest.approx(sigmoid(group["scale"] * log_odds(0.4) + group["offset"]), abs=1e-9)
    assert rule["classifier"] == "scene"


def test_a_category_that_is_calibrated_already_is_found_so_and_moves_little(made: Calibrated) -> None:
    again = calibrate(made.judged)
    assert again.outcomes[0].method == "as it is"
    assert again.judged.scores("gore") == pytest.approx(made.judged.scores("gore"), abs=1e-9)
    assert [image.decision for image in again.judged.images] == [image.decision for image in made.judged.images]
    other = calibrate(replace(made.judged, images=made.judged.images[:2000]), {"gore": 0.01})
    assert other.changed == 0


def test_knots_are_taken_where_no_slope_fits_and_only_of_enough_images() -> None:
    """Gore is true of a fifth of images below one half, and of four fifths above: a step."""
    rng = np.random.default_rng(3)
    views = [views_of(rng) for _ in range(6000)]
    scores = np.array([given[:, :2].sum(axis=1).max() for given in views])
    middle = np.median(scores)
    true = rng.random(6000) < np.where(scores > middle, 0.9, 0.1)
    judged = judged_set(views, [GORE if one else NONE for one in true])
    made = calibrate(judged)
    assert made.outcomes[0].method == "isotonic"
    assert of_test(made)[0] < 0.04
    assert made.changed == 0
    few = calibrate(replace(judged, images=judged.images[:600]))
    assert "isotonic" not in few.outcomes[0].losses


def sharpened(count: int, temperature: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Softmax over five labels, a temperature too sharp, and the label that is drawn from it unsharpened."""
    rng = np.random.default_rng(11)
    logits = rng.normal(0, 1.5, (count, 5))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    drawn = (honest.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    sharp = np.exp(logits * temperature)
    return list((sharp / sharp.sum(axis=1, keepdims=True)).astype(np.float32)[:, np.newaxis]), drawn


FIVE = {"labels": [{"label": f"label {number}"} for number in range(5)]}


def test_a_temperature_is_found_for_a_closed_set_whatever_foreign_images_are_among_them() -> None:
    views, drawn = sharpened(3000, 2.5)
    truths = [frozenset({f"label {number}"}) for number in drawn]
    foreign = [frozenset({"something else"})] * 500
    judged = judged_set(views + views[:500], truths + foreign, classifier=FIVE, policy=None)
    made = calibrate(judged)
    assert made.policy is None
    assert made.classifiers["scene"]["temperature"] == pytest.approx(2.5, rel=0.08)
    assert made.classifiers["scene"]["calibrations"] == []
    assert {outcome.method for outcome in made.outcomes} == {"temperature"}
    for outcome in made.outcomes:
        assert calibration_error(outcome.after, outcome.truth, outcome.weights) < 0.03
        assert calibration_error(outcome.before, outcome.truth, outcome.weights) > 0.06


def test_a_temperature_serves_a_policy_too_and_lets_as_many_through() -> None:
    """Five labels of which two are one category: no slope of their sum does what a temperature does."""
    views, drawn = sharpened(4000, 4.0)
    policy = {"rules": [{**POLICY["rules"][0], "labels": ["label 0", "label 1"]}]}
    truths = [GORE if number < 2 else NONE for number in drawn]
    judged = judged_set(views, truths, classifier=FIVE, policy=policy)
    made = calibrate(judged)
    assert made.outcomes[0].method == "temperature"
    assert made.classifiers["scene"]["temperature"] == pytest.approx(4, rel=0.1)
    counts = [
        {
            name: sum(image.decision == name for image in some.of("train", "calibration").images)
            for name in ("allow", "block")
        }
        for some in (judged, made.judged)
    ]
    assert counts[0] == counts[1]
    assert made.changed == sum(
        one.decision != other.decision for one, other in zip(judged.images, made.judged.images, strict=True)
    )


def test_where_thresholds_keep_a_promise_no_decision_changes() -> None:
    """The temperature of the test above would be better, and would let other images through."""
    views, drawn = sharpened(4000, 4.0)
    policy = {"rules": [{**POLICY["rules"][0], "labels": ["label 0", "label 1"]}]}
    judged = judged_set(views, [GORE if number < 2 else NONE for number in drawn], classifier=FIVE, policy=policy)
    promised = choose(judged, Goals(block_fpr=0.1)).policy
    assert promised is not None
    before = bodies_of(judged.run)
    judged = rescored(judged, before, replace(before, policy=Policy.model_validate(promised)))
    made = calibrate(judged)
    assert made.outcomes[0].method == "platt"
    assert made.changed == 0
    assert made.policy is not None
    assert made.policy["tuned_on"] == promised["tuned_on"]


def test_a_stated_prevalence_moves_the_probabilities_and_is_kept(made: Calibrated) -> None:
    rare = calibrate(platt_set(4000), {"gore": 0.01})
    (group,) = rare.classifiers["scene"]["calibrations"]
    assert group["prevalence"] == 0.01
    (outcome,) = rare.outcomes
    share = outcome.positives / outcome.images
    assert log_odds(rare.judged.scores("gore")) - log_odds(made.judged.scores("gore")) == pytest.approx(
        float(log_odds(0.01) - log_odds(share)), abs=1e-4
    )
    assert rare.changed == 0
    assert of_test(rare)[0] < 0.01, "of the test images, weighted to that prevalence"
    assert float(np.average(outcome.truth, weights=outcome.weights)) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate(platt_set(100), {"gore": 0.0})


def test_too_few_examples_are_refused_with_the_number_that_is_missing() -> None:
    judged = platt_set(400).of("train", "calibration")
    with_it = [image for image in judged.images if image.image.labels][:7]
    without = [image for image in judged.images if not image.image.labels][:40]
    made = calibrate(replace(judged, images=(*with_it, *without)))
    (outcome,) = made.outcomes
    assert outcome.method is None
    assert outcome.refused is not None
    assert "7 images" in outcome.refused
    assert "18 with and 0 without" in outcome.refused
    assert made.classifiers == {}
    assert made.judged.images == (*with_it, *without)
    assert any("18 with" in text for text in made.section().paragraphs)


def test_images_of_one_group_are_one_example() -> None:
    judged = platt_set(400, groups=[f"uploader {number % 30}" for number in range(400)])
    assert calibrate(judged).outcomes[0].method is None


def test_the_test_part_does_not_change_the_fit() -> None:
    judged = platt_set(1500)
    turned = tuple(
        replace(image, image=replace(image.image, labels=NONE if image.image.labels else GORE))
        if image.part == "test"
        else image
        for image in judged.images
    )
    assert calibrate(judged).classifiers == calibrate(replace(judged, images=turned)).classifiers
    only = calibrate(judged, parts=("calibration",))
    assert only.outcomes[0].images == len(judged.of("calibration").images)


def test_two_rules_of_a_category_are_calibrated_each_and_two_categories_of_the_same_labels_are_not() -> None:
    one, two = ({**POLICY["rules"][0], "labels": [label]} for label in ("blood", "wound"))
    made = calibrate(platt_set(1500, policy={"rules": [one, two]}))
    assert [group["labels"] for group in made.classifiers["scene"]["calibrations"]] == [["blood"], ["wound"]]
    assert made.changed == 0
    twin = {**POLICY["rules"][0], "category": "horror", "labels": ["wound", "blood"]}
    refused = calibrate(platt_set(1500, policy={"rules": [POLICY["rules"][0], twin]}))
    assert [outcome.method for outcome in refused.outcomes] == [None, None]


def test_what_a_hash_list_or_a_warning_decided_stays_so() -> None:
    judged = platt_set(1500)
    first, second, *rest = judged.images
    listed = replace(first, views={}, scores={"list:known": 1.0}, decision="block")
    allowed = next(image for image in rest if image.decision == "allow")
    warned = replace(allowed, decision="review")
    rest = [warned if image is allowed else image for image in rest]
    made = calibrate(replace(judged, images=(listed, second, *rest)))
    assert made.judged.images[0] == listed
    assert next(image for image in made.judged.images if image.sha256 == warned.sha256).decision == "review"


def test_views_that_do_not_explain_the_scores_are_refused() -> None:
    judged = platt_set(200)
    changed = (replace(judged.images[0], scores={"gore": 0.123}), *judged.images[1:])
    with pytest.raises(ValueError, match=r"0\.png"):
        calibrate(replace(judged, images=changed))
    with pytest.raises(ValueError, match="not kept"):
        calibrate(replace(judged, run=replace(judged.run, classifiers={})))


def test_views_may_have_their_labels_in_any_order() -> None:
    """As classify answers them, best first."""
    judged = platt_set(600)
    order = [2, 0, 1]
    names = tuple(LABELS[column] for column in order)
    turned = tuple(
        replace(image, views={KEY: ClassifierViews(names, image.views[KEY].probabilities[:, order])})
        for image in judged.images
    )
    assert calibrate(replace(judged, images=turned)).classifiers == calibrate(judged).classifiers


def test_a_head_is_calibrated_as_words_are() -> None:
    rng = np.random.default_rng(5)
    views = [rng.random((2, 1)).astype(np.float32) for _ in range(1500)]
    top = np.array([given.max() for given in views])
    true = rng.random(1500) < sigmoid(2 * log_odds(top) - 3)
    head = {
        "kind": "head",
        "labels": [{"label": "gore"}],
        "output": "sigmoid",
        "model": {"id": "test", "embedding_dim": 2},
        "layers": [{"weight": [[1.0, 0.0]], "bias": [0.0]}],
    }
    policy = {"rules": [{**POLICY["rules"][0], "labels": ["gore"]}]}
    made = calibrate(judged_set(views, [GORE if one else NONE for one in true], classifier=head, policy=policy))
    assert made.classifiers["scene"]["kind"] == "head"
    assert of_test(made)[0] < 0.06
    assert of_test(made, "before")[0] > 0.2
    assert made.changed == 0


def test_the_report_says_what_was_chosen_and_draws_it(made: Calibrated) -> None:
    section = made.section()
    values = section.values["categories"]["gore"]
    assert (values["method"], values["classifier"]) == ("platt", KEY)
    assert set(values["cross_validated_log_loss"]) == {"as it is", "platt", "isotonic", "temperature"}
    assert values["test"]["calibration_error_after"] == pytest.approx(of_test(made)[0])
    assert section.values["parts"] == ["train", "calibration"]
    assert "common" in section.paragraphs[1]
    assert "0 decisions" in section.paragraphs[2]
    (figure,) = section.figures
    assert figure.svg.startswith("<svg")
    assert "gore" in figure.svg
    assert all(len(row) == len(table.head) for table in section.tables for row in table.rows)
    assert len(LABELS) == len(CLASSIFIER["labels"])
