"""What a policy says of vectors and of lists, with numbers computed by hand, and what an answer tells of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gateway.decoding.decoder import ImageInfo
from gateway.decoding.preprocess import PreprocessedImage
from gateway.decoding.views import Place
from gateway.hash_matching.matcher import Match
from gateway.inference.prompts import Mode
from gateway.inference.scoring import TextMatrix
from gateway.moderation.binding import BoundClassifier, BoundPolicy
from gateway.moderation.calibration import Calibration
from gateway.moderation.policy import BoundRule, ClassifierScores, Rule
from gateway.moderation.verdict_json import verdict_json
from gateway.moderation.verdicts import from_lists, informed, uses, verdict_of

LN_3 = float(np.log(3))
"""As the models' scale of logits: a label that is seen weighs 3, one that is not 1."""

PLACES = (
    Place("center", (50, 0, 150, 100), None),
    Place("full", (0, 0, 200, 100), 0),
    Place("tile 1", (0, 0, 100, 100), 40),
)
VECTORS = np.array([[0, 1], [1, 0], [0.5, 0.5]], np.float32)
PREPARED = PreprocessedImage(ImageInfo("", "png", 200, 100, 1, 1), PLACES, np.zeros((3, 8, 8, 3), np.uint8), ())
SHA, PDQ = "ab" * 32, "cd" * 32


def text(mode: Mode = "softmax") -> TextMatrix:
    """Two labels at right angles; in independent mode each is weighed against the other."""
    vectors = np.eye(2, dtype=np.float32)
    order = np.array([0, 1], np.intp)
    return TextMatrix(mode, ("calm", "gore"), vectors, vectors[::-1], order, order)


def bound(**changes: Any) -> BoundPolicy:
    """A policy of one rule: gore is reviewed from 0.4 on and blocks from 0.7."""
    rule = Rule(category="gore", classifier="scenes", labels=["gore"], review_at=0.4, block_at=0.7)
    classifier = BoundClassifier("scenes@3", "scenes", 3, "", text(), (None, None))
    fields: dict[str, Any] = {
        "name": "strict",
        "version": 7,
        "bundle_id": "b",
        "views": "tiles",
        "rules": (BoundRule(rule, "scenes@3", "sum"),),
        "attributes": (),
        "classifiers": {"scenes@3": classifier},
        "openai_categories": {},
        "uncalibrated": False,
    }
    return BoundPolicy(**{**fields, **changes})


@pytest.mark.parametrize(
    ("views", "seen"),
    [("tiles", ["full", "tile 1", "tile 12"]), ("full", ["full"]), ("center", ["center"])],
)
def test_which_views_a_policy_looks_at(views: str, seen: list[str]) -> None:
    names = ["center", "full", "tile 1", "tile 12"]
    assert [name for name in names if uses(bound(views=views), name)] == seen


def test_views_that_the_policy_does_not_use_say_nothing() -> None:
    """Only the center shows gore (3 of 4); the tile that is left shows it half, the whole image 1 of 4."""
    verdict = verdict_of(bound(), VECTORS, PLACES, LN_3)
    (category,) = verdict.categories
    assert (verdict.decision, category.decision) == ("review", "review")
    assert category.score == pytest.approx(0.5)
    assert category.evidence[0].place == PLACES[2]
    assert verdict_of(bound(views="full"), VECTORS, PLACES, LN_3).categories[0].score == pytest.approx(0.25)
    center = verdict_of(bound(views="center"), VECTORS, PLACES, LN_3)
    assert (center.decision, center.categories[0].evidence[0].place) == ("block", PLACES[0])
    assert center.categories[0].score == pytest.approx(0.75)
    assert center.policy.views == "center"


def test_scores_are_calibrated_before_they_are_judged() -> None:
    """An even chance, three times as likely: 3 to 1."""
    classifier = BoundClassifier("scenes@3", "scenes", 3, "", text(), (None, Calibration(offset=LN_3)))
    verdict = verdict_of(bound(classifiers={"scenes@3": classifier}), VECTORS, PLACES, LN_3)
    assert verdict.categories[0].score == pytest.approx(0.75)
    assert verdict.decision == "block"


