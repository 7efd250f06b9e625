"""The similarity below which no label fits: chosen for a stated share of losses, refused where that cannot be shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.evaluation.judged import ClassifierViews, JudgedSet, judged_of, line_of
from gateway.evaluation.none_of_these import fit_none_of_these
from tests.support.viewed_sets import KEY, judged_set

LABELS = [f"label {number}" for number in range(3)]


def drawn(known: int, foreign: int, seed: int = 0) -> JudgedSet:
    """Images whose best similarity is about 0.3 where a label fits, 0.2 where none does, in one to three views."""
    rng = np.random.default_rng(seed)
    similarities, truths = [], []
    for number in range(known + foreign):
        rows = rng.normal(0.05, 0.02, (int(rng.integers(1, 4)), 3))
        rows[:, number % 3] = rng.normal(0.3 if number < known else 0.2, 0.03)
        similarities.append(rows.astype(np.float32))
        truths.append(frozenset({LABELS[number % 3] if number < known else "something else"}))
    probabilities = [np.full(rows.shape, 1 / 3, np.float32) for rows in similarities]
    classifier: dict[str, Any] = {"labels": [{"label": label} for label in LABELS]}
    return judged_set(probabilities, truths, classifier=classifier, policy=None, similarities=similarities)


def test_the_threshold_loses_no_more_than_was_stated_and_its_price_is_told() -> None:
    made = fit_none_of_these(drawn(1000, 600), 0.05)
    assert made.classifier["none_below"] == made.threshold
    assert 0.2 < made.threshold < 0.3
    assert made.lost.images + made.recognised.images == len(drawn(1000, 600).of("test").images)
    assert 0.01 < made.lost.rejected / made.lost.images < 0.06
    assert made.recognised.rejected / made.recognised.images > 0.85
    section = made.section()
    assert section.values["none_below"] == made.threshold
    (table,) = section.tables
    assert all("%" in row[1] for row in table.rows)


def test_the_stated_share_is_kept_in_all_but_one_of_twenty_draws() -> None:
    """Of the distribution itself: similarities below the threshold have a known share."""
    from scipy.stats import norm

    kept = [norm.cdf(fit_none_of_these(drawn(200, 0, seed), 0.1).threshold, 0.3, 0.03) <= 0.1 for seed in range(100)]
    assert sum(kept) >= 90  # 95 expected; fewer than 90 has a chance of 1 %


def test_too_few_images_are_refused_with_the_number_that_is_missing() -> None:
    judged = drawn(40, 0).of("train", "calibration")
    with pytest.raises(ValueError, match=rf"59 are needed, {59 - len(judged.images)} are missing"):
        fit_none_of_these(judged, 0.05)


def test_a_policy_and_images_without_similarities_are_refused() -> None:
    judged = drawn(100, 0)
    with pytest.raises(ValueError, match="one classifier"):
        fit_none_of_these(replace(judged, run=replace(judged.run, classifier=None)))
    bare = [
        replace(image, views={KEY: ClassifierViews(image.views[KEY].labels, image.views[KEY].probabilities)})
        for image in judged.images
    ]
    with pytest.raises(ValueError, match="not kept"):
        fit_none_of_these(replace(judged, images=tuple(bare)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_none_of_these(judged, 0.0)


def test_similarities_are_kept_with_an_images_line() -> None:
    image = drawn(1, 0).images[0]
    kept = judged_of(line_of(image)).views[KEY].similarities
    assert kept is not None
    assert (kept == image.views[KEY].similarities).all()
