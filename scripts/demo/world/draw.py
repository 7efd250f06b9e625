"""From a scene to a picture: where things stand, in what hand they are drawn, and what the camera did to them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from scripts.demo.world import backdrops, faces, figures, marks, objects, shapes
from scripts.demo.world.palette import COLOURS, Rgb, contrast, tint
from scripts.demo.world.pen import Hand, Pen
from scripts.demo.world.scene import Item, Scene, check

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Drawing:
    """An RGB picture, and of each item of its scene, in order, the box of its pixels.

    boxes: left, top, right, bottom in pixels, right and bottom exclusive.
    """

    image: Image.Image
    boxes: tuple[Box, ...]


def _hand(rng: np.random.Generator, *, flat: bool) -> Hand:
    """A flat hand draws evenly, as drawing programs do; others wobble, hatch and shade."""
    u = rng.uniform
    mode = ("filled", "edged", "outline", "hatched")[int(rng.choice(4, p=(0.45, 0.3, 0.17, 0.08)))]
    thin = 0.065 if mode in ("outline", "hatched") else 0.03  # what is all line must survive at 72 pixels
    line = float(np.exp(u(np.log(thin), np.log(0.16))))
    if flat:
        return Hand(line, 0.0, "filled" if mode == "hatched" else mode, shade=False)
    return Hand(line, float(u(0.0, 0.085)) if u() < 0.7 else 0.0, mode, shade=u() < 0.2)


def _cells(count: int, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centres x, y and half sizes of `count` places, as shares of the picture's inner square."""
    u = rng.uniform
    if count == 1:
        half = float(u(0.24, 0.47))
        free = 0.49 - half
        return [(0.5 + float(u(-free, free)), 0.5 + float(u(-free, free)), half)]
    places: tuple[tuple[float, float], ...]
    if count == 2:
        pairs = (
            ((0.26, 0.5), (0.74, 0.5)),
            ((0.5, 0.26), (0.5, 0.74)),
            ((0.27, 0.27), (0.73, 0.73)),
            ((0.27, 0.73), (0.73, 0.27)),
        )
        places = pairs[int(rng.choice(4, p=(0.5, 0.2, 0.15, 0.15)))]
    else:
        corners = [(0.26, 0.26), (0.74, 0.26), (0.26, 0.74), (0.74, 0.74)]
        places = tuple(corners[int(k)] for k in rng.permutation(4)[:count])
    return [(x + float(u(-0.02, 0.02)), y + float(u(-0.02, 0.02)), float(u(0.17, 0.235))) for x, y in places]


def _paints(scene: Scene, rng: np.random.Generator) -> tuple[Rgb, list[Rgb]]:
    """RGB values for the ground and for each item, far enough apart to be seen."""
    for _ in range(20):
        ground = tint(scene.ground_colour or COLOURS[int(rng.integers(len(COLOURS)))], rng)
        if scene.ground == "tinted":
            ground = _any_colour(rng)
        paints = [
            marks.blood(rng) if item.name == "splatter" and item.colour == "red" else tint(item.colour or "black", rng)
            for item in scene.items
        ]
        coloured = [
            paint for paint, item in zip(paints, scene.items, strict=True) if item.colour and item.kind != "figure"
        ]
        if all(contrast(paint, ground) > 165 for paint in coloured):
            break
    return ground, paints


def _item(pen: Pen, item: Item, paint: Rgb) -> None:
    u = pen.rng.uniform
    if item.kind == "shape":
        edges: tuple[Rgb, ...] = ((0, 0, 0), (0, 0, 0), (255, 255, 255), (40, 40, 40))
        shapes.shape(pen, item.name, paint, edges[int(pen.rng.integers(4))] if u() < 0.75 else None)
    elif item.kind == "object":
        objects.thing(pen, item.name, paint)
    elif item.kind == "face":
        mood = next(mood for mood in ("smile", "frown", "straight") if mood in item.traits)
        worn = {name: name in item.traits for name in ("glasses", "beard", "hat")}
        faces.face(pen, mood, **worn)
    elif item.kind == "figure":
        figures.figure(pen, dressed="dressed" in item.traits, clothes=item.colour)
    else:
        {
            "splatter": lambda: marks.splatter(pen, paint),
            "scrawl": lambda: marks.scrawl(pen, paint),
            "wound": lambda: marks.wound(pen),
            "rude sign": lambda: marks.sign(pen, rude=True),
            "kind sign": lambda: marks.sign(pen, rude=False),
            "finger": lambda: marks.finger(pen),
            "curses": lambda: marks.curses(pen),
            "writing": lambda: marks.writing(pen),
        }[item.name]()


def _place(
    item: Item, cell: tuple[float, float, float], rng: np.random.Generator, *, alone: bool
) -> tuple[float, float, float]:
    """Make room for what an item needs: faces and figures large, hats a place above the head."""
    x, y, half = cell
    if alone and (item.kind in ("face", "figure") or item.name in ("rude sign", "curses")):
        half = max(half, float(rng.uniform(0.36, 0.48)))
        free = 0.495 - half
        x, y = 0.5 + float(rng.uniform(-free, free)), 0.5 + float(rng.uniform(-free, free))
    if "hat" in item.traits:
        half *= 0.8
        y = min(max(y, 1.35 * half + 0.01), 1 - half) + 0.02
    return x, y, half


