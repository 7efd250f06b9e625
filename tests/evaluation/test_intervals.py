"""Figures and their intervals: by hand, against scikit-learn and scipy, and by how often they hold what is true."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from gateway.evaluation.intervals import area_intervals, curve_areas, enough, proportion, recall_at, share, strata_of

DRAWS = 200
LEAST_COVERAGE = 0.91  # of 95 %, in 200 seeded draws: 2.6 standard errors below
SEPARATION = 1.8  # of two normal distributions of scores


def names(count: int) -> list[str]:
    return [f"group {number}" for number in range(count)]


def scored(rng: np.random.Generator, positives: int, negatives: int) -> tuple[np.ndarray, np.ndarray]:
    scores = np.r_[rng.normal(SEPARATION, 1, positives), rng.normal(0, 1, negatives)]
    return scores, np.arange(len(scores)) < positives


@pytest.mark.parametrize(("rate", "needed"), [(0.001, 2995), (0.01, 299), (0.05, 59)])
def test_how_many_harmless_images_certify_a_rate(rate: float, needed: int) -> None:
    assert enough(rate, 0).needed == needed
    assert enough(rate, needed - 10).missing == 10
    assert enough(rate, needed).missing == 0
    assert stats.binomtest(0, needed, alternative="less").proportion_ci(0.95, "exact").high <= rate
    assert stats.binomtest(0, needed - 1, alternative="less").proportion_ci(0.95, "exact").high > rate


@pytest.mark.parametrize(("count", "of"), [(0, 20), (1, 20), (13, 20), (20, 20), (0, 299)])
def test_a_share_has_the_exact_interval(count: int, of: int) -> None:
    found = proportion(count, of, of)
    exact = stats.binomtest(count, of).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    assert found.value == count / of


def test_of_nothing_there_is_no_share() -> None:
    assert proportion(0, 0, 0).json == {"value": None, "low": None, "high": None}


def test_copies_of_an_image_are_no_evidence() -> None:
    once = share(np.array([True, False, True, True]), np.arange(4))
    ten_times = share(np.tile([True, False, True, True], 10), np.tile(np.arange(4), 10))
    assert ten_times == once


def test_areas_are_scikit_learns_for_every_weighting() -> None:
    rng = np.random.default_rng(1)
    scores, truth = rng.integers(0, 12, 80) / 12, rng.random(80) < 0.4  # many equal scores
    weights = rng.integers(0, 4, (30, 80)).astype(float)
    weights[0] = 1
    areas, precisions = curve_areas(scores, truth, weights)
    for row, area, precision in zip(weights, areas, precisions, strict=True):
        assert area == pytest.approx(roc_auc_score(truth, scores, sample_weight=row))
        assert precision == pytest.approx(average_precision_score(truth, scores, sample_weight=row))


def test_areas_by_hand() -> None:
    area, precision = area_intervals(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False]), names(4))
    assert area.value == pytest.approx(3 / 4)  # three of four pairs stand right
    assert precision.value == pytest.approx((1 + 2 / 3) / 2)


def test_areas_need_both_classes() -> None:
    for truth in (np.zeros(5, bool), np.ones(5, bool)):
        assert area_intervals(np.arange(5.0), truth, names(5))[0].value is None
        assert recall_at(0.01, np.arange(5.0), truth, names(5)).value is None


def test_a_perfect_order_of_few_images_is_no_proof() -> None:
    truth = np.arange(30) < 10
    area, precision = area_intervals(np.where(truth, 0.9, 0.1), truth, names(30))
    assert area.value == precision.value == 1
    assert area.low == precision.low == pytest.approx(0.025**0.1)  # ten trials, each right


def test_one_image_of_a_class_gives_an_interval() -> None:
    truth = np.arange(12) < 1
    area, _ = area_intervals(np.arange(12)[::-1] / 12, truth, names(12))
    assert area.low is not None
    assert area.low < 0.1


def test_groups_are_drawn_whole_and_by_truth() -> None:
    truth = np.array([True, True, False, False, False])
    strata = strata_of(truth, ["a", "a", "b", "c", "c"])
    weights = strata.weights([np.array([[0]]), np.array([[2, 2]])])
    assert weights.tolist() == [[1, 1, 0, 2, 2]]


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05])
def test_recall_at_a_rate_is_what_the_roc_curve_says(rate: float) -> None:
    rng = np.random.default_rng(3)
    scores, truth = scored(rng, 90, 700)
    scores = np.round(scores, 2)
    alarms, recall, _ = roc_curve(truth, scores, drop_intermediate=False)
    found = recall_at(rate, scores, truth, names(len(scores)))
    assert found.value == pytest.approx(recall[alarms <= rate].max())
    assert found.low is not None
    assert found.value is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high


def test_with_too_few_harmless_images_no_recall_is_certain() -> None:
    scores, truth = scored(np.random.default_rng(4), 200, 298)
    assert recall_at(0.01, scores, truth, names(498)).low == 0
    scores, truth = scored(np.random.default_rng(4), 200, 299)
    assert (recall_at(0.01, scores, truth, names(499)).low or 0) > 0
    # Images of one group are one draw.
    assert recall_at(0.01, scores, truth, [f"{i // 2}" for i in range(499)]).low == 0


@pytest.mark.parametrize(("positives", "negatives"), [(25, 60), pytest.param(60, 400, marks=pytest.mark.heavy)])
def test_intervals_hold_what_is_true_as_often_as_they_say(
    positives: int, negatives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.evaluation.intervals.RESAMPLES", 400)
    rng = np.random.default_rng(5)
    many, of = scored(rng, 400 * positives, 400 * negatives)
    area = stats.norm.cdf(SEPARATION / np.sqrt(2))
    precision = average_precision_score(of, many)
    recall = stats.norm.sf(stats.norm.isf(0.05) - SEPARATION)
    held = np.zeros(3)
    for _ in range(DRAWS):
        scores, truth = scored(rng, positives, negatives)
        found = (*area_intervals(scores, truth, names(len(scores))), recall_at(0.05, scores, truth, names(len(scores))))
        held += [
            (entry.low or 0) <= true <= (entry.high or 0)
            for entry, true in zip(found, (area, precision, recall), strict=True)
        ]
    assert (held / DRAWS >= LEAST_COVERAGE).all(), held / DRAWS
