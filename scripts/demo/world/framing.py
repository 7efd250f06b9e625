"""What a camera makes of scenes for training: whole, squeezed to a square, joined with others, or cut in halves.

A gateway shows the model the views of a picture, not pictures: a long picture stretched to a square, and square tiles
of it in which things stand in halves. Training pictures are framed like that too, so that halves and squeezed things
are not taken for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from scripts.demo.world.backdrops import PATTERNS
from scripts.demo.world.captions import Concept, concepts, concepts_of
from scripts.demo.world.draw import draw
from scripts.demo.world.palette import COLOURS
from scripts.demo.world.sample import face_scene, sample_scene
from scripts.demo.world.scene import Scene, Truth, truth

_FRAMINGS: tuple[tuple[str, float], ...] = (
    ("whole", 0.50), ("face", 0.08), ("crowded", 0.14), ("squeezed", 0.07), ("joined", 0.07), ("tile", 0.10),
    ("mosaic", 0.04),
)  # fmt: skip

_SEEN, _UNSEEN = 0.92, 0.12
"""Shares of a drawing's length: from the first on it counts as seen, up to the second as not seen."""

_OPPOSITES = (("no nudity", "bare"), ("no gore", "gore"), ("no offence", "offence"), ("safe", "unsafe"))
_PAIRED_WEIGHT = 0.35


@dataclass(frozen=True)
class Framed:
    """A training picture, what can be said of it (with weights), and which atoms are not clearly false of it."""

    picture: Image.Image
    concepts: tuple[tuple[Concept, float], ...]
    possible: frozenset[str]


def whole(rng: np.random.Generator) -> Framed:
    """Return a random training picture of one scene as it is; of its size see `framed`."""
    scene = sample_scene(rng)
    return Framed(draw(scene, sample_size(rng), rng), concepts(scene), truth(scene).possible)


def framed(rng: np.random.Generator) -> Framed:
    """Return a random training picture, framed in any way, that something can be said of.

    It is 72 to 320 pixels wide and high, at times up to 1.6 times as long and then to be cropped to its middle.
    """
    while True:
        shown = _framed(rng)
        if shown.concepts:
            return shown


def _framed(rng: np.random.Generator) -> Framed:
    names = [name for name, _ in _FRAMINGS]
    name = names[int(rng.choice(len(names), p=[share for _, share in _FRAMINGS]))]
    if name in ("whole", "crowded", "face"):
        scene = face_scene(rng) if name == "face" else sample_scene(rng, crowded=name == "crowded")
        return Framed(draw(scene, sample_size(rng), rng), concepts(scene), truth(scene).possible)
    side = _side(rng)
    if name == "squeezed":
        scene = sample_scene(rng)
        picture, _, _ = _offset(scene, side, int(side * rng.uniform(1.3, 3.2)), rng)
        return Framed(picture.resize((side, side), Image.Resampling.BICUBIC), concepts(scene), truth(scene).possible)
    if name == "joined":
        scenes = [sample_scene(rng) for _ in range(2 if rng.random() < 0.4 else 3)]
        row = _row(scenes, side, rng, upright=rng.random() < 0.3)
        return _summed(row.resize((side, side), Image.Resampling.BICUBIC), scenes, [])
    if name == "mosaic":
        scenes = [sample_scene(rng) for _ in range(int(rng.integers(2, 5)))]
        return _summed(_mosaic(scenes, side, rng), scenes, [])
    return _tile(side, rng)


def sample_size(rng: np.random.Generator) -> tuple[int, int]:
    """Return the width and height to draw a training picture at: 72 to 320 pixels, one in five not square."""
    side = _side(rng)
    if rng.random() < 0.2:
        other = int(side * rng.uniform(1.0, 1.6))
        return (other, side) if rng.random() < 0.6 else (side, other)
    return (side, side)


def seen_together(seen: Sequence[Scene], halves: Sequence[Scene]) -> Truth:
    """Return what is true of a picture that shows some scenes whole and some in halves.

    Of a half thing nothing is said but that it is harmless, if it is: it could be called by its name or not. Nor is
    anything said of backgrounds.
    """
    whole, part = [truth(scene) for scene in seen], [truth(scene) for scene in halves]
    true = {atom for one in whole for atom in one.true if not _of_ground(atom)}
    possible = {atom for one in (*whole, *part) for atom in one.possible}
    for no, what in _OPPOSITES:
        true.discard(no)
        if all(no in one.true for one in (*whole, *part)):
            true.add(no)
            possible.add(no)
        elif any(what in one.true for one in whole):
            possible.discard(no)
        else:
            possible.add(no)
    if not whole:
        possible |= {"empty", "noise", "gradient", *(f"{colour}:ground" for colour in COLOURS)}
    return Truth(frozenset(true), frozenset(possible | true))


