"""Maps from scores to probabilities, on drawn numbers whose true map is known."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.evaluation.fitting.score_maps import (
    calibration_error,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    folds,
    is_lower,
    log_losses,
    moved,
    soft_log_loss,
)
from gateway.inference.activations import sigmoid
from gateway.moderation.calibration import MAX_KNOTS, Calibration, calibrated, log_odds

COUNT = 20_000
KNOTS = [(0.0, 0.001), (0.2, 0.3), (0.7, 0.35), (1.0, 0.999)]
MAPS = [Calibration(scale=0.3, offset=-2.0), Calibration(scale=2.0), Calibration(kind="isotonic", knots=KNOTS)]


def drawn(scale: float, offset: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and truths that are drawn with the probability sigmoid(scale x logit + offset)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 3, COUNT)
    return sigmoid(logits), rng.random(COUNT) < sigmoid(scale * logits + offset)


@pytest.mark.parametrize(("scale", "offset"), [(0.5, -1.0), (1.0, 0.0), (2.0, 1.5)])
def test_platt_scaling_finds_the_scale_and_offset(scale: float, offset: float) -> None:
    fitted = fit_platt(*drawn(scale, offset))
    assert fitted is not None
    assert fitted.scale == pytest.approx(scale, rel=0.05)
    assert fitted.offset == pytest.approx(offset, abs=0.08)


def test_scores_that_tell_nothing_or_the_contrary_are_not_mapped() -> None:
    scores, truth = drawn(1, 0)
    assert fit_platt(1 - scores, truth) is None
    assert fit_isotonic(1 - scores, truth) is None


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_probabilities_mean_what_they_say_on_other_images(fit: type) -> None:
    made = fit(*drawn(0.5, -1))
    scores, truth = drawn(0.5, -1, seed=1)
    weights = np.ones(COUNT)
    assert calibration_error(made.of(scores), truth, weights) < 0.015
    assert calibration_error(scores, truth, weights) > 0.1
    assert log_losses(made.of(scores), truth).mean() < log_losses(scores, truth).mean() - 0.1


def test_classes_that_do_not_overlap_have_a_slope_and_no_certainty() -> None:
    scores, truth = np.array([0.1, 0.2] * 30 + [0.8, 0.9] * 30), np.array([False] * 60 + [True] * 60)
    for made in (fit_platt(scores, truth), fit_isotonic(scores, truth)):
        assert made is not None
        low, high = made.of([0.1, 0.9])
        assert 0.001 < low < 0.1
        assert 0.9 < high < 0.999


@pytest.mark.parametrize("made", [*MAPS, fit_isotonic(*drawn(0.5, -1)), fit_platt(*drawn(0.5, -1))])
def test_maps_rise_strictly_over_all_that_a_float32_may_be(made: Calibration) -> None:
    """So that no two scores become equal and a threshold can move with them; and they can be undone."""
    near_one = 1 - np.arange(20, 0, -1) * 2.0**-24
    scores = np.concatenate([[0], np.geomspace(1e-30, 1e-3, 200), np.linspace(0.002, 0.99, 500), near_one, [1]])
    mapped = made.of(scores.astype(np.float32))
    assert (np.diff(mapped) > 0).all()
    assert (mapped >= 0).all()
    assert (mapped <= 1).all()
    middle = (scores > 1e-3) & (scores < 0.999)
    assert made.inverse(made.of(scores))[middle] == pytest.approx(scores[middle], abs=1e-9)


def test_knots_are_few() -> None:
    made = fit_isotonic(*drawn(0.5, -1))
    assert made is not None
    assert 10 < len(made.knots) <= MAX_KNOTS


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "isotonic"},
        {"kind": "isotonic", "knots": [(0, 0.1), (0.5, 0.2)]},
        {"kind": "isotonic", "knots": [(0.0, 0.5), (0.5, 0.5), (1.0, 0.9)]},
        {"kind": "isotonic", "knots": KNOTS, "scale": 2.0},
        {"kind": "platt", "knots": KNOTS},
        {"kind": "isotonic", "knots": [(number / 64, number / 64) for number in range(65)]},
    ],
)
def test_calibrations_that_are_refused(body: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"knots|List should have|belong to"):
        Calibration.model_validate(body)


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_a_temperature_is_found_and_equals_divided_logits(temperature: float) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (COUNT, 4))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    chosen = (softmax.cumsum(axis=1) < rng.random((COUNT, 1))).sum(axis=1)
    sharp = np.exp(logits * temperature)
    answered = (sharp / sharp.sum(axis=1, keepdims=True)).astype(np.float32)

    def loss(tried: float) -> float:
        made = calibrated(answered, [None] * 4, "softmax", tried)
        return float(-np.log(made[np.arange(COUNT), chosen]).mean())

    assert fit_temperature(loss) == pytest.approx(temperature, rel=0.04)
    assert calibrated(answered, [None] * 4, "softmax", temperature) == pytest.approx(softmax, abs=1e-6)


def test_a_temperature_divides_the_log_odds_of_independent_labels() -> None:
    scores = np.array([[0.2, 0.9, 0.5]], np.float32)
    made = calibrated(scores, [None, None, Calibration(offset=1.0)], "independent", 2.0)
    assert made[0, :2] == pytest.approx(sigmoid(log_odds(scores[0, :2]) / 2), abs=1e-6)
    assert made[0, 2] == pytest.approx(sigmoid(np.array(1.0)), abs=1e-6)


@pytest.mark.parametrize("made", MAPS)
def test_another_prevalence_moves_log_odds_by_the_difference_of_the_priors(made: Calibration) -> None:
    scores = np.array([knot for knot, _ in KNOTS])
    rarer = moved(made, 0.5, 0.01).of(scores[1:-1])
    assert log_odds(rarer) == pytest.approx(log_odds(made.of(scores[1:-1])) - np.log(99), abs=1e-6)


def test_images_of_one_group_count_as_one_draw_and_stay_in_one_fold() -> None:
    """Twenty images of one group, all better, are one observation; of twenty groups, they are twenty."""
    gains = np.array([1.0, 0.9, 1.1, 0.8] * 5)
    zeros = np.zeros(20)
    assert is_lower(zeros, gains, [str(number) for number in range(20)])
    noisy = np.concatenate([gains, -0.8 * gains])
    assert not is_lower(np.zeros(40), noisy, ["one"] * 20 + ["two"] * 20)
    groups = [str(number // 4) for number in range(80)]
    for train, held in folds(np.arange(80) % 2, groups):
        assert not {groups[row] for row in train} & {groups[row] for row in held}


def test_the_calibration_error_by_hand() -> None:
    """Ten images at 0.85 of which six are true, ten at 0.05 of which none is: (0.25 + 0.05) / 2."""
    scores = np.array([0.85] * 10 + [0.05] * 10)
    truth = np.array([True] * 6 + [False] * 14)
    assert calibration_error(scores, truth, np.ones(20)) == pytest.approx(0.15)


def test_classes_that_do_not_overlap_do_not_make_a_temperature_small_without_end() -> None:
    """70 of each, all at 0.9 and 0.1: they tell of 71 in 72, as Platt's targets have it, and not of certainty."""
    truth = np.repeat([True, False], 70)
    answered = np.where(truth, 0.9, 0.1)
    found = fit_temperature(lambda temperature: soft_log_loss(sigmoid(log_odds(answered) / temperature), truth))
    assert sigmoid(log_odds(0.9) / found) == pytest.approx(71 / 72, abs=1e-4)
