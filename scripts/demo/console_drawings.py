"""``python -m scripts.demo.console_drawings``: the drawings of the console's tour, with which its queue is filled.

They come from all hands that draw what the demo model is to catch, and what is harmless and close to it. The same
drawings come each time. ``drawings.json`` beside them lists their names, in the order in which the tour sends them.
"""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

from PIL import Image

from scripts.demo.hands import HANDS, HARMLESS, OFFENDING

FOLDER = Path("gateway/console/demo")
SIDE_PX = 224
QUALITY = 40  # of WebP: the lowest at which the lines of a crayon are still lines
BUDGET_BYTES = 150_000
SHOWN = ("flat", "crayon", "paper", "ink")
EACH = {"splatter": 3, "scrawl": 3, "bare figure": 3} | dict.fromkeys(HARMLESS, 1) | {"face": 2}


def drawn() -> dict[str, bytes]:
    """Return each drawing as WebP, by its name: what it shows, who drew it, its number."""
    made = {}
    for hand in SHOWN:
        for what in (*OFFENDING, *HARMLESS):
            dice = random.Random(f"console {hand} {what}")  # noqa: S311 - lots, not secrets
            for number in range(EACH[what]):
                name = f"{what.replace(' ', '-')}-{hand}-{number + 1}"
                made[name] = as_webp(HANDS[hand][what](dice))
    return made


def as_webp(image: Image.Image) -> bytes:
    """Return a drawing of at most SIDE_PX as WebP."""
    small = image.convert("RGB")
    small.thumbnail((SIDE_PX, SIDE_PX))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()


def main() -> None:
    """Write the drawings in place of those that are there.

    Raises:
        SystemExit: together they are larger than BUDGET_BYTES.
    """
    made = drawn()
    names = sorted(made)
    random.Random("console").shuffle(names)  # noqa: S311 - lots: what one reviewer meets is mixed
    size = sum(map(len, made.values()))
    if size > BUDGET_BYTES:
        raise SystemExit(f"{len(made)} drawings have {size} bytes, more than {BUDGET_BYTES}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for name, content in made.items():
        (FOLDER / f"{name}.webp").write_bytes(content)
    (FOLDER / "drawings.json").write_text(json.dumps(names, indent=0) + "\n")
    print(f"{len(made)} drawings, {size} bytes")


if __name__ == "__main__":
    main()
