"""Draws a labelled folder: `python -m scripts.demo.labelled FOLDER [--count 600] [--seed 0]`.

A folder for each class, as `clip-gateway evaluate` reads it, with a folder in it for each hand that draws: the drawn
world's and those of `scripts/demo/hands.py`. Nothing here was trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.demo.hands import HANDS, HARMLESS, OFFENDING, drawings
from scripts.demo.measure_policy import stills

SEED = 2_600_000
WORLD, NOTHING = "world", "harmless"


def labelled(count: int, seed: int) -> Iterator[tuple[str, str, Image.Image]]:
    """Yield about `count` drawings, each with its class (`gore+nudity`: both) and its hand, the same for a seed."""
    each = max(1, count // (len(HANDS) + 1))
    for case in stills(np.random.default_rng([SEED, seed]), each):
        yield "+".join(sorted(case.categories)) or NOTHING, WORLD, case.frames[0]
    subjects = {**OFFENDING, **dict.fromkeys(HARMLESS, NOTHING)}
    for hand in HANDS:
        for number, (what, category) in enumerate(subjects.items()):
            share = each * (number + 1) // len(subjects) - each * number // len(subjects)
            for image in drawings(hand, what, share, SEED + seed):
                yield category, hand, image


def write(folder: Path, count: int, seed: int) -> int:
    """Write the drawings as FOLDER/CLASS/HAND/NUMBER.png; return how many."""
    number = 0
    for number, (category, hand, image) in enumerate(labelled(count, seed), start=1):
        path = folder / category / hand / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return number


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo.labelled", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=600, help="drawings (default 600)")
    parser.add_argument("--seed", type=int, default=0, help="another draws others")
    given = parser.parse_args()
    print(f"{write(given.folder, given.count, given.seed)} drawings in {given.folder}")


if __name__ == "__main__":
    main()
