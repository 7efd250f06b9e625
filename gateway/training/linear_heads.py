"""The heads that are tried: words and prototypes, and logistic regression. N examples, D dimensions, L labels.

``adapted`` is LP++ (Huang et al., CVPR 2024) in its essence: logits that are the words' own, weighted by label, plus a
visual part that begins as the labels' prototypes. Steps have the size that the loss's curvature allows, so nothing is
searched for, and there are few of them, so that little is learned from few examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from gateway.inference.activations import sigmoid, softmax
from gateway.inference.heads import Output
from gateway.training.examples import Array, Examples

STEPS = 300  # as LP++
CURVATURE = {"softmax": 0.5, "sigmoid": 0.25}  # the largest of the loss by a logit (Böhning, 1992)
BLOCKS = 3
LOGISTIC_C = (1.0, 100.0)
MOST_ROUNDS = 1000

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Linear:
    """Logits as a function of the vector: ``weight`` [L, D] and ``bias`` [L]."""

    weight: Doubles
    bias: Doubles

    def logits(self, vectors: Array) -> Doubles:
        """Return the logits [N, L] of vectors [N, D]."""
        return np.asarray(vectors @ self.weight.T + self.bias)


def probabilities(logits: Doubles, output: Output) -> Doubles:
    """Return the probabilities [N, L] of logits [N, L]."""
    return softmax(logits) if output == "softmax" else sigmoid(logits)


def adapted(examples: Examples) -> Linear:
    """Fit the weights of the words, the visual part and the offsets; without words the latter two."""
    weight = examples.zero_shot.weight if examples.zero_shot is not None else None
    middle = examples.vectors.mean(axis=0, dtype=np.float64)
    words = None if weight is None else examples.vectors @ weight.T
    visual, of_words, bias = _minimized(examples.truth, examples.output, words, examples.vectors - middle)
    bias = bias - visual @ middle
    return Linear(visual, bias) if weight is None else Linear(visual + of_words[:, np.newaxis] * weight, bias)


def words_alone(examples: Examples, held_out: Examples) -> Doubles:
    """Return the logits [N, L] of examples held out by the words alone, their scale and offset fitted on the others."""
    if examples.zero_shot is None or held_out.zero_shot is None:
        return frequencies(examples, held_out)
    _, scale, bias = _minimized(examples.truth, examples.output, examples.zero_shot.logits, None)
    return np.asarray(scale * held_out.zero_shot.logits + bias)


def frequencies(examples: Examples, held_out: Examples) -> Doubles:
    """Return the logits [N, L] of examples held out by how often each label is true of the others."""
    bias = _minimized(examples.truth, examples.output, None, None)[2]
    return np.broadcast_to(bias, held_out.truth.shape)


def _minimized(
    truth: Array, output: Output, words: Array | None, vectors: Doubles | None
) -> tuple[Doubles, Doubles, Doubles]:
    """Minimize the cross-entropy by majorization: each block of parameters has its own Lipschitz constant.

    Args:
        truth: [N, L].
        output: of the head.
        words: [N, L] logits; None without any.
        vectors: [N, D], centred; None for no visual part.

    Returns:
        The weight [L, D] of the vectors, the weight [L] of the words, and the bias [L].
    """
    count, width = truth.shape
    if vectors is None:
        vectors = np.zeros((count, 0))
    logits = np.zeros((count, width)) if words is None else words.astype(np.float64)
    offset, spread = logits.mean(axis=0), logits.std(axis=0) + 1e-6
    standard = (logits - offset) / spread
    curvature = CURVATURE[output] * BLOCKS
    norm = np.linalg.norm(vectors, 2) ** 2 / count if vectors.size else 0.0
    step = 1 / (curvature * max(norm, 1e-9))
    weight, of_words, bias = np.zeros((width, vectors.shape[1])), np.zeros(width), np.zeros(width)
    for _ in range(STEPS):
        error = (probabilities(vectors @ weight.T + of_words * standard + bias, output) - truth) / count
        weight -= step * (error.T @ vectors)
        bias -= error.sum(axis=0) / curvature
        of_words -= (error * standard).sum(axis=0) / curvature
    return weight, of_words / spread, bias - of_words / spread * offset


def logistic(examples: Examples, strength: float) -> Linear:
    """Fit a logistic regression on the vectors alone: a multinomial one for a softmax, else one a label.

    Args:
        examples: fitted on; each label is true of some and not of all.
        strength: the inverse of its regularization.
    """
    middle = examples.vectors.mean(axis=0, dtype=np.float64)
    vectors = examples.vectors - middle
    scale = float(np.sqrt((vectors**2).sum(axis=1).mean())) + 1e-9
    targets = [examples.truth.argmax(axis=1)] if examples.output == "softmax" else list(examples.truth.T > 0)
    models = [LogisticRegression(C=strength, max_iter=MOST_ROUNDS).fit(vectors / scale, target) for target in targets]
    weight = np.concatenate([model.coef_ for model in models]) / scale
    bias = np.concatenate([model.intercept_ for model in models])
    if len(weight) < examples.truth.shape[1]:  # of two labels of a softmax scikit-learn gives the second one's logit
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    return Linear(weight, bias - weight @ middle)
