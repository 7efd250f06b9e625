"""The fixed set of pictures that load is made of: drawn, the same on every machine, kept in a folder.

Sizes run from what a thumbnail service sends to a camera's 12 megapixels, since decoding and resizing cost the gateway
far more than the model does at the large end.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SET_NAME = "loadtest-pictures-1"  # another number when the pictures change
GRAIN = 6
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "black", "white", "brown", "pink")


@dataclass(frozen=True, slots=True)
class Drawing:
    """What one picture of the set is like.

    Attributes:
        file: its name; the ending says the format.
        width: pixels.
        height: pixels.
        mime: media type.
    """

    file: str
    width: int
    height: int
    mime: str


DRAWINGS = (
    Drawing("thumbnail.jpg", 224, 224, "image/jpeg"),
    Drawing("avatar.png", 400, 400, "image/png"),
    Drawing("web.webp", 800, 600, "image/webp"),
    Drawing("screen.png", 1280, 720, "image/png"),
    Drawing("tall.jpg", 1080, 1920, "image/jpeg"),
    Drawing("large.webp", 2048, 1536, "image/webp"),
    Drawing("camera.jpg", 4000, 3000, "image/jpeg"),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the set with its bytes and their hex sha256, by which an answer is recognised as being about it."""

    drawing: Drawing
    data: bytes
    sha256: str


def pictures_in(folder: Path) -> tuple[Picture, ...]:
    """Return the set; what ``folder`` does not hold yet is drawn and kept there."""
    place = folder / SET_NAME
    place.mkdir(parents=True, exist_ok=True)
    found = []
    for number, drawing in enumerate(DRAWINGS):
        path = place / drawing.file
        if not path.is_file():
            unfinished = path.with_name(f".{path.name}.{os.getpid()}")
            unfinished.write_bytes(draw(drawing, seed=number))
            unfinished.rename(path)
        data = path.read_bytes()
        found.append(Picture(drawing, data, hashlib.sha256(data).hexdigest()))
    return tuple(found)


def draw(drawing: Drawing, seed: int) -> bytes:
    """Return the file of a drawing: coloured shapes on a graded ground, with grain: as large as a photo's."""
    dice = random.Random(seed)
    size = (drawing.width, drawing.height)
    ground = Image.linear_gradient("L").resize(size)
    picture = Image.merge("RGB", (ground, ground.transpose(Image.Transpose.FLIP_TOP_BOTTOM), Image.new("L", size, 128)))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        radius = dice.randint(min(size) // 12, min(size) // 5)
        x, y = dice.randrange(drawing.width), dice.randrange(drawing.height)
        box = (x - radius, y - radius, x + radius, y + radius)
        colour = dice.choice(COLOURS)
        shape = dice.choice((pen.ellipse, pen.rectangle))
        shape(box, fill=colour, outline="black", width=max(1, radius // 15))
    if drawing.mime != "image/png":
        grain = np.random.default_rng(seed).integers(-GRAIN, GRAIN, (drawing.height, drawing.width, 1), endpoint=True)
        picture = Image.fromarray(np.clip(np.asarray(picture, np.int16) + grain, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(
        buffer, drawing.mime.removeprefix("image/").upper(), **({} if "png" in drawing.mime else {"quality": 88})
    )
    return buffer.getvalue()


def by_name(pictures: Sequence[Picture]) -> dict[str, Picture]:
    """Return the pictures by file name."""
    return {picture.drawing.file: picture for picture in pictures}
