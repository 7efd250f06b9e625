"""Measures how well heat maps point, on new drawings of two or three things: `python -m scripts.demo.measure_heatmap`.

Of each drawing the box of the one thing that offends is known. Told are the intersection of the map's box with it over
their union, and the share of maps whose hottest patch has its middle in it; beside the middle of the drawing and the
whole drawing, which need no map. By the gateway's own code; only Triton is left out.

`--choose` prints these for several grids and values of `HOT`, on other drawings: that is where `HEATMAP_GRID` and
`HOT` in `gateway/decoding/occlusion.py` were read off.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image

from gateway.decoding.occlusion import HeatMap, covered, heat_map, hottest_box
from gateway.decoding.views import Place, cut_views
from gateway.moderation.binding import BoundPolicy
from gateway.moderation.explanation import category_scores
from gateway.moderation.verdicts import verdict_of
from scripts.demo.measure_policy import bound, categories
from scripts.demo.model import IMAGE_SIZE, Demo
from scripts.demo.world import SCENARIOS, Scene, scenario_scene
from scripts.demo.world.draw import Box, drawing

MEASURING_SEED, CHOOSING_SEED = 1_920_000, 1_910_000
GRID = 6
SIZE = (240, 240)
GRIDS, SHARES = (4, 5, 6, 7, 8, 9, 12), (0.2, 0.25, 0.3, 0.35, 0.4, 0.5)


@dataclass(frozen=True)
class Pointed:
    """A drawing, the category that its one offending thing falls under, and the box of that thing."""

    image: Image.Image
    category: str
    box: Box


@dataclass(frozen=True)
class Figures:
    """Means over drawings, 0 to 1.

    overlap: intersection over union of the map's box and the thing's. pointing: share of maps whose hottest patch has
    its middle in the thing's box. middle, whole: likewise of the middle of the drawing, and of the whole drawing.
    """

    drawings: int
    overlap: float
    pointing: float
    middle: float
    whole: float


def pictures(rng: np.random.Generator, count: int) -> Iterator[Pointed]:
    """Yield drawings of nudity, gore and offence in turn, of two or three things of which one offends."""
    made = 0
    while made < count:
        category = SCENARIOS[made % len(SCENARIOS)]
        scene = scenario_scene(category, rng, present=True)
        offending = [
            place for place, item in enumerate(scene.items) if categories(Scene((item,), "plain", "white")) & {category}
        ]
        if len(scene.items) > 1 and len(offending) == 1 and categories(scene) == {category}:
            drawn = drawing(scene, SIZE, rng)
            yield Pointed(drawn.image, category, drawn.boxes[offending[0]])
            made += 1


def explained(demo: Demo, policy: BoundPolicy, case: Pointed, grid: int) -> HeatMap | None:
    """Return the heat map of a drawing's category, in the view that says most of it."""
    views = cut_views(case.image, policy.views, size_px=IMAGE_SIZE, resize_px=IMAGE_SIZE)
    places = [Place(view.name, view.box, None) for view in views]
    vectors = demo.images([Image.fromarray(view.pixels) for view in views])
    verdict = verdict_of(policy, vectors, places, demo.scale)
    found = next(entry for entry in verdict.categories if entry.category == case.category)
    row = places.index(found.evidence[0].place)
    rows = covered(views[row].pixels, grid, 0, grid * grid)
    scores = partial(category_scores, policy, case.category, places[row], demo.scale)
    drops = scores(demo.images([Image.fromarray(pixels) for pixels in rows]))
    return heat_map(case.category, places[row], found.score, drops)


def figures(cases: Sequence[Pointed], maps: Sequence[HeatMap | None]) -> Figures:
    """Return how well maps point; where there is none, the whole drawing and its middle stand for it."""
    everything = (0, 0, *SIZE)
    boxes = [everything if heat is None else heat.box for heat in maps]
    points = [middle(everything) if heat is None else hottest(heat) for heat in maps]
    return Figures(
        len(cases),
        float(np.mean([overlap(box, case.box) for box, case in zip(boxes, cases, strict=True)])),
        float(np.mean([within(point, case.box) for point, case in zip(points, cases, strict=True)])),
        float(np.mean([within(middle(everything), case.box) for case in cases])),
        float(np.mean([overlap(everything, case.box) for case in cases])),
    )


def hottest(heat: HeatMap) -> tuple[float, float]:
    """Return the middle of the patch whose covering costs most, in pixels of the image."""
    down, right = np.unravel_index(int(heat.drops.argmax()), heat.drops.shape)
    left, top, end, bottom = heat.place.box
    grid = len(heat.drops)
    return (left + (right + 0.5) / grid * (end - left), top + (down + 0.5) / grid * (bottom - top))


def middle(box: Box) -> tuple[float, float]:
    """Return the middle of a box."""
    return ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)


def within(point: tuple[float, float], box: Box) -> bool:
    """Return whether a point lies in a box."""
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]


def overlap(first: Box, second: Box) -> float:
    """Return the intersection of two boxes over their union."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0, wide) * max(0, high)
    sizes = [(right - left) * (bottom - top) for left, top, right, bottom in (first, second)]
    return shared / (sum(sizes) - shared)


def measured(demo: Demo, seed: int, count: int, grid: int = GRID) -> Figures:
    """Return the figures of `count` drawings, the same for the same seed."""
    policy = bound(demo)
    cases = list(pictures(np.random.default_rng(seed), count))
    return figures(cases, [explained(demo, policy, case, grid) for case in cases])


def main() -> None:
    """Load, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="drawings")
    parser.add_argument("--grid", type=int, default=GRID, help="patches along each side")
    parser.add_argument("--choose", action="store_true", help="try several grids and shares, on other drawings")
    options = parser.parse_args()
    demo = Demo.load()
    if not options.choose:
        print(json.dumps(measured(demo, MEASURING_SEED, options.count, options.grid).__dict__, indent=2))
        return
    policy, cases = bound(demo), list(pictures(np.random.default_rng(CHOOSING_SEED), options.count))
    for grid in GRIDS:
        maps = [explained(demo, policy, case, grid) for case in cases]
        for hot in SHARES:
            boxed = [heat and replace(heat, box=hottest_box(heat.drops, heat.place, hot)) for heat in maps]
            found = figures(cases, boxed)
            print(f"grid {grid:2}  hot {hot:.2f}  overlap {found.overlap:.3f}  pointing {found.pointing:.3f}")


if __name__ == "__main__":
    main()
