"""Drawings by a hand as the table that an evaluation reads, judged by the gateway's own code without a gateway."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import MappingProxyType

import numpy as np

from gateway.decoding.views import Place
from gateway.evaluation.judged import ClassifierViews, JudgedImage, JudgedSet, LabelledImage, Part, Run, part_of
from gateway.inference.scoring import score
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.builtin_scenarios import shipped
from gateway.moderation.classifiers import Classifier
from gateway.moderation.verdicts import verdict_of
from scripts.demo.hands import HANDS, HARMLESS, OFFENDING
from scripts.demo.measure_policy import Case, looked_at
from scripts.demo.model import Demo

COUNTS: Mapping[Part, tuple[int, int]] = MappingProxyType(
    {"train": (200, 200), "calibration": (100, 400), "test": (150, 600)}
)
"""Drawings of a hand in each part: of each category, and harmless ones, an equal number of each of HARMLESS."""

MODEL = MappingProxyType({"id": "demo", "embedding_dim": 128, "bundle_id": "demo"})
_BATCH = 128
_WHOLE = (0, 0, 1, 1)


def labelled(hand: str, counts: Mapping[Part, tuple[int, int]], seed: int) -> Iterator[LabelledImage]:
    """Yield what is to be drawn, in turn of everything that a hand draws; the name is the lot, and chooses the part."""
    for part, (offending, harmless) in counts.items():
        named = {what: names(f"{hand} {what} {seed}", part) for what in (*OFFENDING, *HARMLESS)}
        for number in range(max(offending, harmless)):
            for what in OFFENDING if number < offending else ():
                name = next(named[what])
                yield LabelledImage(name, frozenset({OFFENDING[what]}), {"what": what}, group=name)
            if number < harmless:
                what = HARMLESS[number % len(HARMLESS)]
                name = next(named[what])
                yield LabelledImage(name, frozenset(), {"what": what}, group=name)


def names(start: str, part: Part) -> Iterator[str]:
    """Yield names that belong to a part."""
    return (name for number in count() if part_of(name := f"{start}.{number}") == part)


def vectors_of(demo: Demo, hand: str, images: Sequence[LabelledImage], policy: BoundPolicy) -> list[np.ndarray]:
    """Return the vectors [V, D] of each image's views, which are drawn, looked at and forgotten."""
    made = []
    for start in range(0, len(images), _BATCH):
        cases = [
            Case((HANDS[hand][image.slices["what"]](random.Random(image.source)),), frozenset(), 1)  # noqa: S311 - lots
            for image in images[start : start + _BATCH]
        ]
        made += [seen.vectors for seen in looked_at(demo, cases, policy.views)]
    return made


def judged_drawings(
    demo: Demo,
    policy: BoundPolicy,
    hand: str,
    counts: Mapping[Part, tuple[int, int]] = COUNTS,
    seed: int = 0,
    cache: Path | None = None,
) -> JudgedSet:
    """Return drawings by one of HANDS, judged by a policy.

    Args:
        demo: the model.
        policy: bound to the model.
        hand: who draws.
        counts: drawings of each part.
        seed: the same seed and counts give the same drawings.
        cache: folder where their vectors are kept; None: nowhere.
    """
    images = list(labelled(hand, counts, seed))
    shape = "-".join(f"{offending}+{harmless}" for offending, harmless in counts.values())
    path = cache and cache / f"{hand}-{seed}-{shape}.npz"
    if path and path.exists():
        with np.load(path) as kept:
            vectors = np.split(kept["vectors"], kept["ends"][:-1])
    else:
        vectors = vectors_of(demo, hand, images, policy)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, vectors=np.concatenate(vectors), ends=np.cumsum([len(rows) for rows in vectors]))
    bare = JudgedSet(
        Run(MODEL, None, None, None, {}, ""),
        tuple(JudgedImage(image, vectors=rows) for image, rows in zip(images, vectors, strict=True)),
    )
    return rejudged(bare, policy, demo.scale, shipped("demo").classifiers)


def rejudged(judged: JudgedSet, policy: BoundPolicy, logit_scale: float, bodies: Mapping[str, Classifier]) -> JudgedSet:
    """Return the same drawings judged by another policy, from their vectors.

    Args:
        judged: with vectors.
        policy: bound to the model.
        logit_scale: of the model.
        bodies: of the policy's classifiers, by name.

    Raises:
        ValueError: a drawing has no vectors.
    """
    found = shipped("demo").policies["default"]
    run = Run(
        model=MODEL,
        policy={"name": policy.name, "version": policy.version, "classifiers": dict(policy.pins)},
        classifier=None,
        policy_body=found.model_copy(update={"rules": [bound.rule for bound in policy.rules]}).model_dump(mode="json"),
        classifiers={
            key: bodies[bound.name].model_dump(mode="json", exclude_none=True)
            for key, bound in policy.classifiers.items()
        },
        at="1970-01-01T00:00:00Z",  # not kept: the same drawings give the same table
    )
    place = Place(
        "full" if policy.views == "tiles" else policy.views, _WHOLE, None
    )  # where it was seen decides nothing
    images = []
    for image in judged.images:
        if image.vectors is None:
            raise ValueError(f"{image.image.source} has no vectors")
        verdict = verdict_of(policy, image.vectors, [place] * len(image.vectors), logit_scale)
        views = {
            key: ClassifierViews(bound.matrix.labels, score(image.vectors, bound.matrix, logit_scale).probabilities)
            for key, bound in policy.classifiers.items()
        }
        scores = {found.category: found.score for found in verdict.categories}
        images.append(replace(image, decision=verdict.decision, scores=scores, views=views))
    return JudgedSet(run, tuple(images))
