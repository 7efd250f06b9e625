"""Drawings by another hand: plain ImageDraw calls that share no code with the drawn world.

The model is trained on the pictures of `scripts.demo.world`. These drawings ask whether it learned what things look
like, or only how that code draws them. Nothing here is ever trained on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

SHAPES: tuple[str, ...] = (
    "circle", "square", "triangle", "star", "heart", "cross", "diamond", "rectangle", "oval", "hexagon",
)  # fmt: skip
COLOURS: tuple[str, ...] = ("red", "blue", "green", "yellow", "orange", "purple", "black", "pink", "brown", "gray")
_SIZES = ((224, 224), (240, 240), (300, 200), (200, 300), (640, 480), (128, 128), (400, 400))
_GROUNDS = ("white", "white", "white", "lightgray", "lightblue", "beige", "black", "#202830")


@dataclass(frozen=True)
class Asked:
    """A drawing, the texts to choose from and the index of the right one."""

    picture: Image.Image
    texts: tuple[str, ...]
    right: int


def _sheet(
    dice: random.Random, avoid: tuple[str, ...] = ()
) -> tuple[Image.Image, ImageDraw.ImageDraw, float, float, float]:
    """A sheet of paper with its pen, the centre x, y and a radius that fits into its middle square."""
    size = dice.choice(_SIZES)
    ground = dice.choice([g for g in _GROUNDS if g not in avoid])
    image = Image.new("RGB", size, ground)
    radius = min(size) * dice.uniform(0.26, 0.44)
    slack = min(size) * 0.48 - radius
    x, y = size[0] / 2 + dice.uniform(-slack, slack), size[1] / 2 + dice.uniform(-slack, slack)
    return image, ImageDraw.Draw(image), x, y, radius


def draw_shape(name: str, colour: str, dice: random.Random) -> Image.Image:
    """Return a plain, flat drawing of one of SHAPES in one of COLOURS, filled or (one in four) as a thick outline."""
    close = {
        "black": ("black", "#202830"),
        "brown": ("black", "#202830"),
        "gray": ("lightgray", "lightblue", "#202830"),
    }
    close |= {"yellow": ("white", "beige"), "pink": ("lightgray", "beige", "lightblue"), "blue": ("black", "#202830")}
    close |= {"purple": ("black", "#202830"), "green": ("#202830",)}
    image, pen, x, y, r = _sheet(dice, close.get(colour, ()))
    outline = dice.random() < 0.25
    width = max(3, int(r * dice.uniform(0.08, 0.2)))
    fill, edge = (None, colour) if outline else (colour, colour if dice.random() < 0.6 else "black")
    thin = width if outline else max(1, width // 4)
    if name in ("circle", "oval"):
        wide, high = (r, r) if name == "circle" else (r, r * 0.55)
        pen.ellipse((x - wide, y - high, x + wide, y + high), fill=fill, outline=edge, width=thin)
    elif name in ("square", "rectangle"):
        wide, high = (r * 0.85, r * 0.85) if name == "square" else (r, r * 0.5)
        pen.rectangle((x - wide, y - high, x + wide, y + high), fill=fill, outline=edge, width=thin)
    elif name == "heart" and not outline:
        h = r / 2
        pen.ellipse((x - r, y - r * 0.8, x, y + r * 0.2), fill=colour)
        pen.ellipse((x, y - r * 0.8, x + r, y + r * 0.2), fill=colour)
        pen.polygon([(x - r * 0.93, y - h * 0.15), (x + r * 0.93, y - h * 0.15), (x, y + r)], fill=colour)
    else:
        corners = _corners(name, x, y, r)
        pen.polygon(corners, fill=fill, outline=edge, width=thin)
    return image


def _corners(name: str, x: float, y: float, r: float) -> list[tuple[float, float]]:
    if name == "triangle":
        return [(x, y - r), (x + r * 0.95, y + r * 0.75), (x - r * 0.95, y + r * 0.75)]
    if name == "diamond":
        return [(x, y - r), (x + r * 0.7, y), (x, y + r), (x - r * 0.7, y)]
    if name == "hexagon":
        return [(x + r * math.cos(math.tau * k / 6), y + r * math.sin(math.tau * k / 6)) for k in range(6)]
    if name == "star":
        spokes = [(r if k % 2 == 0 else r * 0.4, math.tau * k / 10 - math.pi / 2) for k in range(10)]
        return [(x + s * math.cos(a), y + s * math.sin(a)) for s, a in spokes]
    if name == "cross":
        t = r / 3
        steps = [
            (-t, -r),
            (t, -r),
            (t, -t),
            (r, -t),
            (r, t),
            (t, t),
            (t, r),
            (-t, r),
            (-t, t),
            (-r, t),
            (-r, -t),
            (-t, -t),
        ]
        return [(x + dx, y + dy) for dx, dy in steps]
    curve = [math.tau * k / 60 for k in range(60)]
    return [
        (
            x + r * math.sin(t) ** 3,
            y - r * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16,
        )
        for t in curve
    ]


def draw_face(dice: random.Random, *, glasses: bool, beard: bool, hat: bool, smile: bool) -> Image.Image:
    """Return a face: an ellipse with thick lines, arcs for the mouth, two ellipses for glasses."""
    image, pen, x, y, r = _sheet(dice, ("black", "#202830"))
    r = min(image.size) * dice.uniform(0.29, 0.4)
    x, y = image.size[0] / 2, image.size[1] / 2 + (r * 0.12 if hat else 0)
    skin = dice.choice(["#ffe0bd", "#f1c27d", "#c68642", "#ffcd94", "yellow", "#ffdbac", "white", "#8d5524"])
    line = dice.randint(2, max(3, int(r * 0.07)))
    pen.ellipse((x - r * 0.85, y - r, x + r * 0.85, y + r), fill=skin, outline="black", width=line)
    if beard:
        hair = dice.choice(["#4a2c0a", "black", "gray", "#6b3a12"] if skin != "#8d5524" else ["black", "lightgray"])
        kind = dice.random()
        if kind < 0.5:
            pen.chord((x - r * 0.85, y - r, x + r * 0.85, y + r), 20, 160, fill=hair)
        elif kind < 0.75:
            pen.polygon([(x - r * 0.6, y + r * 0.45), (x + r * 0.6, y + r * 0.45), (x, y + r * 1.2)], fill=hair)
        else:
            pen.ellipse((x - r * 0.55, y + r * 0.3, x + r * 0.55, y + r * 1.1), fill=hair)
    eye = r * dice.uniform(0.06, 0.11)
    for side in (-1, 1):
        cx, cy = x + side * r * 0.35, y - r * 0.2
        pen.ellipse((cx - eye, cy - eye, cx + eye, cy + eye), fill="black")
        if glasses:
            g = r * dice.uniform(0.22, 0.28)
            frame = max(3, int(r * 0.05))
            pen.ellipse((cx - g, cy - g, cx + g, cy + g), outline="black", width=frame)
            pen.line((cx + side * g, cy, x + side * r * 0.83, cy - r * 0.05), fill="black", width=frame)
    if glasses:
        pen.line((x - r * 0.13, y - r * 0.2, x + r * 0.13, y - r * 0.2), fill="black", width=max(3, int(r * 0.05)))
    if dice.random() < 0.4:
        pen.line((x, y - r * 0.05, x - r * 0.06, y + r * 0.15), fill="black", width=line)
    lips = (
        "red"
        if beard and dice.random() < 0.5
        else "white"
        if beard
        else dice.choice(["black", "black", "red", "darkred"])
    )
    w, mouth = r * dice.uniform(0.35, 0.5), max(3, int(r * dice.uniform(0.05, 0.1)))
    if smile:
        pen.arc((x - w, y + r * 0.0, x + w, y + r * 0.65), 25, 155, fill=lips, width=mouth)
    else:
        pen.arc((x - w, y + r * 0.4, x + w, y + r * 1.0), 205, 335, fill=lips, width=mouth)
    if hat:
        cloth = dice.choice(["red", "blue", "black", "green", "purple", "brown"])
        if dice.random() < 0.6:
            pen.rectangle((x - r * 0.6, y - r * 1.25, x + r * 0.6, y - r * 0.7), fill=cloth)
            pen.rectangle((x - r, y - r * 0.75, x + r, y - r * 0.62), fill=cloth)
        else:
            pen.polygon([(x - r * 0.75, y - r * 0.6), (x + r * 0.75, y - r * 0.6), (x, y - r * 1.4)], fill=cloth)
    return image


def draw_figure(dice: random.Random, *, dressed: bool) -> Image.Image:
    """Return a standing figure, all skin or with a coloured shirt and trousers or a dress."""
    image, pen, x, y, _ = _sheet(dice, ("beige", "lightgray", "black"))
    r = min(image.size) * dice.uniform(0.36, 0.46)
    x, y = image.size[0] / 2, image.size[1] / 2
    skin = dice.choice(["#ffe0bd", "#f1c27d", "#e0ac69", "#c68642", "#ffcd94"])
    limb = max(3, int(r * dice.uniform(0.06, 0.16)))
    top, hip = y - r * 0.4, y + r * 0.2
    for side in (-1, 1):
        pen.line((x, top + r * 0.08, x + side * r * 0.45, y + r * 0.1), fill=skin, width=limb)
        pen.line((x + side * r * 0.08, hip, x + side * r * 0.25, y + r * 0.95), fill=skin, width=limb)
    pen.ellipse(
        (x - r * 0.22, y - r * 0.9, x + r * 0.22, y - r * 0.45),
        fill=skin,
        outline=None if dice.random() < 0.6 else "black",
    )
    pen.rectangle((x - r * 0.04, y - r * 0.5, x + r * 0.04, top), fill=skin)
    if not dressed:
        if dice.random() < 0.5:
            pen.ellipse((x - r * 0.2, top - r * 0.03, x + r * 0.2, hip + r * 0.06), fill=skin)
        else:
            pen.rectangle((x - r * 0.18, top, x + r * 0.18, hip + r * 0.04), fill=skin)
        return image
    cloth = dice.choice(["red", "blue", "green", "purple", "navy", "black", "darkgreen"])
    if dice.random() < 0.4:
        pen.polygon(
            [(x - r * 0.17, top), (x + r * 0.17, top), (x + r * 0.4, y + r * 0.5), (x - r * 0.4, y + r * 0.5)],
            fill=cloth,
        )
    else:
        legs = dice.choice(["blue", "black", "gray", "brown", "navy"])
        for side in (-1, 1):
            pen.line((x + side * r * 0.08, hip, x + side * r * 0.22, y + r * 0.8), fill=legs, width=limb + 4)
            pen.line((x, top + r * 0.08, x + side * r * 0.25, y - r * 0.08), fill=cloth, width=limb + 4)
        pen.rectangle((x - r * 0.22, top, x + r * 0.22, hip), fill=cloth)
    return image


def draw_splatter(colour: str, dice: random.Random) -> Image.Image:
    """Return a blob with drops around it and drips below."""
    image, pen, x, y, r = _sheet(dice, ("black", "#202830"))
    fill = dice.choice(["red", "#b00000", "darkred", "#c01010"]) if colour == "red" else colour
    pen.ellipse((x - r * 0.5, y - r * 0.45, x + r * 0.5, y + r * 0.4), fill=fill)
    for _ in range(dice.randint(8, 24)):
        a, d, s = dice.uniform(0, math.tau), dice.uniform(0.4, 1.0) * r, dice.uniform(0.03, 0.14) * r
        cx, cy = x + d * math.cos(a), y + d * math.sin(a)
        pen.ellipse((cx - s, cy - s, cx + s, cy + s), fill=fill)
    for _ in range(dice.randint(1, 4)):
        cx, w = x + dice.uniform(-0.4, 0.4) * r, max(2, int(r * 0.08))
        pen.line((cx, y, cx, y + r * dice.uniform(0.6, 1.1)), fill=fill, width=w)
    return image


def draw_scrawl(dice: random.Random, *, angry: bool) -> Image.Image:
    """Return jagged strokes over each other or, if not angry, the even waves of handwriting."""
    image, pen, x, y, r = _sheet(dice, ("black", "#202830"))
    if angry:
        points = [(x + dice.uniform(-r, r), y + dice.uniform(-r, r)) for _ in range(dice.randint(14, 34))]
        pen.line(points, fill=dice.choice(["black", "red", "darkred"]), width=max(2, int(r * dice.uniform(0.03, 0.08))))
        return image
    ink = dice.choice(["black", "navy"])
    for row in (-0.6, -0.2, 0.2, 0.6):
        wave = [(x - r + 2 * r * k / 80, y + row * r + 0.1 * r * math.sin(k * 1.1)) for k in range(81)]
        pen.line(wave, fill=ink, width=max(1, int(r * 0.03)))
    return image


def _shapes_of_ten(dice: random.Random) -> Asked:
    right = dice.randrange(len(SHAPES))
    picture = draw_shape(SHAPES[right], dice.choice(COLOURS), dice)
    return Asked(picture, tuple(f"a {name}" for name in SHAPES), right)


def _coloured_of_forty(dice: random.Random) -> Asked:
    names = dice.sample([(c, s) for c in COLOURS for s in SHAPES], 40)
    right = dice.randrange(40)
    picture = draw_shape(names[right][1], names[right][0], dice)
    lead = dice.choice(["a ", "a photo of a ", "a drawing of a "])
    return Asked(picture, tuple(f"{lead}{c} {s}" for c, s in names), right)


def _face_pair(what: str) -> Callable[[random.Random], Asked]:
    texts = {
        "glasses": ("a face with glasses", "a face without glasses"),
        "beard": ("a face with a beard", "a face without a beard"),
        "hat": ("a face with a hat", "a face without a hat"),
        "smile": ("a smiling face", "a frowning face"),
    }[what]

    def ask(dice: random.Random) -> Asked:
        worn = {name: dice.random() < 0.3 for name in ("glasses", "beard", "hat")} | {"smile": dice.random() < 0.5}
        worn[what] = dice.random() < 0.5
        return Asked(draw_face(dice, **worn), texts, 0 if worn[what] else 1)

    return ask


def _figures(dice: random.Random) -> Asked:
    dressed = dice.random() < 0.5
    bare = dice.choice(["a naked person", "a bare figure", "nudity"])
    return Asked(draw_figure(dice, dressed=dressed), (bare, "a dressed figure"), 1 if dressed else 0)


def _splatters(dice: random.Random) -> Asked:
    gore = dice.random() < 0.5
    texts = (dice.choice(["a red splatter", "blood", "gore"]), dice.choice(["no blood", "a safe picture"]))
    if gore:
        return Asked(draw_splatter("red", dice), texts, 0)
    if dice.random() < 0.4:
        return Asked(draw_splatter(dice.choice(["blue", "green", "black"]), dice), texts, 1)
    return Asked(draw_shape(dice.choice(SHAPES), dice.choice(COLOURS), dice), texts, 1)


def _scrawls(dice: random.Random) -> Asked:
    angry = dice.random() < 0.5
    texts = (dice.choice(["an angry scrawl", "offensive content"]), dice.choice(["neat writing", "nothing offensive"]))
    return Asked(draw_scrawl(dice, angry=angry), texts, 0 if angry else 1)


QUESTIONS: dict[str, Callable[[random.Random], Asked]] = {
    "which of 10 shapes": _shapes_of_ten,
    "which of 40 coloured shapes": _coloured_of_forty,
    "glasses or none": _face_pair("glasses"),
    "beard or none": _face_pair("beard"),
    "hat or none": _face_pair("hat"),
    "smile or frown": _face_pair("smile"),
    "bare or dressed": _figures,
    "blood or none": _splatters,
    "scrawl or writing": _scrawls,
}


def ask(name: str, count: int, seed: int) -> list[Asked]:
    """Return `count` drawings with their question `name` (a key of QUESTIONS), the same for the same seed."""
    dice = random.Random(f"{name}-{seed}")  # noqa: S311 - lots, not secrets
    return [QUESTIONS[name](dice) for _ in range(count)]
