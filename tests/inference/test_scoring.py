"""Scores against the definition, and against what the real CLIP says of seven photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gateway.inference.activations import softmax
from gateway.inference.prompts import Mode
from gateway.inference.scoring import TextMatrix, mean_units, score


def units(rows: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def matrix(mode: Mode, labels: np.ndarray, groups: list[np.ndarray], group_of: list[int]) -> TextMatrix:
    starts = np.cumsum([0, *(len(group) for group in groups[:-1])]).astype(np.intp)
    negatives = np.concatenate(groups) if groups else np.zeros((0, labels.shape[1]), np.float32)
    names = tuple(f"label {number}" for number in range(len(labels)))
    return TextMatrix(mode, names, labels, negatives, starts, np.array(group_of, np.intp))


def test_softmax_mode_sums_to_one_over_views_and_in_the_mean() -> None:
    scores = score(units(4), matrix("softmax", units(5, seed=1), [], [0] * 5), 100.0)
    assert scores.probabilities.shape == (4, 5)
    assert np.allclose(scores.probabilities.sum(axis=1), 1, atol=1e-6)
    assert np.isclose(scores.mean()[0].sum(), 1, atol=1e-6)


def test_independent_mode_is_the_softmax_over_a_label_and_its_own_negatives() -> None:
    images, labels = units(3), units(4, seed=1)
    groups = [units(2, seed=2), units(3, seed=3)]
    group_of = [0, 1, 0, 1]
    scores = score(images, matrix("independent", labels, groups, group_of), 100.0)
    for view, image in enumerate(images):
        for number, label in enumerate(labels):
            logits = 100.0 * np.concatenate([[image @ label], groups[group_of[number]] @ image]).astype(np.float64)
            assert scores.probabilities[view, number] == pytest.approx(softmax(logits)[0], abs=1e-5)


def test_independent_scores_do_not_depend_on_the_other_labels() -> None:
    images, labels, negatives = units(3), units(4, seed=1), units(2, seed=2)
    together = score(images, matrix("independent", labels, [negatives], [0] * 4), 100.0).probabilities
    alone = score(images, matrix("independent", labels[2:3], [negatives], [0]), 100.0).probabilities
    assert np.allclose(together[:, 2], alone[:, 0], atol=1e-6)


def test_extreme_logits_stay_finite() -> None:
    vector = units(1)
    scores = score(vector, matrix("independent", vector, [-vector], [0]), 1e4)
    assert scores.probabilities[0, 0] == 1.0
    assert np.isfinite(
        score(vector, matrix("softmax", np.concatenate([vector, -vector]), [], [0, 0]), 1e4).mean()[0]
    ).all()


def test_golden_photographs_get_the_real_models_three_likeliest_labels(golden: Path) -> None:
    photos = np.load(golden / "photos_vitb32.npz")
    classes = np.load(golden / "imagenet_labels_vitb32.npz")
    texts = mean_units(classes["text_embeds"], [1] * len(classes["text_embeds"]))
    text = matrix("softmax", texts, [], [0] * len(texts))
    expected = json.loads((golden / "expected_top3.json").read_text())
    scores = score(photos["image_embeds"], text, 100.0).probabilities
    assert len(expected) == len(photos["names"]) == 7
    for name, row in zip(photos["names"], scores, strict=True):
        top = np.argsort(-row, kind="stable")[:3]
        for position, (index, label, probability) in zip(top, expected[str(name)], strict=True):
            assert row[index] == pytest.approx(probability, abs=1e-3), label
            assert row[position] == pytest.approx(probability, abs=1e-3)


def test_each_label_is_the_mean_of_its_own_prompts_at_unit_length() -> None:
    prompts = units(6)
    means = mean_units(prompts, [1, 3, 2])
    assert np.allclose(means[0], prompts[0], atol=1e-6)
    for made, group in zip(means[1:], (prompts[1:4], prompts[4:]), strict=True):
        assert np.allclose(made, group.mean(axis=0) / np.linalg.norm(group.mean(axis=0)), atol=1e-6)


def test_the_mean_over_views_by_hand() -> None:
    """At a scale of ln 3 a label seen wholly weighs 3, one not seen 1; the third view sees both and weighs alike."""
    images = np.array([[1, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    text = matrix("softmax", np.eye(2, dtype=np.float32), [], [0, 0])
    for rows, probabilities, similarities in (
        ([0], [0.75, 0.25], [1, 0]),
        ([0, 1], [0.5, 0.5], [0.5, 0.5]),
        ([0, 1, 2, 3], [0.5625, 0.4375], [0.75, 0.5]),
    ):
        made = score(images[rows], text, float(np.log(3)))
        assert made.mean()[0].tolist() == pytest.approx(probabilities, abs=1e-6)
        near = made.mean()[1]
        assert near is not None
        assert near.tolist() == pytest.approx(similarities, abs=1e-6)
        assert made.probabilities.dtype == np.float32


def test_independent_mode_by_hand() -> None:
    """At ln 3 a seen label weighs 3 against what its negatives weigh: 1 each unseen, 3 each seen."""
    labels = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    negatives = [np.array([[0, 0, 1]], np.float32), np.array([[0, 0, 1], [1, 0, 0]], np.float32)]
    image = np.array([[1, 0, 0]], np.float32)
    made = score(image, matrix("independent", labels, negatives, [0, 1]), float(np.log(3)))
    assert made.probabilities[0].tolist() == pytest.approx([3 / 4, 1 / 5], abs=1e-6)
    assert made.similarities is not None
    assert made.similarities[0].tolist() == [1, 0]
    assert made.probabilities.dtype == np.float32


def test_each_row_of_a_softmax_is_shifted_by_its_own_maximum() -> None:
    """A view far below another would vanish, 0 / 0, if both were shifted alike."""
    assert softmax(np.array([[0.0, 0.0], [2000.0, 0.0]])).tolist() == [[0.5, 0.5], [1.0, 0.0]]
