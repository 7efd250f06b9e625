"""The matrix of a label set: made of its prompts' vectors, turned into bytes that can be kept, and read back.

Bytes are SHA-256 of all that follows and of the prompts, then the rows as float32, little-endian: one a label, then one
a negative. So vectors that were damaged, or are another label set's, are not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from gateway.inference.prompts import LabelSet
from gateway.inference.scoring import Floats, TextMatrix, mean_units

_DIGEST_BYTES = 32
_UNIT_WITHIN = 0.01  # as for what the model answers


def prompts_of(labels: LabelSet) -> list[str]:
    """Return every prompt of the labels, then every negative, as often as each is named."""
    wanted = [prompt for entry in labels.labels for prompt in entry.prompts]
    return wanted + [prompt for group in _groups(labels) for prompt in group]


def computed(labels: LabelSet, vectors: Mapping[str, Floats]) -> TextMatrix:
    """Return the matrix of a label set, of the unit vectors [D] of all its prompts."""
    means = mean_units(
        np.stack([vectors[prompt] for entry in labels.labels for prompt in entry.prompts]),
        [len(entry.prompts) for entry in labels.labels],
    )
    negatives = [vectors[prompt] for group in _groups(labels) for prompt in group]
    return _matrix(labels, means, np.stack(negatives) if negatives else np.zeros((0, means.shape[1]), np.float32))


def packed(labels: LabelSet, matrix: TextMatrix) -> bytes:
    """Return the vectors of a label set's matrix as bytes."""
    rows = np.concatenate([matrix.vectors, matrix.negatives]).astype("<f4").tobytes()
    return _digest(labels, rows) + rows


def unpacked(labels: LabelSet, data: bytes, dim: int) -> TextMatrix | None:
    """Return the matrix of a label set; None if the bytes are not what ``packed`` made of it.

    Args:
        labels: whose vectors they should be.
        data: the bytes.
        dim: D, length of a vector.
    """
    digest, rest = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    count = len(labels.labels) + sum(map(len, _groups(labels)))
    if len(rest) != 4 * dim * count or digest != _digest(labels, rest):
        return None
    rows = np.frombuffer(rest, "<f4").reshape(count, dim).astype(np.float32)
    if not (np.abs(np.linalg.norm(rows, axis=1) - 1) <= _UNIT_WITHIN).all():  # nor, then, one that is not finite
        return None
    return _matrix(labels, rows[: len(labels.labels)], rows[len(labels.labels) :])


def _matrix(labels: LabelSet, vectors: Floats, negatives: Floats) -> TextMatrix:
    groups = _groups(labels)
    where = {group: number for number, group in enumerate(groups)}
    starts = np.cumsum([0, *(len(group) for group in groups[:-1])]) if groups else np.zeros(0)
    return TextMatrix(
        mode=labels.mode,
        labels=tuple(entry.label for entry in labels.labels),
        vectors=vectors,
        negatives=negatives,
        group_starts=starts.astype(np.intp),
        group_of=np.array([where.get(entry.negatives, 0) for entry in labels.labels], np.intp),
    )


def _groups(labels: LabelSet) -> list[tuple[str, ...]]:
    """Return the distinct groups of negatives that labels are weighed against; none in softmax mode."""
    return list(dict.fromkeys(entry.negatives for entry in labels.labels)) if labels.mode == "independent" else []


def _digest(labels: LabelSet, rows: bytes) -> bytes:
    words = [labels.mode, [(entry.prompts, entry.negatives) for entry in labels.labels]]
    return hashlib.sha256(json.dumps(words).encode() + rows).digest()
