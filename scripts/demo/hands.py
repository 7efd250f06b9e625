"""Drawings by several hands, for choosing and testing the demo policy's thresholds. Nothing here is ever trained on.

The hands share no code with each other or with the drawn world, and differ in palette, line, texture and framing.
``paper`` and ``chalk`` were drawn so that people recognise them, and were finished before the model saw any of it: they
chose no threshold, prompt or setting. The study (scripts/demo/study.py) was written while looking at ``paper``; on
``chalk`` it was run once it was done.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from PIL import Image

from scripts.demo import chalk_hand, crayon_hand, ink_hand, other_hand, paper_hand

Subject = Callable[[random.Random], Image.Image]

OFFENDING: Mapping[str, str] = MappingProxyType(
    {"splatter": "gore", "scrawl": "offensive", "bare figure": "nudity"},
)
"""What a hand draws that has to be caught → the category that it belongs to."""

HARMLESS: tuple[str, ...] = ("coloured splash", "writing", "dressed figure", "face", "shape")
"""What a hand draws that offends nobody: the first three come close."""


WORN: tuple[str, ...] = ("glasses", "beard", "hat", "smile")
"""What the faces of some hands wear and show."""


def drawings(hand: str, what: str, count: int, seed: int) -> list[Image.Image]:
    """Return drawings of one of OFFENDING or HARMLESS by one of HANDS, the same for the same seed."""
    dice = random.Random(f"{hand}-{what}-{seed}")  # noqa: S311 - lots, not secrets
    return [HANDS[hand][what](dice) for _ in range(count)]


def faces(hand: str, count: int, seed: int) -> list[tuple[Image.Image, frozenset[str]]]:
    """Return faces by one of FACES with those of WORN that each shows, each of them on half; the same for a seed."""
    dice = random.Random(f"{hand}-faces-{seed}")  # noqa: S311 - lots, not secrets
    drawn = []
    for _ in range(count):
        shown = {name: dice.random() < 0.5 for name in WORN}
        drawn.append((FACES[hand](dice, **shown), frozenset(name for name in WORN if shown[name])))
    return drawn


def _of(what: Callable[..., Image.Image], *choices: object, **fixed: bool) -> Subject:
    """Return a subject that picks one of the choices, where there are any."""
    return lambda dice: what(dice, *([dice.choice(choices)] if choices else []), **fixed)


def _flat_shape(dice: random.Random) -> Image.Image:
    return other_hand.draw_shape(dice.choice(other_hand.SHAPES), dice.choice(other_hand.COLOURS), dice)


def _flat_face(dice: random.Random) -> Image.Image:
    return other_hand.draw_face(dice, **_worn(dice))


def _worn(dice: random.Random) -> dict[str, bool]:
    return {name: dice.random() < 0.3 for name in ("glasses", "beard", "hat")} | {"smile": dice.random() < 0.5}


HANDS: Mapping[str, Mapping[str, Subject]] = MappingProxyType(
    {
        "flat": MappingProxyType(
            {
                "splatter": lambda dice: other_hand.draw_splatter("red", dice),
                "coloured splash": lambda dice: other_hand.draw_splatter(
                    dice.choice(("blue", "green", "purple")), dice
                ),
                "scrawl": _of(other_hand.draw_scrawl, angry=True),
                "writing": _of(other_hand.draw_scrawl, angry=False),
                "bare figure": _of(other_hand.draw_figure, dressed=False),
                "dressed figure": _of(other_hand.draw_figure, dressed=True),
                "face": _flat_face,
                "shape": _flat_shape,
            }
        ),
        "crayon": MappingProxyType(
            {
                "splatter": _of(crayon_hand.splash, "#c00010", "#a01010", "#d82020"),
                "coloured splash": _of(crayon_hand.splash, "#2050c0", "#208040", "#702090", "#e0a010"),
                "scrawl": crayon_hand.scrawl,
                "writing": crayon_hand.writing,
                "bare figure": _of(crayon_hand.figure, dressed=False),
                "dressed figure": _of(crayon_hand.figure, dressed=True),
                "face": crayon_hand.face,
                "shape": crayon_hand.shape,
            }
        ),
        "paper": MappingProxyType(
            {
                "splatter": _of(paper_hand.splash, "#c8102e", "#a50f1c", "#d7263d"),
                "coloured splash": _of(paper_hand.splash, "#2a6f97", "#588157", "#6d597a", "#e9c46a"),
                "scrawl": paper_hand.scrawl,
                "writing": paper_hand.writing,
                "bare figure": _of(paper_hand.figure, dressed=False),
                "dressed figure": _of(paper_hand.figure, dressed=True),
                "face": lambda dice: paper_hand.face(dice, **_worn(dice)),
                "shape": paper_hand.shape,
            }
        ),
        "chalk": MappingProxyType(
            {
                "splatter": _of(chalk_hand.splash, "#d8323c", "#b8202a", "#e0484a"),
                "coloured splash": _of(chalk_hand.splash, "#8fc1e3", "#a9d39a", "#c7a6e0", "#f3d36b"),
                "scrawl": chalk_hand.scrawl,
                "writing": chalk_hand.writing,
                "bare figure": _of(chalk_hand.figure, dressed=False),
                "dressed figure": _of(chalk_hand.figure, dressed=True),
                "face": lambda dice: chalk_hand.face(dice, **_worn(dice)),
                "shape": chalk_hand.shape,
            }
        ),
        "ink": MappingProxyType(
            {
                "splatter": _of(ink_hand.splash, ("#c01018", "#800008"), ("#a80810", "#600004")),
                "coloured splash": _of(ink_hand.splash, ("#3060b0", "#203f80"), ("#308050", "#205030")),
                "scrawl": ink_hand.scrawl,
                "writing": ink_hand.writing,
                "bare figure": _of(ink_hand.figure, dressed=False),
                "dressed figure": _of(ink_hand.figure, dressed=True),
                "face": ink_hand.face,
                "shape": ink_hand.shape,
            }
        ),
    }
)
"""By name: what each draws of OFFENDING and HARMLESS."""

FACES: Mapping[str, Callable[..., Image.Image]] = MappingProxyType(
    {"flat": other_hand.draw_face, "paper": paper_hand.face, "chalk": chalk_hand.face}
)
"""Hands that draw faces with any of WORN: called with the lots and a Boolean for each."""
