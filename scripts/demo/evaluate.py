"""Measures the demo CLIP on new pictures: `python -m scripts.demo.evaluate [--model DIR] [--json]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.demo import other_hand
from scripts.demo.model import WEIGHTS, Demo
from scripts.demo.world import (
    ATOMS,
    ATTRIBUTES,
    HELD_OUT_FACES,
    HELD_OUT_TEMPLATES,
    SCENARIOS,
    TEMPLATES,
    Scene,
    draw,
    label,
    sample_scene,
    scenario_scene,
    truth,
)  # fmt: skip
from scripts.demo.world.sample import HELD_OUT_PAIRS

Figures = dict[str, float]
"""Each figure by its name, as a share 0..1."""

EVALUATION_SEED = 900_000
_PER_TEMPLATE = 40

PROMPTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "nudity": (("nudity", "a naked person"), ("no nudity", "a dressed person", "a safe picture")),
        "gore": (("gore", "blood", "a bloody wound"), ("no blood", "a safe picture")),
        "offensive": (("offensive content", "a rude sign", "an angry scrawl"), ("nothing offensive", "a safe picture")),
        "glasses": (("a face with glasses",), ("a face without glasses",)),
        "beard": (("a face with a beard",), ("a face without a beard",)),
        "hat": (("a face with a hat",), ("a face without a hat",)),
        "smile": (("a smiling face",), ("a frowning face",)),
    }
)
"""For each scenario and facial attribute, texts that ask for it and texts that stand against it."""

TARGETS: Mapping[str, float] = MappingProxyType(
    {
        "top-1 of 10 labels": 0.95,
        "top-1 of 40 labels": 0.88,
        **{f"AUC {name}": 0.97 for name in PROMPTS},
        "unseen combinations, top-1 of 10": 0.80,
        "unseen combinations, top-1 of 40": 0.55,
        "unseen templates, top-1 of 10": 0.80,
        "unseen templates, top-1 of 40": 0.55,
        **{f"other hand: {name}": 0.90 for name in other_hand.QUESTIONS},
    }
)
"""What each figure should at least be."""

LABELS: tuple[str, ...] = tuple(
    atom
    for atom in ATOMS
    if not atom.endswith((":clothes", ":ground"))
    and atom
    not in ("shape", "face", "figure", "splash", "sign", "unsmiling", "gore", "offence", "safe", "unsafe", "empty")
    and not atom.startswith("no ")
)
"""The atoms that serve as labels among 10 and among 40."""


def fresh_size(rng: np.random.Generator) -> tuple[int, int]:
    """Return a size as users' pictures have them, 160 to 640 pixels wide."""
    sizes = ((240, 240), (224, 224), (160, 160), (320, 240), (640, 480), (300, 400), (400, 400))
    return sizes[int(rng.integers(len(sizes)))]


def auc(present: NDArray[np.float64], absent: NDArray[np.float64]) -> float:
    """Return how often a score out of `present` lies above one out of `absent`, ties counting half."""
    wins = (present[:, None] > absent[None, :]).mean() + 0.5 * (present[:, None] == absent[None, :]).mean()
    return float(wins)


def _asked_atoms(scene: Scene, *, combination: bool) -> list[str]:
    """The labels that may be asked for: any true one, or those of a held-out combination only."""
    true = truth(scene).true & set(LABELS)
    if not combination:
        return sorted(true)
    return sorted(atom for atom in true if tuple(atom.split(":")) in HELD_OUT_PAIRS)


