"""A worked study: what each step brings on drawings by several hands: `python -m scripts.demo.study`.

By the gateway's own code and the demo model; only Triton and HTTP are left out. Two of the hands, ``paper`` and
``chalk``, were used nowhere else (scripts/demo/hands.py).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scripts.demo.hands import FACES
from scripts.demo.judged_drawings import COUNTS, judged_drawings
from scripts.demo.measure_policy import bound
from scripts.demo.model import WEIGHTS, Demo
from scripts.demo.study_faces import faces_table
from scripts.demo.study_figures import figures_of, picture, table
from scripts.demo.study_steps import steps

STUDIED = ("ink", "paper", "chalk")
PICTURE = Path("docs/images/study.png")


def main() -> None:
    """Draw, judge, learn, print the tables; write the picture and the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS, help="folder in Hugging Face format")
    parser.add_argument("--hands", nargs="+", default=STUDIED, help="at least two: heads learn from the others, too")
    parser.add_argument("--share", type=float, default=1.0, help="of the drawings; less is quicker and less sure")
    parser.add_argument("--seed", type=int, default=0, help="of the drawings")
    parser.add_argument("--cache", type=Path, default=Path("reports/study"), help="folder for vectors and figures")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    demo = Demo.load(options.model)
    policy = bound(demo)
    counts = {part: (round(a * options.share), round(b * options.share)) for part, (a, b) in COUNTS.items()}
    drawn = {hand: judged_drawings(demo, policy, hand, counts, options.seed, options.cache) for hand in options.hands}
    found = {hand: [figures_of(step) for step in steps(demo, drawn, hand)] for hand in drawn}
    print(table(found))
    print()
    print(faces_table(demo, [hand for hand in drawn if hand in FACES], options.seed))
    picture(found, options.picture)
    path = options.cache / "study.json"
    path.write_text(json.dumps({hand: [row.json for row in rows] for hand, rows in found.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
