"""Framed training pictures: what is said of them is true, and of half things nothing but that they are harmless."""

from __future__ import annotations

import numpy as np

from scripts.demo.world import Item, Scene
from scripts.demo.world.framing import framed, seen_together

BARE = Scene((Item("figure", "figure", None, frozenset({"bare"})),), "plain", "white")
CIRCLE = Scene((Item("shape", "circle", "red"),), "plain", "blue")
SCRAWL = Scene((Item("mark", "scrawl", "black"),), "plain", "white")


def test_everything_said_is_possible_and_something_is_always_said() -> None:
    for seed in range(300):
        shown = framed(np.random.default_rng([5, seed]))
        assert shown.concepts
        assert all(atom in shown.possible for concept, _ in shown.concepts for atom in concept)
        assert min(shown.picture.size) >= 72


def test_the_same_generator_gives_the_same_picture() -> None:
    one, other = (framed(np.random.default_rng(9)) for _ in range(2))
    assert one.picture.tobytes() == other.picture.tobytes()
    assert one.concepts == other.concepts


def test_whole_scenes_are_all_told_and_one_that_offends_makes_the_picture_unsafe() -> None:
    known = seen_together([BARE, CIRCLE], [])
    assert {"bare", "red:circle", "unsafe", "no gore", "no offence"} <= known.true
    assert not {"safe", "no nudity", "white:ground", "blue:ground"} & known.true
    assert not {"safe", "no nudity"} & known.possible
    assert "white:ground" in known.possible


def test_of_a_half_only_its_harmlessness_is_told() -> None:
    harmless = seen_together([], [CIRCLE])
    assert harmless.true == {"safe", "no nudity", "no gore", "no offence"}
    assert "red:circle" in harmless.possible
    assert not {"bare", "gore", "offence", "unsafe"} & harmless.possible


def test_a_half_that_offends_is_neither_called_offending_nor_harmless() -> None:
    known = seen_together([CIRCLE], [SCRAWL])
    assert not {"offence", "scrawl", "safe", "unsafe", "no offence"} & known.true
    assert {"offence", "scrawl", "safe", "unsafe", "no offence"} <= known.possible
    assert {"red:circle", "no nudity", "no gore"} <= known.true
