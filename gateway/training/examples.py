"""What a head is trained on: vectors, which labels are true of each, and what words alone say of them.

It goes to the process that trains as one line of JSON and the numbers behind it. N examples, D dimensions, L labels.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.inference.heads import Output

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """What words say, without any example.

    Attributes:
        logits: [N, L] of each example: of the softmax, or of each label's sigmoid.
        weight: [L, D]: the same as a linear function of the vector, up to what is equal for all labels of a softmax;
            None where there are no text vectors.
    """

    logits: Array
    weight: Array | None


@dataclass(frozen=True, slots=True)
class Examples:
    """A training set.

    Attributes:
        labels: L names.
        output: softmax: one label is true of each example; sigmoid: any number, also none.
        vectors: [N, D], unit length.
        truth: [N, L], 1 where the label is true, else 0.
        groups: [N]: examples of one group (one image, one uploader) stay on one side of every split.
        zero_shot: None where the labels have no words.
        counted: [N], 0 of examples that are learned from and left out of the figures, else 1.
        seed: of the split and of the resampling.
    """

    labels: tuple[str, ...]
    output: Output
    vectors: Array
    truth: Array
    groups: npt.NDArray[np.int32]
    zero_shot: ZeroShot | None
    counted: Array
    seed: int = 0

    def digest(self) -> str:
        """Return a hex SHA-256 of the vectors and their labels: equal for the same examples in the same order."""
        parts = (self.vectors.tobytes(), self.truth.tobytes(), json.dumps(self.labels).encode())
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def of(self, rows: npt.NDArray[np.intp]) -> Examples:
        """Return some of the examples."""
        words = self.zero_shot
        return Examples(
            self.labels,
            self.output,
            self.vectors[rows],
            self.truth[rows],
            self.groups[rows],
            None if words is None else ZeroShot(words.logits[rows], words.weight),
            self.counted[rows],
            self.seed,
        )

    def to_bytes(self) -> bytes:
        """Return the whole as bytes."""
        words = self.zero_shot
        weight = words.weight if words is not None else None
        head = {
            "labels": self.labels,
            "output": self.output,
            "shape": self.vectors.shape,
            "words": words is not None,
            "weight": weight is not None,
            "seed": self.seed,
        }
        arrays = [self.vectors, self.truth, self.groups, self.counted]
        arrays += [] if words is None else [words.logits]
        arrays += [] if weight is None else [weight]
        return b"".join([json.dumps(head).encode(), b"\n", *(array.tobytes() for array in arrays)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Examples:
        """Return what ``to_bytes`` made bytes of."""
        line, _, rest = data.partition(b"\n")
        head = json.loads(line)
        (count, dim), width, at = head["shape"], len(head["labels"]), 0

        def next_array(kind: type[np.float32 | np.int32], *shape: int) -> npt.NDArray[np.float32 | np.int32]:
            nonlocal at
            size = int(np.prod(shape))
            at += 4 * size
            return np.frombuffer(rest, kind, size, at - 4 * size).reshape(shape)

        vectors, truth = next_array(np.float32, count, dim), next_array(np.float32, count, width)
        groups, counted = next_array(np.int32, count), next_array(np.float32, count)
        words = None
        if head["words"]:
            logits = next_array(np.float32, count, width)
            words = ZeroShot(logits, next_array(np.float32, width, dim) if head["weight"] else None)
        return cls(tuple(head["labels"]), head["output"], vectors, truth, groups, words, counted, head["seed"])
