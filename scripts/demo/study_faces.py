"""The study's fourth scenario: what a drawn face wears and shows, by words and by heads. It only informs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss

from gateway.evaluation.intervals import Interval, area_intervals
from gateway.inference.scoring import Floats, score
from gateway.moderation.binding import BoundClassifier
from gateway.moderation.builtin_scenarios import shipped
from gateway.training.examples import Examples, ZeroShot
from gateway.training.held_out import train
from scripts.demo.hands import WORN, faces
from scripts.demo.measure_policy import Case, bound_classifier, looked_at
from scripts.demo.model import Demo
from scripts.demo.study_steps import SHOTS, bare

LEARN, TEST = 2 * max(SHOTS), 400
"""Faces by a hand: each of WORN is on half of them."""

Truth = npt.NDArray[np.bool_]


def faces_table(demo: Demo, hands: Sequence[str], seed: int) -> str:
    """Return figures of WORN, in the mean, as a Markdown table."""
    lines = ["| hand | step | labelled | AUC, mean | " + " | ".join(WORN) + " | log loss |", "|---" * 9 + "|"]
    for hand in hands:
        drawn = faces(hand, LEARN + TEST, seed)
        vectors = np.concatenate(
            [seen.vectors for seen in looked_at(demo, [Case((face,), frozenset(), 1) for face, _ in drawn], "center")]
        )
        truth = np.array([[name in worn for name in WORN] for _, worn in drawn])
        for name, labelled, scores in _steps(demo, vectors, truth):
            areas = [
                area_intervals(scores[:, k], truth[LEARN:, k], list(map(str, range(TEST))))[0] for k in range(len(WORN))
            ]
            losses = [log_loss(truth[LEARN:, k], np.clip(scores[:, k], 1e-7, 1 - 1e-7)) for k in range(len(WORN))]
            mean = np.mean([found.value for found in areas])
            cells = [hand, name, str(labelled), f"**{mean:.3f}**", *map(_said, areas), f"{np.mean(losses):.3f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _steps(demo: Demo, vectors: Floats, truth: Truth) -> list[tuple[str, int, npt.NDArray[np.float64]]]:
    """Return name, labelled faces and scores [TEST, labels] of each step."""
    body = shipped("demo").classifiers["facial_attributes"]
    made = []
    for name, prompts in (("one prompt a label", bare(body)), ("shipped prompts", body)):
        words = _scores(demo, vectors, bound_classifier(demo, "facial_attributes", prompts))
        made.append((name, 0, words[LEARN:]))
    logits = np.log(np.clip(words, 1e-7, 1)) - np.log(np.clip(1 - words, 1e-7, 1))
    for shots in SHOTS:
        count = 2 * shots
        examples = Examples(
            labels=WORN,
            output="sigmoid",
            vectors=vectors[:count],
            truth=truth[:count].astype(np.float32),
            groups=np.arange(count, dtype=np.int32),
            zero_shot=ZeroShot(logits[:count].astype(np.float32), None),
            counted=np.ones(count, np.float32),
        )
        head = train(examples, 0.95).head
        offered = "" if head is not None else ", not offered"
        layer = None if head is None else head.layers[0]
        scores = words[LEARN:] if layer is None else 1 / (1 + np.exp(-(vectors[LEARN:] @ layer.weight.T + layer.bias)))
        made.append((f"head, {shots} of the same hand{offered}", count, scores))
    return made


def _scores(demo: Demo, vectors: Floats, classifier: BoundClassifier) -> npt.NDArray[np.float64]:
    columns = [classifier.matrix.labels.index(name) for name in WORN]
    return score(vectors, classifier.matrix, demo.scale).probabilities[:, columns].astype(float)


def _said(found: Interval) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
