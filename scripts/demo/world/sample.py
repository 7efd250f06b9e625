"""Drawing lots: random scenes for training and for measuring, and scenes that show or lack one scenario."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scripts.demo.world.backdrops import EMPTY_KINDS, PATTERNS
from scripts.demo.world.objects import OBJECTS
from scripts.demo.world.palette import COLOURS
from scripts.demo.world.scene import ACCESSORIES, ATTRIBUTES, MOODS, SCENARIOS, Item, Scene
from scripts.demo.world.shapes import SHAPES

SPLITS: tuple[str, ...] = ("train", "held_out")

HELD_OUT_PAIRS: frozenset[tuple[str, str]] = frozenset(
    (colour, name)
    for row, name in enumerate((*SHAPES, *OBJECTS))
    for column, colour in enumerate(COLOURS)
    if (column * 5 + row * 3) % 11 == 0
)
"""Pairs (colour, shape or object) that no training picture shows: one colour of each thing."""

HELD_OUT_FACES: frozenset[frozenset[str]] = frozenset(
    {frozenset({"glasses", "beard", "hat", "frown"}), frozenset({"glasses", "hat", "smile"})}
)
"""Sets of traits that no training face has together."""

_KINDS: tuple[tuple[str, float], ...] = (
    ("shape", 0.31), ("object", 0.16), ("face", 0.22), ("figure", 0.11), ("gore", 0.06), ("offence", 0.06),
    ("calm", 0.04), ("pattern", 0.03), ("empty", 0.01),
)  # fmt: skip


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _coloured(rng: np.random.Generator, kind: str, *, held_out: bool) -> Item:
    """A shape or an object whose colour pair is held out, or is not."""
    names = tuple(SHAPES) if kind == "shape" else tuple(OBJECTS)
    while True:
        colour, name = _pick(rng, COLOURS), _pick(rng, names)
        if ((colour, name) in HELD_OUT_PAIRS) == held_out:
            return Item(kind, name, colour)


def _face(
    rng: np.random.Generator, *, held_out: bool = False, fixed: frozenset[str] = frozenset(), without: str = ""
) -> Item:
    while True:
        worn = {name for name in ACCESSORIES if name in fixed or (name != without and rng.random() < 0.42)}
        moods = [mood for mood in MOODS if mood in fixed] or [
            m for m in ("smile", "frown", "smile", "frown", "straight") if m != without
        ]
        traits = frozenset(worn | {_pick(rng, moods)})
        if (traits in HELD_OUT_FACES) == held_out:
            return Item("face", "face", None, traits)


def _figure(rng: np.random.Generator, *, bare: bool) -> Item:
    if bare:
        return Item("figure", "figure", None, frozenset({"bare"}))
    return Item("figure", "figure", _pick(rng, COLOURS) if rng.random() < 0.45 else None, frozenset({"dressed"}))


def _gore(rng: np.random.Generator) -> Item:
    die = rng.random()
    if die < 0.55:
        return Item("mark", "splatter", "red")
    if die < 0.8:
        return Item("mark", "wound")
    if die < 0.95:
        return Item("figure", "figure", None, frozenset({"dressed" if rng.random() < 0.8 else "bare", "bloody"}))
    face = _face(rng)
    return Item("face", "face", None, face.traits | {"bloody"})


def _offence(rng: np.random.Generator) -> Item:
    name = _pick(rng, ("scrawl", "scrawl", "scrawl", "rude sign", "rude sign", "finger", "curses"))
    return Item("mark", name, _pick(rng, ("black", "red", "black", "red", *COLOURS)) if name == "scrawl" else None)


def _calm(rng: np.random.Generator) -> Item:
    """Something close to gore or to an offence that is neither."""
    die = rng.random()
    if die < 0.45:
        return Item("mark", "splatter", _pick(rng, tuple(c for c in COLOURS if c != "red")))
    return Item("mark", "kind sign" if die < 0.75 else "writing")


def _ground(rng: np.random.Generator, items: tuple[Item, ...]) -> Scene:
    """Put items on a ground that does not share their colours."""
    die = rng.random()
    if die < 0.1:
        return Scene(items, "gradient")
    if die < 0.14:
        return Scene(items, "noise")
    if die < 0.3:
        return Scene(items, "tinted")
    free = [colour for colour in COLOURS if colour not in {item.colour for item in items}]
    liked = [colour for colour in ("white", "white", "white", "white", "black", "gray") if colour in free]
    return Scene(items, "plain", _pick(rng, liked if liked and rng.random() < 0.62 else free))


def _company(
    rng: np.random.Generator, first: Item, *, held_out: bool = False, crowded: bool = False
) -> tuple[Item, ...]:
    """The item alone, or with one or two harmless others; figures and marks, which need room, stay alone more often.

    crowded: never alone.
    """
    die = rng.uniform(0.74, 1.0) if crowded else rng.random() * (1.0 if first.kind in ("shape", "object") else 0.82)
    items = [first]
    while len(items) < (1 if die < 0.74 else 2 if die < 0.95 else 3):
        other = _coloured(rng, "shape" if rng.random() < 0.65 else "object", held_out=held_out and rng.random() < 0.5)
        if other.name not in {item.name for item in items}:
            items.append(other)
    if rng.random() < 0.5:
        items.reverse()
    return tuple(items)


def sample_scene(rng: np.random.Generator, split: str = "train", *, crowded: bool = False) -> Scene:
    """Return a random scene; a crowded one holds two or three things, unless it holds a face, a pattern or nothing.

    split 'train' holds none of HELD_OUT_PAIRS and HELD_OUT_FACES; each scene of 'held_out' holds at least one of them.
    Raises ValueError for another split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split: {split!r}")
    held_out = split == "held_out"
    kinds = _KINDS[:3] if held_out else _KINDS
    weights = np.array([share for _, share in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))][0]
    if kind in ("shape", "object"):
        return _ground(rng, _company(rng, _coloured(rng, kind, held_out=held_out), held_out=held_out, crowded=crowded))
    if kind == "face":
        return _ground(rng, (_face(rng, held_out=held_out),))
    if kind == "figure":
        return _ground(rng, _company(rng, _figure(rng, bare=rng.random() < 0.5), crowded=crowded))
    if kind in ("gore", "offence", "calm"):
        first = _gore(rng) if kind == "gore" else _offence(rng) if kind == "offence" else _calm(rng)
        return _ground(rng, (first,) if first.kind == "face" else _company(rng, first, crowded=crowded))
    if kind == "pattern":
        one, other = (COLOURS[int(k)] for k in rng.choice(len(COLOURS), 2, replace=False))
        return Scene((), _pick(rng, PATTERNS), one, other)
    ground = _pick(rng, EMPTY_KINDS)
    return Scene((), ground, _pick(rng, COLOURS) if ground == "plain" else None)


