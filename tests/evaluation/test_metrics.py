"""Figures of a category, against counts by hand and scikit-learn's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from gateway.evaluation.judged import JudgedImage, JudgedSet, LabelledImage
from gateway.evaluation.metrics import category_figures, measures, reliability, right, scored
from gateway.evaluation.reporting import closed_sets, load
from tests.support.judged_sets import image, made_set, run_of

BY_HAND = JudgedSet(
    run_of(),
    (
        image(0, ["gore"], {"gore": 0.95, "nudity": 0.1}),  # blocked, rightly
        image(1, ["gore"], {"gore": 0.90, "nudity": 0.1}),  # blocked: a score at the threshold counts
        image(2, ["gore"], {"gore": 0.60, "nudity": 0.1}),  # reviewed, rightly
        image(3, ["gore"], {"gore": 0.20, "nudity": 0.1}),  # missed
        image(4, [], {"gore": 0.55, "nudity": 0.1}),  # harmless, reviewed
        image(5, [], {"gore": 0.10, "nudity": 0.1}),
        image(6, [], {"gore": 0.10, "nudity": 0.1}),
        image(7, ["nudity"], {"gore": 0.92, "nudity": 0.7}),  # blocked as gore, rightly blocked though
    ),
)


def test_a_category_at_its_thresholds_by_hand() -> None:
    found = category_figures(BY_HAND, "gore")
    assert (found.positives, len(found.truth)) == (4, 8)
    assert found.block is not None
    assert found.review is not None
    assert (found.block.at, found.review.at) == (0.9, 0.5)
    assert found.block.recall.value == 2 / 4
    assert found.block.precision.value == 2 / 3
    assert found.block.false_positives.value == 1 / 4
    assert found.block.harmless.value == 0 / 3
    assert found.review.recall.value == 3 / 4
    assert found.review.precision.value == 3 / 5
    assert found.review.harmless.value == 1 / 3
    assert found.review.f1 == pytest.approx(2 * 3 / 4 * 3 / 5 / (3 / 4 + 3 / 5))


def test_decisions_by_hand() -> None:
    assert [int(measure.found.sum()) for measure in (right(BY_HAND),)] == [6]  # wrong: one missed, one reviewed
    counts = {
        measure.key: (int((measure.found & measure.among).sum()), int(measure.among.sum()))
        for measure in measures(BY_HAND)
    }
    assert counts == {"caught": (4, 5), "blocked": (3, 5), "harmless_flagged": (1, 3), "harmless_blocked": (0, 3)}


def test_figures_are_scikit_learns() -> None:
    judged = made_set(300)
    for category in scored(judged):
        found = category_figures(judged, category)
        truth, scores = judged.truth(category), judged.scores(category)
        assert found.roc_auc.value == pytest.approx(roc_auc_score(truth, scores))
        assert found.average_precision.value == pytest.approx(average_precision_score(truth, scores))
        assert found.review is not None
        assert found.review.f1 == pytest.approx(f1_score(truth, scores >= found.review.at))
        for interval in (found.roc_auc, found.average_precision, *found.recall_at.values()):
            assert interval.value is not None
            assert 0 <= (interval.low or 0) <= interval.value <= (interval.high or 0) <= 1


def test_hash_lists_are_no_category() -> None:
    listed = image(9, ["gore"], {"list:known": 1.0})
    assert scored(replace(BY_HAND, images=(*BY_HAND.images, replace(listed, decision="block")))) == ("gore", "nudity")


def test_a_rule_that_never_blocks_has_one_threshold() -> None:
    rules = [{"category": "gore", "review_at": 0.5, "block_at": None}]
    found = category_figures(replace(BY_HAND, run=replace(BY_HAND.run, policy_body={"rules": rules})), "gore")
    assert found.block is None
    assert found.review is not None


def test_calibration_error_by_hand() -> None:
    scores = np.array([0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 1.0])
    truth = np.array([False, False, False, True, True, True, True])
    found = reliability(scores, truth, np.arange(7))
    assert found.counts == (4, 3)
    assert found.error == pytest.approx((4 * abs(0.1 - 0.25) + 3 * abs(2.8 / 3 - 1)) / 7)


def closed_set() -> JudgedSet:
    answers = [("cat", 0.8, 0.2), ("cat", 0.4, 0.6), ("dog", 0.1, 0.9), ("dog", 0.3, 0.7), ("fish", 0.6, 0.4)]
    rows = tuple(
        JudgedImage(LabelledImage(f"{i}.jpg", frozenset({label})), f"{i}", None, {"cat": cat, "dog": dog})
        for i, (label, cat, dog) in enumerate(answers)
    )
    return JudgedSet(replace(run_of(), policy=None, policy_body=None, classifier="pets@1"), rows)


def test_confusion_of_a_closed_set_by_hand() -> None:
    section = closed_sets.section(closed_set())
    assert section is not None
    assert section.values["labels"] == ["cat", "dog", "none of these"]
    assert section.values["matrix"] == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert section.figures[0].png.startswith(b"\x89PNG")
    correct = right(closed_set())
    assert (int((correct.found & correct.among).sum()), int(correct.among.sum())) == (3, 4)  # no label is the fish's


def test_load_mixes_offending_and_harmless_by_what_is_stated() -> None:
    for prevalence, expected in ((0.0, 1 / 3), (1.0, 1 / 5), (0.5, (1 / 3 + 1 / 5) / 2)):
        ((_, found),) = load.loads(BY_HAND, (prevalence,))
        assert found.value == pytest.approx(expected)
        assert found.low is not None
        assert found.high is not None
        assert found.low < expected < found.high


def test_load_is_not_known_of_a_kind_without_images() -> None:
    offending = replace(BY_HAND, images=tuple(entry for entry in BY_HAND.images if entry.image.labels))
    (_, harmless), (_, all_offending) = load.loads(offending, (0.0, 1.0))
    assert (harmless.value, harmless.low, harmless.high) == (None, 0.0, 1.0)
    assert all_offending.value == pytest.approx(1 / 5)
    section = load.section(offending, 1000, None, 0.0)
    assert section is not None
    assert section.tables[0].rows[0][1:3] == ["-", "-"]


def test_cost_and_speed_are_those_of_one_image_at_a_time() -> None:
    timed = replace(BY_HAND, images=tuple(replace(entry, elapsed_ms=50.0) for entry in BY_HAND.images))
    section = load.section(timed, 1000, 0.72, None)
    assert section is not None
    assert section.values["images_per_second"] == 20
    assert section.values["cost_per_million"] == pytest.approx(0.72 / 3600 / 20 * 1e6)
