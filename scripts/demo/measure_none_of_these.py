"""Which measure tells best that no label of a closed set fits: `python -m scripts.demo.measure_none_of_these`.

Single things on plain ground, by the drawn world; sets of 3, 5 and 8 of their names are drawn by lot, and the other
things are foreign to them. Printed is the table of docs/labels.md: the area under the ROC curve, and the share of
foreign drawings that a measure recognises where LOST of the set's own are lost.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from gateway.inference.activations import softmax
from gateway.inference.scoring import mean_units
from scripts.demo.model import WEIGHTS, Demo
from scripts.demo.world import Scene, draw
from scripts.demo.world.objects import OBJECTS
from scripts.demo.world.palette import COLOURS
from scripts.demo.world.scene import Item
from scripts.export.prompts import DRAWINGS

SEED, LOST, SETS, SIZES = 5, 0.05, 30, (3, 5, 8)
_SIDE, _BATCH = 200, 50

Doubles = npt.NDArray[np.float64]


def similarities(demo: Demo, count: int, rng: np.random.Generator) -> tuple[Doubles, npt.NDArray[np.intp]]:
    """Return similarities [n, things] of `count` drawings of each thing with all names, and what each drawing shows."""
    names, colours = list(OBJECTS), list(COLOURS)
    pictures = []
    for name in names:
        for _ in range(count):
            colour = colours[int(rng.integers(len(colours)))]
            ground = "black" if colour == "white" else "white"
            pictures.append(draw(Scene((Item("object", name, colour),), "plain", ground), (_SIDE, _SIDE), rng))
    vectors = [demo.images(pictures[start : start + _BATCH]) for start in range(0, len(pictures), _BATCH)]
    prompts = [[template.replace("{}", name) for template in DRAWINGS.templates] for name in names]
    texts = mean_units(np.concatenate([demo.texts(row) for row in prompts]), [len(row) for row in prompts])
    return np.asarray(np.concatenate(vectors) @ texts.T, np.float64), np.repeat(np.arange(len(names)), count)


def measures(near: Doubles, scale: float) -> Mapping[str, Doubles]:
    """Return by measure [n]: higher where a label fits; of similarities [n, labels]."""
    shares = softmax(near * scale)
    ordered = np.sort(shares, axis=1)
    return {
        "highest similarity": near.max(axis=1),
        "energy (logsumexp of logits)": np.log(np.exp((near - 1) * scale).sum(axis=1)),
        "highest probability": shares.max(axis=1),
        "highest probability at temperature 10": softmax(near * scale / 10).max(axis=1),
        "margin of the first two probabilities": ordered[:, -1] - ordered[:, -2],
        "entropy": (shares * np.log(shares + 1e-30)).sum(axis=1),
    }


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS, help="folder in Hugging Face format")
    parser.add_argument("--count", type=int, default=40, help="drawings of each thing")
    options = parser.parse_args()
    demo, rng = Demo.load(options.model), np.random.default_rng(SEED)
    near, things = similarities(demo, options.count, rng)
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for size in SIZES:
        for _ in range(SETS):
            chosen = rng.choice(near.shape[1], size, replace=False)
            own = np.isin(things, chosen)
            for name, values in measures(near[:, chosen], demo.scale).items():
                recognised = float((values[~own] < np.quantile(values[own], LOST)).mean())
                row = float(roc_auc_score(own, values)), recognised
                found.setdefault(name, {}).setdefault(size, []).append(row)
    print("| measure |" + "".join(f" {size} labels |" for size in SIZES) + "\n|---|" + "---|" * len(SIZES))
    for name, by_size in found.items():
        cells = [f"{area:.3f}; {share:.0%}" for area, share in (np.mean(rows, axis=0) for rows in by_size.values())]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
