"""Heads for the categories of an evaluated policy: better than its words, on images that they did not see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gateway.evaluation.calibration import calibrate
from gateway.evaluation.heads import fit_heads
from gateway.evaluation.judged import ClassifierViews, JudgedImage, JudgedSet, LabelledImage, Run
from gateway.evaluation.rescoring import bodies_of, rescored
from gateway.evaluation.risk_control import Goals, choose
from gateway.moderation.heads import HeadClassifier
from gateway.moderation.policy import Policy

DIM, SCALE = 32, 20.0
MODEL = {"id": "fake", "embedding_dim": DIM, "bundle_id": "feedfacecafebeef"}
RULE = {"category": "gore", "classifier": "gore", "labels": ["gore"], "review_at": 0.5, "block_at": 0.9}


def judged_set(count: int, *, shuffled: bool = False, views: int = 3) -> JudgedSet:
    """Half gore, half harmless; what offends shows in the whole image, and words see it dimly."""
    rng = np.random.default_rng(7)
    base, gore = rng.standard_normal(DIM) * 2, rng.standard_normal(DIM) * 0.9
    words = gore / np.linalg.norm(gore) + 0.5 * rng.standard_normal(DIM)
    words /= np.linalg.norm(words)
    images = []
    for number in range(count):
        true = bool(rng.integers(2)) if shuffled else number % 2 == 0
        rows = base + rng.standard_normal((views, DIM)) * 0.7
        rows[0] += gore * (number % 2 == 0)
        vectors = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
        said = np.asarray(1 / (1 + np.exp(-SCALE * (vectors @ words - 0.05))), np.float32)[:, np.newaxis]
        score = float(said.max())
        decision = "block" if score >= 0.9 else "review" if score >= 0.5 else "allow"
        image = LabelledImage(f"{number}.png", frozenset(["gore"] if true else []))
        shown = {"gore@1": ClassifierViews(("gore",), said)}
        images.append(JudgedImage(image, f"{number:064x}", decision, {"gore": score}, shown, vectors))
    policy = {"name": "default", "version": 1, "classifiers": {"gore": 1}}
    body = {"mode": "independent", "labels": [{"label": "gore"}]}
    run = Run(MODEL, policy, None, {"rules": [RULE], "views": "tiles"}, {"gore@1": body}, "2026-01-01T00:00:00Z")
    return JudgedSet(run, tuple(images))


def test_a_head_is_better_on_the_test_part_and_takes_the_rule_s_place() -> None:
    judged = judged_set(500)
    made = fit_heads(judged)
    (found,) = made.findings
    assert found.trained.head is not None, found.trained.reason
    assert found.test is not None
    assert found.test["head"]["roc_auc"]["value"] > found.test["words"]["roc_auc"]["value"]
    (name,) = made.classifiers
    body = HeadClassifier.model_validate(made.classifiers[name])
    assert (body.model.bundle_id, body.names) == (MODEL["bundle_id"], ("gore",))
    assert made.policy is not None
    (rule,) = Policy.model_validate(made.policy).rules
    assert (rule.category, rule.classifier, rule.review_at, rule.block_at) == ("gore", name, 0.5, None)
    image = made.judged.images[0]
    assert image.vectors is not None
    assert image.scores["gore"] == pytest.approx(found.trained.head.probabilities(image.vectors).max())
    assert {entry.decision for entry in made.judged.images} == {"allow", "review"}
    section = made.section()
    assert [len(table.rows) for table in section.tables] == [2, 2]
    assert section.values["gore"]["classifier"] == name


def test_later_steps_go_on_with_a_head() -> None:
    made = fit_heads(judged_set(500))
    bodies = bodies_of(made.judged.run)
    assert rescored(made.judged, bodies, bodies).images[3].scores == pytest.approx(made.judged.images[3].scores)
    calibrated = calibrate(made.judged, parts=("calibration",))
    assert calibrated.judged.categories == ("gore",)


def test_a_head_that_is_saved_and_asked_is_not_tuned_on_what_it_learned_from_and_may_be_learned_anew() -> None:
    first = fit_heads(judged_set(500)).judged
    (name,) = {rule["classifier"] for rule in (first.run.policy_body or {})["rules"]}
    key = f"{name}@3"  # as the gateway numbered it
    images = tuple(
        replace(image, views={"gore@1": image.views["gore@1"], key: image.views[f"{name}@1"]}) for image in first.images
    )
    saved = replace(
        first.run,
        policy={"name": "default", "version": 2, "classifiers": {name: 3}},
        classifiers={key: first.run.classifiers[f"{name}@1"]},
        draft=False,
    )
    asked = replace(first, run=saved, images=images)
    assert asked.run.untouched == ("calibration",)
    chosen = choose(asked, Goals(block_fpr=0.1))
    assert chosen.policy is not None
    assert chosen.policy["tuned_on"]["parts"] == ["calibration"]
    again = fit_heads(asked)
    bodies = bodies_of(again.judged.run)
    assert rescored(again.judged, bodies, bodies).images[3].scores == pytest.approx(again.judged.images[3].scores)
    assert len([one for one in bodies.classifiers if one.startswith(f"{name}@")]) == 1


def test_labels_that_mean_nothing_get_no_head() -> None:
    judged = judged_set(300, shuffled=True)
    made = fit_heads(judged)
    assert made.classifiers == {}
    assert made.policy == judged.run.policy_body
    assert made.judged.images[0].scores == judged.images[0].scores
    assert "not better" in made.section().paragraphs[-1]


def test_too_few_images_are_told() -> None:
    made = fit_heads(judged_set(24))
    assert "needed" in (made.findings[0].trained.reason or "")
    with pytest.raises(ValueError, match="vectors"):
        fit_heads(replace(made.judged, images=tuple(replace(image, vectors=None) for image in made.judged.images)))
