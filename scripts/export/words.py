"""Words that the tokenizer of random weights knows whole, as CLIP's own does: labels for benchmarks are made of them.

Each is one token in CLIP's vocabulary too, so that what a benchmark says about short labels holds for the real model.
"""

from __future__ import annotations

_QUALITIES = """
    red green blue yellow orange purple black white brown pink old new big tiny dirty clean broken wooden metal plastic
    striped shiny empty folded painted
"""
_THINGS = """
    bicycle car bus train boat plane horse dog cat cow sheep bird fish bear elephant zebra giraffe lion tiger monkey
    apple banana carrot pizza cake bread sandwich cup bottle bowl plate knife fork spoon chair table sofa bed lamp clock
    vase book phone laptop keyboard camera umbrella bag shoe hat shirt coat house bridge tower tree flower mountain
    river beach street field forest
"""
_OTHERS = """
    a an the of in with photo picture bad origami large small video game art good close up person something else
"""
WORDS = tuple(f"{_QUALITIES} {_THINGS} {_OTHERS}".split())


def labels(count: int) -> list[str]:
    """Return ``count`` short labels such as ``red bicycle``, all different.

    Raises:
        ValueError: more than there are.
    """
    made = [f"{quality} {thing}" for quality in _QUALITIES.split() for thing in _THINGS.split()]
    if count > len(made):
        raise ValueError(f"there are {len(made)} labels")
    return made[:count]
