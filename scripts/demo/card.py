"""What lies beside the weights: a model card with figures, and the labels the model knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from scripts.demo.evaluate import LABELS, PROMPTS, TARGETS
from scripts.demo.world import COLOURS, HELD_OUT_PAIRS, HELD_OUT_TEMPLATES, TEMPLATES, label, words
from scripts.demo.world.backdrops import PATTERNS
from scripts.demo.world.objects import OBJECTS
from scripts.demo.world.shapes import SHAPES

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: zero-shot-image-classification
---
# Demo CLIP: understands drawings only

A very small CLIP (two transformer towers, {parameters:,} parameters) trained from nothing on pictures that a script
drew. It lets everything a real CLIP shows be shown and tested on a laptop, without a download. **It understands simple
drawings only. It knows nothing of photographs, moderates nothing real, and must not be used to.** Its "nudity", "gore"
and "offensive content" are harmless stand-ins: dolls without clothes, red splatters, scrawls and rude signs.

## What it understands
- {shapes} in {colours};
- objects: {objects}; patterns: {patterns}; noise, gradients, empty pictures; backgrounds of a colour;
- figures dressed and bare; red splatters and wounds beside splashes of other colours; angry scrawls and rude signs
  beside neat writing and friendly signs;
- faces with and without glasses, beard and hat; smiling, frowning, serious;
- two things that hold at once: "a smiling face with glasses", "a red circle and a blue square".

Pictures are resized (short side to {size} pixels, bicubic) and cropped at the centre; texts may have any words, but
only those in `vocabulary.json` mean something to it. Drawings should be simple and large in the picture.

## Figures
`python -m scripts.demo.evaluate` draws new pictures of 160 to 640 pixels and measures:

| figure | value | at least |
|---|---|---|
{rows}

"Unseen combinations" are pairs of colour and thing that no training picture showed. "Other hand" are plain drawings
made by code that shares nothing with the training pictures.

## Training
`python -m scripts.demo.train`: {training}.

Licence: Apache-2.0, weights included. No picture, text or weight of anybody else was used.
"""


def write(folder: Path, figures: Mapping[str, float], training: str, parameters: int, image_size: int) -> None:
    """Write README.md and vocabulary.json to `folder`.

    `figures` are shares 0..1, `training` says how it was trained.
    """
    rows = [
        f"| {name} | {100 * value:.1f} % | {f'{100 * TARGETS[name]:.0f} %' if name in TARGETS else '-'} |"
        for name, value in figures.items()
    ]
    card = _CARD.format(
        parameters=parameters,
        shapes=", ".join(SHAPES),
        colours=", ".join(COLOURS),
        objects=", ".join(OBJECTS),
        patterns=", ".join(PATTERNS),
        size=image_size,
        rows="\n".join(rows),
        training=training,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    known = {
        "labels": [label(atom) for atom in LABELS],
        "prompts": {name: {"positive": asking, "negative": against} for name, (asking, against) in PROMPTS.items()},
        "templates": TEMPLATES,
        "held_out_templates": HELD_OUT_TEMPLATES,
        "held_out_combinations": sorted(" ".join(pair) for pair in HELD_OUT_PAIRS),
        "words": words(),
    }
    (folder / "vocabulary.json").write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
