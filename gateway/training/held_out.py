"""Which head is best on examples that it was not fitted on, and whether it is better than words alone.

Every example is held out once, with its whole group. The best head is offered only if its log loss is below that of
the words alone, whose scale and offset were fitted on the same examples, and below that of the labels' frequencies, by
more than chance explains: adapters that fall below zero-shot are common (CLAP, Silva-Rodríguez et al., CVPR 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn import config_context
from sklearn.metrics import auc, roc_curve
from sklearn.model_selection import StratifiedGroupKFold

from gateway.inference.heads import Head, Layer
from gateway.training.examples import LEAST_GROUPS, Examples
from gateway.training.linear_heads import (
    LOGISTIC_C,
    Doubles,
    Linear,
    adapted,
    frequencies,
    logistic,
    probabilities,
    words_alone,
)

FOLDS = LEAST_GROUPS
RESAMPLES, DRAWS = 200, 4000
LEAST = 1e-7
LEAST_GAIN = 1e-6
"""Of log loss: below this a difference is rounding, which may have one sign throughout."""
LOW_RATE = 0.01

Fit = Callable[[Examples], Linear]
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training.

    Attributes:
        head: None where none is offered.
        reason: why none is, a sentence; None with a head.
        figures: on examples held out, JSON values.
    """

    head: Head | None
    reason: str | None
    figures: Figures


def train(examples: Examples, confidence: float) -> Trained:
    """Try every kind of head, and fit the best on all examples if it is better than words alone.

    Args:
        examples: each label is true of examples of ``FOLDS`` groups, and not true of as many.
        confidence: of every interval; that of the gain is corrected for the number of heads tried (Bonferroni).
    """
    rows = examples.counted > 0
    folds = folds_of(examples)
    if (bare := one_sided(examples, folds)) is not None:
        return Trained(None, bare, {})
    tried = candidates(examples)
    plain = {"frequencies": frequencies} | ({} if examples.zero_shot is None else {"words": words_alone})
    losses = {name: loss(held_out(examples, folds, fit), examples)[rows] for name, fit in plain.items()}
    before = min(losses, key=lambda name: float(losses[name].mean()))
    logits = {}
    for name, fit in tried.items():
        logits[name] = held_out(examples, folds, partial(_on_rest, fit))
        losses[name] = loss(logits[name], examples)[rows]
    best = min(logits, key=lambda name: float(losses[name].mean()))
    groups = examples.groups[rows]
    chance = (1 - confidence) / len(tried)
    gain = interval(losses[before] - losses[best], groups, chance, examples.seed)
    figures: Figures = {
        "method": best,
        "folds": FOLDS,
        "confidence": confidence,
        "log_loss": {name: float(values.mean()) for name, values in losses.items()},
        "gain": gain,
        "labels": {
            label: {
                "head": ranking(logits[best], examples, number, confidence),
                "words": None
                if examples.zero_shot is None
                else ranking(examples.zero_shot.logits.astype(float), examples, number, confidence),
            }
            for number, label in enumerate(examples.labels)
        },
    }
    if not gain["low"] > LEAST_GAIN:
        return Trained(None, reason(gain, confidence, before), figures)
    fitted = tried[best](examples)
    layer = Layer(fitted.weight.astype(np.float32), fitted.bias.astype(np.float32))
    return Trained(Head(examples.labels, examples.output, (layer,)), None, figures)


def candidates(examples: Examples) -> Mapping[str, Fit]:
    """Return the heads that are tried, by name."""
    words = examples.zero_shot is not None and examples.zero_shot.weight is not None
    return {
        "words_and_prototypes" if words else "prototypes": adapted,
        **{f"logistic_c{strength:g}": partial(logistic, strength=strength) for strength in LOGISTIC_C},
    }


def folds_of(examples: Examples) -> list[npt.NDArray[np.intp]]:
    """Return the rows that are held out together: whole groups, each kind of label in every fold."""
    kinds = np.unique(examples.truth, axis=0, return_inverse=True)[1].reshape(-1)
    if np.bincount(kinds).min() < FOLDS:  # rare sets of labels: split by the first label that is true, or none
        kinds = np.where(examples.truth.any(axis=1), examples.truth.argmax(axis=1) + 1, 0)
    splits = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=examples.seed)
    return [held for _, held in splits.split(examples.vectors, kinds, examples.groups)]


def one_sided(examples: Examples, folds: list[npt.NDArray[np.intp]]) -> str | None:
    """Return which label cannot be learned without some fold, as a sentence; None if every label can."""
    for held in folds:
        shares = np.delete(examples.truth, held, axis=0).mean(axis=0)
        for label, share in zip(examples.labels, shares, strict=True):
            if not 0 < share < 1:
                return (
                    f"All examples that the label “{label}” is true of, or all that it is not true of, are in one of "
                    f"the {FOLDS} parts that whole groups were split into. Give more groups, or another seed."
                )
    return None


