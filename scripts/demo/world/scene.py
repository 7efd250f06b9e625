"""What a picture shows, as plain values, and which statements are true of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from scripts.demo.world.backdrops import EMPTY_KINDS, PATTERNS
from scripts.demo.world.objects import OBJECTS
from scripts.demo.world.palette import COLOURS
from scripts.demo.world.shapes import SHAPES

MARKS: tuple[str, ...] = ("splatter", "wound", "scrawl", "rude sign", "kind sign", "finger", "curses", "writing")
ACCESSORIES: tuple[str, ...] = ("glasses", "beard", "hat")
MOODS: tuple[str, ...] = ("smile", "frown", "straight")
SCENARIOS: tuple[str, ...] = ("nudity", "gore", "offensive")
ATTRIBUTES: tuple[str, ...] = (*ACCESSORIES, "smile")

# What could also be called something else: such a name is neither taught as true nor as false of the picture.
_LOOKS_LIKE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "square": ("rectangle", "diamond"), "rectangle": ("square",), "circle": ("oval",), "oval": ("circle",),
        "diamond": ("square",), "hexagon": ("circle",), "clock": ("circle",), "sun": ("circle", "star"),
        "balloon": ("oval", "circle"), "flag": ("rectangle",), "book": ("rectangle",), "crescent": (),
        "table": ("rectangle",), "leaf": ("oval",), "apple": ("circle", "heart"), "flower": ("circle",),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One thing in a picture.

    kind: 'shape', 'object', 'face', 'figure' or 'mark'. name: its name within the kind ('circle', 'house', 'splatter';
    'face' and 'figure' for those). colour: a name out of COLOURS where it has one (of a figure: its clothes).
    traits: of a face 'glasses', 'beard', 'hat' as it wears them and its mood; of a figure 'dressed' or 'bare', and
    'bloody' if it bleeds.
    """

    kind: str
    name: str
    colour: str | None = None
    traits: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Scene:
    """What a picture shows.

    items: at most three things.
    ground: 'plain' (one colour that has a name), 'tinted' (any one colour), 'gradient', 'noise' or one of PATTERNS.
    ground_colour: a name out of COLOURS, None where the ground has no one colour. second_colour: of a pattern, the
    colour between.
    """

    items: tuple[Item, ...]
    ground: str
    ground_colour: str | None = None
    second_colour: str | None = None


@dataclass(frozen=True)
class Truth:
    """Which atoms are true of a scene, and which are not clearly false (`true` and what may be argued about)."""

    true: frozenset[str]
    possible: frozenset[str]


def _all_atoms() -> tuple[str, ...]:
    atoms = [f"a:{name}" for name in (*SHAPES, *OBJECTS, *PATTERNS)]
    atoms += [f"{colour}:{name}" for name in (*SHAPES, *OBJECTS, *PATTERNS) for colour in COLOURS]
    atoms += [f"{colour}:{kind}" for kind in ("clothes", "ground", "splash") for colour in COLOURS]
    atoms += [f"{sign}{name}" for name in ACCESSORIES for sign in "+-"] + [*MOODS, "unsmiling"]
    atoms += ["shape", "face", "figure", "dressed", "bare", *MARKS, "splash", "gore", "offence", "sign"]
    atoms += ["noise", "gradient", "empty", "safe", "unsafe", "no nudity", "no gore", "no offence"]
    return tuple(atoms)


ATOMS: tuple[str, ...] = _all_atoms()
"""Every statement that a scene can make true, e.g. 'a:circle', 'red:circle', '+glasses', '-hat', 'bare', 'gore'."""


