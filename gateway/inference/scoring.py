"""Vectors → logits → probabilities. Pure arithmetic on arrays; V views, L labels, M negatives, D dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.inference.activations import sigmoid, softmax
from gateway.inference.heads import Head
from gateway.inference.prompts import Mode

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TextMatrix:
    """The text side of a question, ready to be multiplied.

    Attributes:
        mode: how logits become scores.
        labels: L names.
        vectors: [L, D], unit length, one a label.
        negatives: [M, D], unit length; groups stand one behind the other. Empty in softmax mode.
        group_starts: [G] first row of each group of negatives.
        group_of: [L] which group each label is weighed against.
    """

    mode: Mode
    labels: tuple[str, ...]
    vectors: Floats
    negatives: Floats
    group_starts: npt.NDArray[np.intp]
    group_of: npt.NDArray[np.intp]

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return self.vectors.nbytes + self.negatives.nbytes


@dataclass(frozen=True, slots=True)
class Scores:
    """What an image's views say.

    Attributes:
        probabilities: [V, L], 0..1; in softmax mode each row sums to 1.
        similarities: [V, L], cosine, -1..1; None of a head, which compares with no words.
    """

    probabilities: Floats
    similarities: Floats | None

    def mean(self) -> tuple[Floats, Floats | None]:
        """Return mean probability [L] and mean similarity [L] over the views; means of rows that sum to 1 sum to 1."""
        near = self.similarities
        return self.probabilities.mean(axis=0), None if near is None else near.mean(axis=0)


def best_similarity(similarities: Floats) -> float:
    """Return the highest similarity of any label, of [V, L] the mean over views: whether any label fits.

    Probabilities do not say that: they are shares among the labels, whatever the image shows.
    """
    return float(similarities.mean(axis=0).max())


def score(images: Floats, text: TextMatrix | Head, logit_scale: float) -> Scores:
    """Return the scores of V views [V, D] against a text matrix, or by a head.

    softmax: CLIP's zero-shot classifier (Radford et al., 2021, fig. 3): softmax over labels of logit_scale x cosine.
    independent: the probability of the label in the softmax over itself and its own negatives, in closed form
    sigmoid(label logit - logsumexp(negative logits)).
    """
    if isinstance(text, Head):
        return Scores(text.probabilities(images), None)
    similarities = images @ text.vectors.T  # [V, L]
    logits = similarities.astype(np.float64) * logit_scale
    if text.mode == "softmax":
        return Scores(softmax(logits).astype(np.float32), similarities)
    against = (images @ text.negatives.T).astype(np.float64) * logit_scale  # [V, M]
    by_group = np.logaddexp.reduceat(against, text.group_starts, axis=1)  # [V, G]
    margin = logits - by_group[:, text.group_of]  # [V, L]
    return Scores(sigmoid(margin).astype(np.float32), similarities)


def mean_units(vectors: Floats, counts: Sequence[int]) -> Floats:
    """Return the means of groups of unit vectors, brought back to unit length: [P, D] → [L, D].

    CLIP's prompt ensembling in embedding space (Radford et al., 2021, section 3.1.4).

    Args:
        vectors: P rows; those of one label stand one behind the other.
        counts: of the L labels, at least 1 each; they sum to P.
    """
    starts = np.cumsum([0, *counts[:-1]])
    means = np.add.reduceat(vectors, starts, axis=0) / np.asarray(counts, np.float32)[:, np.newaxis]
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)