def _camera(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur, grain and JPEG, each at times."""
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.012 * min(image.size) + 0.2))))
    if rng.random() < 0.2:
        image = backdrops.grain(image, float(rng.uniform(2, 22)), rng)
    if rng.random() < 0.2:
        packed = io.BytesIO()
        image.save(packed, format="JPEG", quality=int(rng.integers(25, 92)))
        image = Image.open(packed).convert("RGB")
    return image


def draw(scene: Scene, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Return an RGB picture of a scene, as `drawing` does."""
    return drawing(scene, size, rng).image


def drawing(scene: Scene, size: tuple[int, int], rng: np.random.Generator) -> Drawing:
    """Draw a scene, `size` (width, height) in pixels, at least 32 each.

    Everything is placed inside the centred square, so that a centre crop loses nothing. Style, place and size of the
    things follow from `rng` alone: the same scene, size and generator state give the same picture.
    Raises ValueError for a scene that names something unknown or for a size under 32 pixels.
    """
    check(scene)
    if min(size) < 32:
        raise ValueError(f"pictures are at least 32 pixels wide and high, got {size}")
    flat = rng.random() < 0.4
    scale = 2 if rng.random() < 0.45 else 1
    width, height = size[0] * scale, size[1] * scale
    ground, paints = _paints(scene, rng)
    if scene.ground == "gradient":
        image = backdrops.gradient(
            (width, height),
            ground,
            tint(COLOURS[int(rng.integers(len(COLOURS)))], rng) if not scene.items else _near(ground, rng),
            rng,
        )
    elif scene.ground == "noise":
        image = backdrops.noise((width, height), rng)
        if scene.items:
            image = Image.blend(image, Image.new("RGB", image.size, ground), float(rng.uniform(0.55, 0.85)))
    elif scene.ground in ("plain", "tinted"):
        image = backdrops.plain((width, height), ground)
        if not flat and rng.random() < 0.25:
            image = backdrops.paper(image, ground, rng)
    else:
        second = tint(scene.second_colour or "white", rng)
        image = backdrops.pattern((width, height), scene.ground, ground, second, rng)
    canvas = ImageDraw.Draw(image)
    side, hand = min(width, height), _hand(rng, flat=flat)
    corner = ((width - side) / 2, (height - side) / 2)
    cells = _cells(len(scene.items), rng) if scene.items else []
    before, boxes = image.copy(), list[Box]()
    for item, cell, paint in zip(scene.items, cells, paints, strict=True):
        if flat and len(cells) == 1 and item.kind == "shape" and item.name in shapes.NEAT and rng.random() < 0.5:
            shapes.neat(canvas, item.name, corner, side, paint, rng)
            boxes.append(_changed(before, image, scale))
            continue
        x, y, half = _place(item, cell, rng, alone=len(scene.items) == 1)
        stretch = float(rng.uniform(0.92, 1.0) if item.kind == "shape" else rng.uniform(0.8, 1.0))
        halves = (half * side * stretch, half * side) if rng.random() < 0.5 else (half * side, half * side * stretch)
        centre = (corner[0] + x * side, corner[1] + y * side)
        angle = 0.0 if flat and rng.random() < 0.7 else float(rng.normal(0, 5.0))
        pen = Pen(canvas, centre, halves, angle, hand, ground, rng)
        _item(pen, item, paint)
        if "bloody" in item.traits:
            spot = (
                centre[0] + float(rng.uniform(-0.2, 0.2)) * halves[0],
                centre[1] + float(rng.uniform(-0.4, 0.2)) * halves[1],
            )
            share = float(rng.uniform(0.3, 0.55))
            wet = Pen(canvas, spot, (halves[0] * share, halves[1] * share), angle, hand, ground, rng)
            marks.splatter(wet, marks.blood(rng))
        boxes.append(_changed(before, image, scale))
    if scale > 1:
        image = image.resize(size, Image.Resampling.BOX)
    return Drawing(image if flat else _camera(image, rng), tuple(boxes))


def _changed(before: Image.Image, after: Image.Image, scale: int) -> Box:
    """Return the box of the pixels that changed, in pixels of the finished picture, and catch up with them."""
    left, top, right, bottom = ImageChops.difference(before, after).getbbox() or (0, 0, 0, 0)
    before.paste(after)
    return (left // scale, top // scale, -(-right // scale), -(-bottom // scale))


def _any_colour(rng: np.random.Generator) -> Rgb:
    """Any colour: a pale one mostly, else a dark one or whatever comes."""
    die = rng.random()
    low, high = (165, 256) if die < 0.6 else (0, 70) if die < 0.8 else (0, 256)
    red, green, blue = (int(channel) for channel in rng.integers(low, high, 3))
    return (red, green, blue)


def _near(ground: Rgb, rng: np.random.Generator) -> Rgb:
    """A colour not far from the ground, for a gradient that things stand out from."""
    shift = rng.normal(0, 35, 3)
    return (
        int(np.clip(ground[0] + shift[0], 0, 255)),
        int(np.clip(ground[1] + shift[1], 0, 255)),
        int(np.clip(ground[2] + shift[2], 0, 255)),
    )