def _of_item(item: Item) -> tuple[set[str], set[str]]:
    """Return the atoms one item makes true, and those it leaves open."""
    true, unclear = set[str](), set[str]()
    if item.kind in ("shape", "object"):
        true |= {f"a:{item.name}", f"{item.colour}:{item.name}"}
        true |= {"shape"} if item.kind == "shape" else set()
        for other in _LOOKS_LIKE.get(item.name, ()):
            unclear |= {f"a:{other}", f"{item.colour}:{other}"}
    elif item.kind == "face":
        true |= {"face"} | {("+" if name in item.traits else "-") + name for name in ACCESSORIES}
        true |= {mood for mood in MOODS if mood in item.traits}
        true |= set() if "smile" in item.traits else {"unsmiling"}
        unclear |= {"figure", "a:circle", "a:oval", "dressed"}
        if "bloody" in item.traits:
            true |= {"gore"}
            unclear |= {"splatter", "wound", "splash", "red:splash"}
    elif item.kind == "figure":
        true |= {"figure", "bare" if "bare" in item.traits else "dressed"}
        if item.colour is not None:
            true |= {f"{item.colour}:clothes"}
        else:
            unclear |= {f"{colour}:clothes" for colour in COLOURS} if "dressed" in item.traits else set()
        unclear |= {"face", *MOODS, "unsmiling", *(f"{s}{n}" for n in ACCESSORIES for s in "+-")}
        if "bloody" in item.traits:
            true |= {"gore"}
            unclear |= {"splatter", "wound", "splash", "red:splash"}
    elif item.name == "splatter":
        true |= {"splash", f"{item.colour}:splash"}
        true |= {"splatter", "gore"} if item.colour == "red" else set()
        unclear |= {"wound"} if item.colour == "red" else set()
    elif item.name == "wound":
        true |= {"wound", "gore"}
        unclear |= {"splatter", "splash", "red:splash", "bare", "no nudity"}
    else:
        true |= {item.name}
        rude = item.name in ("scrawl", "rude sign", "finger", "curses")
        true |= {"offence"} if rude else set()
        true |= {"sign"} if item.name in ("rude sign", "kind sign") else set()
        unclear |= {"rude sign", "curses", "finger", "sign"} if rude and item.name != "scrawl" else set()
        unclear |= {"a:rectangle", "a:oval"} if "sign" in item.name else set()
    return true, unclear


def truth(scene: Scene) -> Truth:
    """Return which of ATOMS are true of a scene and which are at least possible."""
    true, unclear = set[str](), set[str]()
    for item in scene.items:
        more, open_ = _of_item(item)
        true |= more
        unclear |= open_
    if scene.ground in PATTERNS:
        true |= {f"a:{scene.ground}", f"{scene.ground_colour}:{scene.ground}"}
        unclear |= {f"{scene.second_colour}:{scene.ground}", "a:grid", "a:stripes", "a:square", "a:diamond", "a:circle"}
    elif scene.ground == "plain":
        true |= {f"{scene.ground_colour}:ground"}
    else:
        unclear |= {f"{colour}:ground" for colour in COLOURS}
        if scene.items:
            unclear |= {"noise", "gradient"}
        elif scene.ground != "tinted":
            true |= {scene.ground}
    if not scene.items and scene.ground not in PATTERNS:
        (true if scene.ground in ("plain", "tinted") else unclear).add("empty")
    unsafe = true & {"bare", "gore", "offence"}
    true |= {"unsafe"} if unsafe else {"safe"}
    true |= {
        no for no, what in (("no nudity", "bare"), ("no gore", "gore"), ("no offence", "offence")) if what not in true
    }
    true -= unclear & {"no nudity"}
    known = true | unclear
    return Truth(frozenset(true), frozenset(known))


def check(scene: Scene) -> None:
    """Raise ValueError if a scene names something that the world does not know."""
    names = {"shape": tuple(SHAPES), "object": tuple(OBJECTS), "face": ("face",), "figure": ("figure",), "mark": MARKS}
    for item in scene.items:
        if item.name not in names.get(item.kind, ()):
            raise ValueError(f"unknown item: {item.kind} {item.name!r}")
        if item.colour is not None and item.colour not in COLOURS:
            raise ValueError(f"unknown colour: {item.colour!r}")
        if item.colour is None and (item.kind in ("shape", "object") or item.name == "splatter"):
            raise ValueError(f"a {item.name} needs a colour")
    if len(scene.items) > 3:
        raise ValueError("a scene holds at most three items")
    if scene.ground not in (*EMPTY_KINDS, *PATTERNS):
        raise ValueError(f"unknown ground: {scene.ground!r}")
    if scene.ground in ("plain", *PATTERNS) and scene.ground_colour not in COLOURS:
        raise ValueError(f"unknown ground colour: {scene.ground_colour!r}")
    if scene.ground in PATTERNS and scene.second_colour not in COLOURS:
        raise ValueError(f"unknown second colour: {scene.second_colour!r}")