def mixed_labels(
    demo: Demo,
    count: int,
    labels: int,
    seed: int,
    *,
    templates: Sequence[str] = TEMPLATES,
    combination: bool = False,
    things: tuple[int, ...] = (0, 1, 2, 3),
) -> float:
    """Return the share of pictures whose true label wins against `labels` - 1 false ones, drawn by lot for each.

    Pictures are new for each seed, 160 to 640 pixels wide, and show as many things as `things` allows. With
    `combination` each shows a colour and a thing that training never joined, and the label names both.
    """
    rng = np.random.default_rng([EVALUATION_SEED, seed])
    right = 0
    for start in range(0, count, _PER_TEMPLATE):
        template = templates[(start // _PER_TEMPLATE) % len(templates)]
        vectors = dict(zip(LABELS, demo.texts([template.format(label(atom)) for atom in LABELS]), strict=True))
        scenes: list[Scene] = []
        while len(scenes) < min(_PER_TEMPLATE, count - start):
            scene = sample_scene(rng, "held_out" if combination else "train")
            if len(scene.items) in things and _asked_atoms(scene, combination=combination):
                scenes.append(scene)
        images = demo.images([draw(scene, fresh_size(rng), rng) for scene in scenes])
        for scene, image in zip(scenes, images, strict=True):
            options = _asked_atoms(scene, combination=combination)
            asked = options[int(rng.integers(len(options)))]
            possible = truth(scene).possible
            false = [atom for atom in LABELS if atom not in possible]
            against = [false[int(k)] for k in rng.choice(len(false), labels - 1, replace=False)]
            best = max(float(image @ vectors[atom]) for atom in against)
            right += float(image @ vectors[asked]) > best
    return right / count


def scenario_scores(demo: Demo, name: str, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
    """Return [n] scores 0..1: the probability of the texts that ask for `name` among all its PROMPTS."""
    asking, against = PROMPTS[name]
    return np.asarray(demo.probabilities(pictures, [*asking, *against])[:, : len(asking)].sum(axis=1))


def scenario_auc(demo: Demo, name: str, count: int, seed: int) -> float:
    """Return the AUC of a scenario or facial attribute over `count` new pictures with it and as many without."""
    scores = []
    for present in (True, False):
        rng = np.random.default_rng([EVALUATION_SEED, seed, int(present)])
        pictures = [draw(scenario_scene(name, rng, present=present), fresh_size(rng), rng) for _ in range(count)]
        scores.append(scenario_scores(demo, name, pictures))
    return auc(scores[0], scores[1])


def held_out_faces(demo: Demo, count: int, seed: int) -> float:
    """Return the share right of single questions (worn or not, smile or frown) on faces never trained on."""
    rng = np.random.default_rng([EVALUATION_SEED, seed])
    faces: list[Scene] = []
    while len(faces) < count:
        scene = sample_scene(rng, "held_out")
        if scene.items[0].traits in HELD_OUT_FACES:
            faces.append(scene)
    pictures = [draw(scene, fresh_size(rng), rng) for scene in faces]
    right = []
    for name in ATTRIBUTES:
        shown = np.array([name in scene.items[0].traits for scene in faces])
        right.append((scenario_scores(demo, name, pictures) > 0.5) == shown)
    return float(np.mean(right))


def by_another_hand(demo: Demo, name: str, count: int, seed: int) -> float:
    """Return the share right of one of `other_hand.QUESTIONS`."""
    asked = other_hand.ask(name, count, seed)
    images = demo.images([question.picture for question in asked])
    texts = sorted({text for question in asked for text in question.texts})
    vectors = dict(zip(texts, demo.texts(texts), strict=True))
    right = [
        int(np.argmax([image @ vectors[text] for text in question.texts])) == question.right
        for image, question in zip(images, asked, strict=True)
    ]
    return float(np.mean(right))


def measure(demo: Demo, count: int = 1000, seed: int = 0) -> Figures:
    """Return all figures, each on about `count` new pictures."""
    figures: Figures = {}
    for labels in (10, 40):
        figures[f"top-1 of {labels} labels"] = mixed_labels(demo, count, labels, seed + labels)
    for name in (*SCENARIOS, *ATTRIBUTES):
        figures[f"AUC {name}"] = scenario_auc(demo, name, count // 2, seed)
    for labels in (10, 40):
        figures[f"unseen combinations, top-1 of {labels}"] = mixed_labels(
            demo, count, labels, seed + 100 + labels, combination=True
        )
    for labels in (10, 40):
        figures[f"unseen templates, top-1 of {labels}"] = mixed_labels(
            demo, count, labels, seed + 200 + labels, templates=HELD_OUT_TEMPLATES
        )
    for wording, things in (("at most one thing", (0, 1)), ("two or three things", (2, 3))):
        for labels in (10, 40):
            figures[f"{wording}, top-1 of {labels}"] = mixed_labels(
                demo, count, labels, seed + 300 + labels, things=things
            )
    figures["unseen faces, single questions"] = held_out_faces(demo, count // 4, seed)
    for name in other_hand.QUESTIONS:
        figures[f"other hand: {name}"] = by_another_hand(demo, name, count // 2, seed)
    return figures


def table(figures: Figures) -> str:
    """Return the figures as lines of text, each beside what it should at least be."""
    width = max(len(name) for name in figures)
    lines = []
    for name, value in figures.items():
        target = TARGETS.get(name)
        verdict = "" if target is None else f"   (at least {target:.2f}: {'yes' if value >= target else 'NO'})"
        lines.append(f"{name:<{width}}  {value:.3f}{verdict}")
    return "\n".join(lines)


def main() -> None:
    """Load, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS, help="folder in Hugging Face format")
    parser.add_argument("--count", type=int, default=1000, help="pictures a figure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    figures = measure(Demo.load(options.model), options.count, options.seed)
    print(json.dumps(figures, indent=2) if options.json else table(figures))


if __name__ == "__main__":
    main()