def _of_ground(atom: str) -> bool:
    return atom.endswith(":ground") or atom in ("empty", "noise", "gradient")


def _summed(picture: Image.Image, seen: Sequence[Scene], halves: Sequence[Scene]) -> Framed:
    """Caption scenes that stand in one picture: each by itself, and one with another."""
    known = seen_together(seen, halves)
    said: dict[Concept, float] = {}
    for scene in seen:
        for concept, weight in concepts(scene):
            if all(atom in known.true for atom in concept):
                said[concept] = max(weight, said.get(concept, 0.0))
    said.update(concepts_of(frozenset(no for no, _ in _OPPOSITES) & known.true))
    subjects = [[c[0] for c, _ in concepts(scene) if len(c) == 1 and _is_subject(c[0])] for scene in seen]
    for place, ones in enumerate(subjects):
        for others in subjects[place + 1 :]:
            for one in ones:
                for other in others:
                    if one != other and one in known.true and other in known.true:
                        pair = (one, other) if ":" in other else (other, one)
                        if ":" in pair[1]:
                            said.setdefault(pair, _PAIRED_WEIGHT)
    return Framed(picture, tuple(said.items()), known.possible)


def _is_subject(atom: str) -> bool:
    if ":" in atom:
        kind, name = atom.split(":")
        return kind != "a" and name not in ("ground", "clothes", *PATTERNS)
    return atom in ("face", "bare", "dressed")


def _side(rng: np.random.Generator) -> int:
    return int(np.exp(rng.uniform(np.log(72), np.log(320))))


def _offset(scene: Scene, side: int, long: int, rng: np.random.Generator) -> tuple[Image.Image, int, bool]:
    """Draw a scene `long` pixels long with the square that holds what it shows anywhere along it, often at an end.

    Returns the picture, where that square begins, and whether the picture stands upright.
    """
    upright = rng.random() < 0.3
    begin = int(rng.choice((0, long - side, int(rng.integers(0, long - side + 1)))))
    drawn = draw(scene, (side, 2 * long - side) if upright else (2 * long - side, side), rng)
    left = long - side - begin
    box = (0, left, side, left + long) if upright else (left, 0, left + long, side)
    return drawn.crop(box), begin, upright


def _row(scenes: Sequence[Scene], side: int, rng: np.random.Generator, *, upright: bool) -> Image.Image:
    """Draw scenes one after the other into one long picture."""
    long = side * len(scenes)
    row = Image.new("RGB", (side, long) if upright else (long, side))
    for place, scene in enumerate(scenes):
        at = place * side
        row.paste(draw(scene, (side, side), rng), (0, at) if upright else (at, 0))
    return row


def _mosaic(scenes: Sequence[Scene], side: int, rng: np.random.Generator) -> Image.Image:
    """Draw two to four scenes into the quarters of a square on a plain ground, each in a quarter of its own."""
    half = max(side // 2, 36)
    whole = Image.new("RGB", (2 * half, 2 * half), tuple(int(value) for value in rng.integers(0, 256, 3)))
    for quarter, scene in zip(rng.permutation(4), scenes, strict=False):
        whole.paste(draw(scene, (half, half), rng), (half * (int(quarter) % 2), half * (int(quarter) // 2)))
    return whole


def _tile(side: int, rng: np.random.Generator) -> Framed:
    """Cut a square out of a long picture, wherever it falls."""
    if rng.random() < 0.4:
        scenes = [sample_scene(rng)]
        long = int(side * rng.uniform(1.3, 3.2))
        picture, begin, upright = _offset(scenes[0], side, long, rng)
        begins = [begin]
    else:
        scenes = [sample_scene(rng) for _ in range(2)]
        upright = rng.random() < 0.3
        picture, begins, long = _row(scenes, side, rng, upright=upright), [0, side], 2 * side
    start = int(rng.integers(0, long - side + 1))
    end = start + side
    tile = picture.crop((0, start, side, end) if upright else (start, 0, end, side))
    shares = [(min(end, begin + side) - max(start, begin)) / side for begin in begins]
    seen = [scene for scene, share in zip(scenes, shares, strict=True) if share >= _SEEN]
    halves = [scene for scene, share in zip(scenes, shares, strict=True) if _UNSEEN < share < _SEEN]
    return _summed(tile, seen, halves)