def held_out(
    examples: Examples, folds: list[npt.NDArray[np.intp]], fit: Callable[[Examples, Examples], Doubles]
) -> Doubles:
    """Return logits [N, L], each by what was fitted without the example's fold."""
    out = np.zeros(examples.truth.shape)
    for held in folds:
        rest = np.setdiff1d(np.arange(len(out)), held)
        out[held] = fit(examples.at(rest), examples.at(held))
    return out


def _on_rest(fit: Fit, rest: Examples, held: Examples) -> Doubles:
    return fit(rest).logits(held.vectors)


def loss(logits: Doubles, examples: Examples) -> Doubles:
    """Return the log loss [N] of each example: of a softmax, or the mean over the labels' sigmoids."""
    said = np.clip(probabilities(logits, examples.output), LEAST, 1 - LEAST)
    right = np.where(examples.truth > 0, said, 1 - said)
    if examples.output == "softmax":
        return np.asarray(-np.log(said[np.arange(len(said)), examples.truth.argmax(axis=1)]))
    return np.asarray(-np.log(right).mean(axis=1))


def interval(values: Doubles, groups: npt.NDArray[np.int32], chance: float, seed: int) -> Figures:
    """Return the mean of values [N] with its bootstrap interval; groups are drawn whole.

    Args:
        values: a difference of each example.
        groups: [N].
        chance: share of draws outside the interval.
        seed: of the draws.
    """
    _, group = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(group, values), np.bincount(group)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [chance / 2, 1 - chance / 2])
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def ranking(logits: Doubles, examples: Examples, number: int, confidence: float) -> Figures:
    """Return how well a label's scores rank the examples, each figure with its bootstrap interval by group.

    Drawing anew from examples without an error never shows one: a recall, and whatever is 1, is not said to be surer
    than its number of positive groups allows (Clopper and Pearson, 1934).
    """
    rows = examples.counted > 0
    scores = probabilities(logits, examples.output)[rows, number]
    if examples.output == "sigmoid":
        scores = logits[rows, number]  # sigmoids near 0 and 1 tie
    truth = examples.truth[rows, number] > 0
    _, group = np.unique(examples.groups[rows], return_inverse=True)
    chances = np.random.default_rng(examples.seed)
    drawn = []
    count = int(group.max()) + 1
    with config_context(assume_finite=True, skip_parameter_validation=True):  # half of the time otherwise
        made = _ranked(scores, truth, np.ones(len(scores)))
        for _ in range(RESAMPLES):
            weights = np.bincount(chances.integers(count, size=count), minlength=count)[group].astype(float)
            kept = weights > 0
            if 0 < weights[truth].sum() < weights.sum():
                drawn.append(_ranked(scores[kept], truth[kept], weights[kept]))
    outside = (1 - confidence) / 2
    low, high = np.quantile(drawn, [outside, 1 - outside], axis=0)
    positives = len(np.unique(group[truth]))
    few = [binomtest(round(value * positives), positives).proportion_ci(confidence).low for value in made]
    low = np.where(np.equal(made, 1) | (np.arange(len(made)) == len(made) - 1), np.minimum(low, few), low)
    names = ("roc_auc", "average_precision", "recall_at_1_percent_fpr")
    return {
        name: {"value": float(made[index]), "low": float(low[index]), "high": float(high[index])}
        for index, name in enumerate(names)
    }


def _ranked(scores: Doubles, truth: npt.NDArray[np.bool_], weights: Doubles) -> tuple[float, float, float]:
    """Return the area under the ROC curve, the average precision, and the recall at ``LOW_RATE``."""
    false, true, _ = roc_curve(truth, scores, sample_weight=weights, drop_intermediate=False)
    hits, alarms = true * weights[truth].sum(), false * weights[~truth].sum()
    precision = hits[1:] / (hits[1:] + alarms[1:])  # the curve begins with neither
    return float(auc(false, true)), float(np.diff(true) @ precision), float(true[false <= LOW_RATE].max())


def reason(gain: Figures, confidence: float, before: str) -> str:
    """Return why no head is offered."""
    than = "the words alone" if before == "words" else "the labels' frequencies"
    return (
        f"The best head is not better than {than} on examples held out: its log loss is lower by {gain['value']:.4f} "
        f"({gain['low']:.4f} to {gain['high']:.4f} at {confidence:.0%}), and all of that interval has to be above 0. "
        "Give more examples, or look at their labels."
    )
