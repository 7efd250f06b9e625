"""Measures the shipped demo policy on new drawings: `python -m scripts.demo.measure_policy`.

The same words, views and rules as in the gateway, by the gateway's own code; only Triton is left out. A decision is
right if something offending is blocked or reviewed, and anything else allowed.

`--thresholds` prints what each category's scores are on other drawings than those that the figures are measured on:
that is where `block_at` in `gateway/moderation/scenarios/demo/policy-default.yaml` was read off. `review_at` is chosen
by `scripts/demo/thresholds.py`.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageSequence

from gateway.decoding.views import Place, ViewRule, cut_views
from gateway.inference.prompts import LabelRules
from gateway.inference.scoring import TextMatrix, mean_units
from gateway.moderation.binding import BoundClassifier, BoundPolicy, bind
from gateway.moderation.builtin_scenarios import shipped
from gateway.moderation.classifiers import Classifier
from gateway.moderation.policy import Decision
from gateway.moderation.verdicts import Verdict, verdict_of
from scripts.demo.evaluate import fresh_size
from scripts.demo.model import IMAGE_SIZE, WEIGHTS, Demo
from scripts.demo.world import ATTRIBUTES, SCENARIOS, Scene, draw, sample_scene, scenario_scene, truth
from scripts.export.prompts import DRAWINGS

MEASURING_SEED, THRESHOLDS_SEED = 1_700_000, 1_800_000
"""Of the drawings that figures are measured on, and of those that thresholds are read off."""

AIM = 0.95
"""Least share of right decisions on single drawings; the other figures are told and not demanded."""

OFFENDING = MappingProxyType({"bare": "nudity", "gore": "gore", "offence": "offensive"})
"""What is true of a picture → the category that must block it."""

SHOWN_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999)
_PANORAMA_HEIGHT, _PANORAMA_RATIO = 160, 3
_FRAMES, _LATE = 8, 6


@dataclass(frozen=True)
class Case:
    """A picture, its frames in order (one of a still), the categories that must block it, and how many things it shows.

    ``things`` counts those of the scene in question: nothing, one, or up to three.
    """

    frames: tuple[Image.Image, ...]
    categories: frozenset[str]
    things: int

    @property
    def expected(self) -> Decision:
        """What a moderator would decide."""
        return "block" if self.categories else "allow"


@dataclass(frozen=True)
class Seen:
    """A case as the model sees it: vectors [V, D] and where each was seen."""

    case: Case
    vectors: np.typing.NDArray[np.float32]
    places: tuple[Place, ...]


def categories(scene: Scene) -> frozenset[str]:
    """Return the categories that a scene offends."""
    true = truth(scene).true
    return frozenset(category for atom, category in OFFENDING.items() if atom in true)


def scenes(rng: np.random.Generator, count: int) -> Iterator[Scene]:
    """Yield scenes of all four scenarios in turn: half of nudity, gore and offensive show it, half come close.

    Those of facial attributes are faces and offend nobody.
    """
    for number in range(count):
        scenario = (*SCENARIOS, "facial_attributes")[number % 4]
        present = number // 4 % 2 == 0
        if scenario in SCENARIOS:
            yield scenario_scene(scenario, rng, present=present)
        else:
            yield scenario_scene(ATTRIBUTES[number // 8 % len(ATTRIBUTES)], rng, present=present)


def harmless(rng: np.random.Generator) -> Scene:
    """Return any scene that offends nobody."""
    while True:
        scene = sample_scene(rng)
        if not categories(scene):
            return scene


def stills(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Yield single pictures as users' are, 160 to 640 pixels wide."""
    for scene in scenes(rng, count):
        yield Case((draw(scene, fresh_size(rng), rng),), categories(scene), len(scene.items))


