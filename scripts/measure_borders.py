"""How many bars around drawings are found, how many drawings are cropped by mistake, and what it does to scores.

`python -m scripts.measure_borders` draws 1,000 pictures of the demo model's world, half of which offend, and puts bars
of each kind around each. Random numbers are seeded, so that a run can be repeated.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter

from gateway.decoding.borders import content_box
from gateway.decoding.views import Place, View, cut_views
from gateway.moderation.policy import Decision
from gateway.moderation.verdicts import verdict_of
from scripts.demo.measure_policy import Case, bound, stills
from scripts.demo.model import IMAGE_SIZE, Demo

SEED = 1_900_000
Box = tuple[int, int, int, int]


def with_bars(picture: Image.Image, kind: str, rng: np.random.Generator) -> tuple[Image.Image, Box]:
    """Return a picture with bars around it, and the box of the picture in it.

    Args:
        picture: RGB.
        kind: ``black``, ``white``, ``coloured`` or ``blurred`` bars above and below or left and right, each 8 % to 35 %
            of the whole, or a ``frame`` of one colour.
        rng: of the widths and colours.
    """
    width, height = picture.size
    share = float(rng.uniform(0.08, 0.35))
    across = bool(rng.random() < 0.5)  # bars left and right
    right = round(width * share / (1 - 2 * share)) if across or kind == "frame" else 0
    down = round(height * share / (1 - 2 * share)) if not across or kind == "frame" else 0
    size = (width + 2 * right, height + 2 * down)
    colours = {"black": (0, 0, 0), "white": (255, 255, 255)}
    if kind == "blurred":
        large = max(size[0] / width, size[1] / height)
        copy = picture.resize((round(width * large), round(height * large)))
        left, top = (copy.width - size[0]) // 2, (copy.height - size[1]) // 2
        whole = copy.crop((left, top, left + size[0], top + size[1]))
        whole = whole.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.03, 0.08)) * max(size)))
    else:
        whole = Image.new("RGB", size, colours.get(kind) or tuple(int(level) for level in rng.integers(0, 256, 3)))
    whole.paste(picture, (right, down))
    return whole, (right, down, right + width, down + height)


KINDS = ("black", "white", "coloured", "frame", "blurred")


def through_jpeg(picture: Image.Image) -> Image.Image:
    """Return what a JPEG of quality 85 makes of a picture."""
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=85)
    return Image.open(packed).convert("RGB")


def overlap(found: Box | None, true: Box) -> float:
    """Return the intersection of two boxes as a share of their union; 0 without the first."""
    if found is None:
        return 0.0
    wide = min(found[2], true[2]) - max(found[0], true[0])
    high = min(found[3], true[3]) - max(found[1], true[1])
    both = max(0, wide) * max(0, high)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (found, true)]
    return both / (sum(areas) - both)


def found_in(picture: Image.Image) -> Box | None:
    """Return the content's box as the gateway finds it."""
    square = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return content_box(np.asarray(square), *picture.size)


def decided(demo: Demo, cases: Sequence[Image.Image]) -> Callable[[bool], list[Decision]]:
    """Return what the shipped policy decides about pictures, with the view without bars or not."""
    policy = bound(demo)
    cut: list[tuple[View, ...]] = [
        cut_views(picture, "tiles", size_px=IMAGE_SIZE, resize_px=IMAGE_SIZE) for picture in cases
    ]
    vectors = demo.images([Image.fromarray(view.pixels) for views in cut for view in views])
    ends = np.cumsum([len(views) for views in cut])

    def decisions(content: bool) -> list[Decision]:  # noqa: FBT001
        made: list[Decision] = []
        for views, end in zip(cut, ends, strict=True):
            kept = [number for number, view in enumerate(views) if content or view.name != "content"]
            rows = vectors[end - len(views) : end][kept]
            places = [Place(views[number].name, views[number].box, None) for number in kept]
            made.append(verdict_of(policy, rows, places, demo.scale).decision)
        return made

    return decisions


def right_share(decisions: Sequence[Decision], cases: Sequence[Case], expected: Decision) -> float:
    """Return the share of right decisions among the cases that are to be decided so."""
    hits = [made == expected for made, case in zip(decisions, cases, strict=True) if case.expected == expected]
    return float(np.mean(hits))


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--judged", type=int, default=200, help="of them, by the model too")
    given = parser.parse_args()
    rng = np.random.default_rng(SEED)
    cases = list(stills(rng, given.count))
    plain = [through_jpeg(case.frames[0]) for case in cases]
    print(f"without bars: {np.mean([found_in(picture) is not None for picture in plain]):.1%} cropped by mistake")
    square = np.asarray(plain[0].resize((IMAGE_SIZE, IMAGE_SIZE)))
    began = time.thread_time()
    for _ in range(100):
        content_box(square, *plain[0].size)
    print(f"looking for bars: {(time.thread_time() - began) * 10:.2f} ms a picture of the processor")
    demo = Demo.load() if given.judged else None
    sets = {"none": [(picture, (0, 0, *picture.size)) for picture in plain]}
    for kind in KINDS:
        barred = [with_bars(case.frames[0], kind, rng) for case in cases]
        sets[kind] = [(through_jpeg(picture), box) for picture, box in barred]
    for kind, barred in sets.items():
        fits = [overlap(found_in(picture), box) for picture, box in barred]
        line = (
            f"{kind:9} found {np.mean([fit > 0 for fit in fits]):6.1%}, to 90 % {np.mean([f > 0.9 for f in fits]):6.1%}"
        )
        if demo is not None:
            decisions = decided(demo, [picture for picture, _ in barred[: given.judged]])
            for name, content in (("without", False), ("with", True)):
                made = decisions(content)
                line += f"; {name}: blocked {right_share(made, cases[: given.judged], 'block'):.1%}, allowed "
                line += f"{right_share(made, cases[: given.judged], 'allow'):.1%}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
