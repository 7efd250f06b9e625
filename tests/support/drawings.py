"""Pictures drawn fresh for tests of meaning, with code that the demo model's world shares nothing with."""

from __future__ import annotations

import io
import math

from PIL import Image, ImageDraw

COLOURS = {"red": "#d62728", "blue": "#1f4fd6", "green": "#2a9d3a", "yellow": "#f2cc0f"}
SHAPES = ("circle", "square", "triangle", "star")
LABELS = tuple(f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES)


def shape(label: str, size: tuple[int, int] = (240, 240), background: str = "white") -> Image.Image:
    """Draw what a label of ``LABELS`` says, in the middle, on a plain background."""
    _, colour, name = label.split()
    picture = Image.new("RGB", size, background)
    pen = ImageDraw.Draw(picture)
    centre_x, centre_y, radius = size[0] / 2, size[1] / 2, 0.33 * min(size)
    fill = COLOURS[colour]

    def ring(points: int, radii: tuple[float, ...]) -> list[tuple[float, float]]:
        angles = [2 * math.pi * number / points - math.pi / 2 for number in range(points)]
        return [
            (
                centre_x + radii[number % len(radii)] * math.cos(angle),
                centre_y + radii[number % len(radii)] * math.sin(angle),
            )
            for number, angle in enumerate(angles)
        ]

    box = (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius)
    if name == "circle":
        pen.ellipse(box, fill=fill)
    elif name == "square":
        pen.rectangle(box, fill=fill)
    elif name == "triangle":
        pen.polygon(ring(3, (1.15 * radius,)), fill=fill)
    else:
        pen.polygon(ring(10, (1.2 * radius, 0.5 * radius)), fill=fill)
    return picture


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """Return the picture as a file of the given format."""
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()