def face_scene(rng: np.random.Generator) -> Scene:
    """Return a random scene that shows a face alone, with no set of traits out of HELD_OUT_FACES."""
    return _ground(rng, (_face(rng),))


def scenario_scene(name: str, rng: np.random.Generator, *, present: bool) -> Scene:
    """Return a scene that shows the scenario or facial attribute `name`, or one that could but does not.

    name: 'nudity', 'gore', 'offensive', or a facial attribute 'glasses', 'beard', 'hat', 'smile'. Absent means: for
    nudity half dressed figures, for gore and offence half near misses, and any harmless scene otherwise; for an
    attribute a face without it (for 'smile': one that frowns). Raises ValueError for another name.
    """
    if name in ATTRIBUTES:
        if name == "smile":
            return _ground(rng, (_face(rng, fixed=frozenset({"smile" if present else "frown"})),))
        return _ground(rng, (_face(rng, fixed=frozenset({name} if present else ()), without="" if present else name),))
    if name not in SCENARIOS:
        raise ValueError(f"unknown scenario: {name!r}")
    if present:
        first = _figure(rng, bare=True) if name == "nudity" else _gore(rng) if name == "gore" else _offence(rng)
        return _ground(rng, (first,) if first.kind == "face" else _company(rng, first))
    if rng.random() < 0.5:
        return _ground(rng, _company(rng, _figure(rng, bare=False) if name == "nudity" else _calm(rng)))
    while True:
        scene = sample_scene(rng)
        if not any(_unsafe(item) for item in scene.items):
            return scene


def _unsafe(item: Item) -> bool:
    """Whether an item stands for something a moderator would flag."""
    return (
        bool(item.traits & {"bare", "bloody"})
        or item.name in ("wound", "scrawl", "rude sign", "finger", "curses")
        or (item.name == "splatter" and item.colour == "red")
    )