def edges(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Yield panoramas of 3:1 with all that they show at their left or right edge, out of a centre crop's sight."""
    high, wide = _PANORAMA_HEIGHT, _PANORAMA_HEIGHT * _PANORAMA_RATIO
    for scene in scenes(rng, count):
        drawn = draw(scene, (2 * wide - high, high), rng)
        left = 0 if rng.random() < 0.5 else wide - high
        yield Case((drawn.crop((left, 0, left + wide, high)),), categories(scene), len(scene.items))


def joined(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Yield panoramas of 3:1 joined from three drawings; what offends stands at one edge, beside two harmless ones."""
    side = _PANORAMA_HEIGHT
    for scene in scenes(rng, count):
        row = [scene, harmless(rng), harmless(rng)]
        if rng.random() < 0.5:
            row.reverse()
        picture = Image.new("RGB", (side * _PANORAMA_RATIO, side))
        for place, shown in enumerate(row):
            picture.paste(draw(shown, (side, side), rng), (place * side, 0))
        yield Case((picture,), categories(scene), len(scene.items))


def late(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Yield GIFs of eight frames that show three harmless drawings, and the scene in one of the last two only."""
    side = _PANORAMA_HEIGHT
    for scene in scenes(rng, count):
        calm = [draw(harmless(rng), (side, side), rng) for _ in range(3)]
        frames = [calm[number * len(calm) // _FRAMES] for number in range(_FRAMES)]
        frames[_LATE + int(rng.integers(_FRAMES - _LATE))] = draw(scene, (side, side), rng)
        packed = io.BytesIO()
        frames[0].save(packed, "GIF", save_all=True, append_images=frames[1:], duration=100)
        with Image.open(packed) as gif:
            yield Case(
                tuple(frame.convert("RGB") for frame in ImageSequence.Iterator(gif)),
                categories(scene),
                len(scene.items),
            )


KINDS = MappingProxyType({"drawings": stills, "at the edge of 3:1": edges, "joined 3:1": joined, "late in a GIF": late})


def looked_at(demo: Demo, cases: Sequence[Case], views: ViewRule) -> list[Seen]:
    """Return each case's views as the model sees them."""
    cut = [
        [
            (view, None if len(case.frames) == 1 else number * 100)
            for number, frame in enumerate(case.frames)
            for view in cut_views(frame, views, size_px=IMAGE_SIZE, resize_px=IMAGE_SIZE)
        ]
        for case in cases
    ]
    vectors = demo.images([Image.fromarray(view.pixels) for row in cut for view, _ in row])
    ends = np.cumsum([len(row) for row in cut])
    return [
        Seen(case, vectors[end - len(row) : end], tuple(Place(view.name, view.box, at) for view, at in row))
        for case, row, end in zip(cases, cut, ends, strict=True)
    ]


def bound(demo: Demo) -> BoundPolicy:
    """Return the shipped demo policy ``default``, with its text side computed by the model."""
    found = shipped("demo")
    names = {rule.classifier for rule in found.policies["default"].rules}
    classifiers = {name: bound_classifier(demo, name, found.classifiers[name]) for name in sorted(names)}
    return bind("default", 1, "demo", found.policies["default"], classifiers)


def bound_classifier(demo: Demo, name: str, body: Classifier) -> BoundClassifier:
    """Return a classifier with its text side computed by the model."""
    body = body.normal(DRAWINGS.templates, DRAWINGS.negatives)
    labels = body.label_set(LabelRules()).labels
    groups = list(dict.fromkeys(entry.negatives for entry in labels))
    sizes = [len(group) for group in groups]
    matrix = TextMatrix(
        mode=body.mode,
        labels=tuple(entry.label for entry in labels),
        vectors=mean_units(
            np.concatenate([demo.texts(entry.prompts) for entry in labels]), [len(entry.prompts) for entry in labels]
        ),
        negatives=demo.texts([text for group in groups for text in group]) if sum(sizes) else np.zeros((0, 0), "f4"),
        group_starts=np.cumsum([0, *sizes[:-1]]).astype(np.intp),
        group_of=np.array([groups.index(entry.negatives) for entry in labels], np.intp),
    )
    return BoundClassifier(
        f"{name}@1", name, 1, body.description, matrix, tuple(entry.calibration for entry in body.labels)
    )


def seen_of(demo: Demo, kind: str, count: int, seed: int, views: ViewRule) -> list[Seen]:
    """Return `count` cases of one of KINDS, the same for the same seed."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    return looked_at(demo, list(KINDS[kind](rng, count)), views)


def judged(policy: BoundPolicy, seen: Sequence[Seen], logit_scale: float) -> list[Verdict]:
    """Return the policy's verdict on each case."""
    return [verdict_of(policy, entry.vectors, entry.places, logit_scale) for entry in seen]


def accuracy(demo: Demo, policy: BoundPolicy, count: int) -> dict[str, dict[str, float]]:
    """Return for each of KINDS the share of right decisions, of all and of some cases."""
    figures: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        seen = seen_of(demo, kind, count, MEASURING_SEED, policy.views)
        right = np.array(
            [
                (verdict.decision == "allow") == (entry.case.expected == "allow")
                for verdict, entry in zip(judged(policy, seen, demo.scale), seen, strict=True)
            ]
        )
        blocked = np.array([entry.case.expected == "block" for entry in seen])
        several = np.array([entry.case.things > 1 for entry in seen])
        figures[kind] = {
            "decisions": float(right.mean()),
            "offending": float(right[blocked].mean()),
            "harmless": float(right[~blocked].mean()),
            "at most one thing": float(right[~several].mean()),
            "several things": float(right[several].mean()),
        }
    return figures


def scores(demo: Demo, policy: BoundPolicy, count: int) -> dict[str, dict[str, list[float]]]:
    """Return for each category the scores of cases that it must block, and of cases that it must not, all KINDS."""
    found: dict[str, dict[str, list[float]]] = {category: {"block": [], "allow": []} for category in OFFENDING.values()}
    for kind in KINDS:
        seen = seen_of(demo, kind, count, THRESHOLDS_SEED, policy.views)
        for verdict, entry in zip(judged(policy, seen, demo.scale), seen, strict=True):
            for category in verdict.categories:
                if category.category in entry.case.categories:
                    found[category.category]["block"].append(category.score)
                elif not entry.case.categories:
                    found[category.category]["allow"].append(category.score)
    return found


def threshold_table(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return, for each category and threshold, the share of offending cases at or above it and of harmless below."""
    lines = []
    for category, by_side in found.items():
        block, allow = (np.array(by_side[side]) for side in ("block", "allow"))
        lines.append(f"{category}: {len(block)} offending, {len(allow)} harmless")
        for threshold in SHOWN_THRESHOLDS:
            kept, passed = float((block >= threshold).mean()), float((allow < threshold).mean())
            lines.append(f"  at {threshold:.3f}: blocks {kept:6.1%} of offending, allows {passed:6.1%} of harmless")
    return "\n".join(lines)


def main() -> None:
    """Load, measure, print; exit status 1 if a figure is under the aim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS, help="folder in Hugging Face format")
    parser.add_argument("--count", type=int, default=400, help="pictures of each kind")
    parser.add_argument(
        "--thresholds", action="store_true", help="print scores by threshold instead, on other drawings"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    demo = Demo.load(options.model)
    policy = bound(demo)
    if options.thresholds:
        print(threshold_table(scores(demo, policy, options.count)))
        return
    figures = accuracy(demo, policy, options.count)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for kind, row in figures.items():
            print(f"{kind:<20}" + "   ".join(f"{name} {value:6.1%}" for name, value in row.items()))
    if figures["drawings"]["decisions"] < AIM:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