def test_attributes_inform_and_warnings_say_what_is_not_calibrated() -> None:
    verdict = verdict_of(bound(attributes=("scenes@3",), uncalibrated=True), VECTORS, PLACES, LN_3)
    attribute = verdict.attributes["scenes"]
    assert set(verdict.attributes) == {"scenes"}
    assert (set(attribute), attribute["version"]) == ({"version", "scores"}, 3)
    assert [entry["label"] for entry in attribute["scores"]] == ["calm", "gore"]
    assert [entry["score"] for entry in attribute["scores"]] == pytest.approx([0.625, 0.375])  # of the two views used
    assert verdict.warnings == ("uncalibrated",)
    plain = verdict_of(bound(), VECTORS, PLACES, LN_3)
    assert (dict(plain.attributes), plain.warnings) == ({}, ())


def test_labels_inform_best_first_by_mean_or_maximum_and_equals_in_their_order() -> None:
    scores = ClassifierScores(("calm", "gore"), np.array([[0.125, 0.75], [0.625, 0.75]], np.float32))
    assert informed(text(), scores) == [{"label": "gore", "score": 0.75}, {"label": "calm", "score": 0.375}]
    assert informed(text("independent"), scores) == [
        {"label": "gore", "score": 0.75},
        {"label": "calm", "score": 0.625},
    ]
    names = tuple(f"label {number}" for number in range(64))
    values = np.full((1, 64), 0.01, np.float32)
    values[0, 40] = 0.2
    order = [entry["label"] for entry in informed(text(), ClassifierScores(names, values))]
    assert order == ["label 40", *names[:40], *names[41:]]


BLOCK = Match("known bad", "block", "pdq", PDQ, 32)
ALLOW = Match("known fine", "allow", "sha256", SHA, 0)


def test_a_list_decides_with_how_near_its_hash_is() -> None:
    """32 of 256 bits differ: 7/8 are the same."""
    policy = bound()
    verdict = from_lists(policy, [ALLOW, BLOCK], PREPARED)
    assert verdict.policy is policy
    assert (verdict.decision, verdict.warnings, dict(verdict.attributes)) == ("block", (), {})
    bad, fine = verdict.categories
    assert (bad.category, bad.score, bad.decision) == ("list:known bad", 1.0, "block")
    assert (fine.category, fine.score, fine.decision) == ("list:known fine", 1.0, "allow")
    assert (bad.review_at, bad.block_at) == (None, None)
    (reason,) = bad.evidence
    assert (reason.kind, reason.label, reason.score) == ("list", PDQ, 0.875)
    assert reason.place == Place("full", (0, 0, 200, 100), None)
    assert (fine.evidence[0].label, fine.evidence[0].score) == (SHA, 1.0)
    assert from_lists(bound(), [ALLOW], PREPARED).decision == "allow"
    assert from_lists(bound(), [BLOCK], PREPARED).decision == "block"


def test_an_answer_tells_all_of_it_and_a_shadows_all_but_the_attributes() -> None:
    policy = bound(attributes=("scenes@3",), views="full", uncalibrated=True)
    verdict = verdict_of(policy, np.array([[0, 1]], np.float32), [PLACES[1]], 0.0)
    expected = {
        "decision": "review",
        "categories": [
            {
                "category": "gore",
                "score": 0.5,
                "decision": "review",
                "review_at": 0.4,
                "block_at": 0.7,
                "evidence": [
                    {
                        "kind": "label",
                        "label": "gore",
                        "score": 0.5,
                        "view": "full",
                        "box": [0, 0, 200, 100],
                        "frame_ms": 0,
                        "background": None,
                    }
                ],
            }
        ],
        "policy": {"name": "strict", "version": 7, "classifiers": {"scenes": 3}},
        "attributes": {
            "scenes": {"version": 3, "scores": [{"label": "calm", "score": 0.5}, {"label": "gore", "score": 0.5}]}
        },
        "warnings": ["uncalibrated"],
    }
    assert verdict_json(verdict, None, policy) == {**expected, "shadow": None}
    shadow = {name: value for name, value in expected.items() if name != "attributes"}
    assert verdict_json(verdict, verdict, policy) == {**expected, "shadow": shadow}
    failed = verdict_json(None, None, policy)
    assert (failed["decision"], failed["categories"], failed["policy"]) == (None, None, expected["policy"])
