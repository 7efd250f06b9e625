"""The study's fourth scenario: what a drawn face wears and shows, by words and by heads. It only informs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import log_loss

from gateway.evaluation.heads import fit_heads
from gateway.evaluation.intervals import Interval, area_intervals
from gateway.evaluation.judged import JudgedImage, JudgedSet, LabelledImage, Run
from gateway.inference.scoring import score
from gateway.moderation.builtin_scenarios import shipped
from gateway.moderation.classifiers import Classifier
from scripts.demo.hands import WORN, faces
from scripts.demo.judged_drawings import MODEL, names
from scripts.demo.measure_policy import Case, bound_classifier, looked_at
from scripts.demo.model import Demo
from scripts.demo.study_steps import SHOTS, bare

CLASSIFIER = "facial_attributes"
LEARN, TEST = 2 * max(SHOTS), 400
"""Faces by a hand; half of them wear each of WORN, so that 40 faces are 20 with it and 20 without."""


@dataclass(frozen=True, slots=True)
class FaceStep:
    """A step's scores of faces, and how many were labelled for it."""

    name: str
    labelled: int
    judged: JudgedSet


def faces_table(demo: Demo, hands: Sequence[str], seed: int, learn: int = LEARN, test: int = TEST) -> str:
    """Return the area under the ROC curve of each of WORN by hand and step, as a Markdown table."""
    lines = ["| hand | step | labelled | mean AUC | " + " | ".join(WORN) + " | log loss |", "|---" * 9 + "|"]
    for hand in hands:
        for step in face_steps(demo, hand, seed, learn, test):
            kept = step.judged.of("test")
            areas = [area_intervals(kept.scores(name), kept.truth(name), kept.groups())[0] for name in WORN]
            losses = [log_loss(kept.truth(name), kept.scores(name)) for name in WORN]
            mean = np.mean([found.value for found in areas if found.value is not None])
            cells = [hand, step.name, str(step.labelled), f"**{mean:.3f}**", *map(_said, areas)]
            lines.append("| " + " | ".join([*cells, f"{np.mean(losses):.3f}"]) + " |")
    return "\n".join(lines)


def face_steps(demo: Demo, hand: str, seed: int, learn: int, test: int) -> Iterator[FaceStep]:
    """Yield words and heads on faces by one of FACES: `learn` of part train, `test` of part test."""
    drawn = faces(hand, learn + test, seed)
    lots = [names(f"{hand} face {seed}", part) for part in ("train", "test")]
    seen = looked_at(demo, [Case((face,), frozenset(), 1) for face, _ in drawn], "center")
    images = []
    for number, ((_, worn), found) in enumerate(zip(drawn, seen, strict=True)):
        name = next(lots[number >= learn])
        images.append(JudgedImage(LabelledImage(name, worn, group=name), vectors=found.vectors))
    body = shipped("demo").classifiers[CLASSIFIER]
    yield FaceStep("one prompt a label", 0, by_words(demo, images, bare(body)))
    words = by_words(demo, images, body)
    yield FaceStep("shipped prompts", 0, words)
    for shots in (2 * shots for shots in SHOTS if 2 * shots <= learn):
        made = fit_heads(replace(words, images=words.images[:shots] + words.images[learn:]))
        missing = [found.category for found in made.findings if found.trained.head is None]
        unless = f"; not offered: {', '.join(missing)}" if missing else ""
        yield FaceStep(f"heads, {shots // 2} of the same hand{unless}", shots, made.judged)


def by_words(demo: Demo, images: Sequence[JudgedImage], body: Classifier) -> JudgedSet:
    """Return images of one view with the scores of a classifier's labels."""
    bound = bound_classifier(demo, CLASSIFIER, body)
    columns = {name: bound.matrix.labels.index(name) for name in WORN}
    made = []
    for image in images:
        if image.vectors is None:
            raise ValueError(f"{image.image.source} has no vectors")
        (row,) = score(image.vectors, bound.matrix, demo.scale).probabilities
        made.append(replace(image, scores={name: float(row[column]) for name, column in columns.items()}))
    return JudgedSet(Run(MODEL, None, f"{CLASSIFIER}@1", None, {}, ""), tuple(made))


def _said(found: Interval) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
