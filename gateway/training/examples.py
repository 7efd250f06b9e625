"""What a head is trained on: vectors, which labels are true of each, and what words alone say of them.

N examples, D dimensions, L labels.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.inference.heads import Output
from gateway.inference.scoring import TextMatrix

LEAST_EXAMPLES, LEAST_GROUPS = 10, 5
"""That each label is true of, and likewise not true of: of a softmax the latter follows. Each fold holds a group."""

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

    @classmethod
    def of(cls, vectors: Array, text: TextMatrix, logit_scale: float) -> ZeroShot:
        """Return what the text vectors say of examples [N, D].

        Independent labels are weighed against their negatives by a logsumexp, which is no linear function; ``weight``
        is its gradient, averaged over the examples.
        """
        scale = np.array(logit_scale, np.float32)
        logits = np.asarray(scale * vectors @ text.vectors.T, np.float32)
        if text.mode == "softmax":
            return cls(logits, np.asarray(scale * text.vectors, np.float32))
        against = scale * vectors @ text.negatives.T  # [N, M]
        starts, counts = text.group_starts, np.diff([*text.group_starts, len(text.negatives)])
        by_group = np.logaddexp.reduceat(against, starts, axis=1)  # [N, G]
        shares = np.exp(against - np.repeat(by_group, counts, axis=1)).mean(axis=0)[:, np.newaxis]
        middles = np.add.reduceat(shares * text.negatives, starts, axis=0)  # [G, D]
        weight = scale * (text.vectors - middles[text.group_of])
        return cls((logits - by_group[:, text.group_of]).astype(np.float32), weight.astype(np.float32))


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

    def at(self, rows: npt.NDArray[np.intp]) -> Examples:
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
        """Return the whole as bytes of an npz file."""
        words = self.zero_shot
        optional = {} if words is None else {"logits": words.logits}
        optional |= {} if words is None or words.weight is None else {"weight": words.weight}
        out = io.BytesIO()
        facts = np.array(json.dumps([self.labels, self.output, self.seed]))
        arrays = {"vectors": self.vectors, "truth": self.truth, "groups": self.groups, "counted": self.counted}
        np.savez(out, allow_pickle=False, facts=facts, **arrays, **optional)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Examples:
        """Return what ``to_bytes`` made bytes of."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            labels, output, seed = json.loads(file["facts"].item())
            words = ZeroShot(file["logits"], file.get("weight")) if "logits" in file else None
            vectors, truth, groups = file["vectors"], file["truth"], file["groups"]
            return cls(tuple(labels), output, vectors, truth, groups, words, file["counted"], seed)
