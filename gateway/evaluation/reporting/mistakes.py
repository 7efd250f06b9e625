"""The worst mistakes: what was missed with the lowest scores, and harmless images with the highest."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gateway.evaluation.judged import JudgedImage, JudgedSet
from gateway.evaluation.metrics import CategoryFigures

SHOWN = 6  # of each kind and category
THUMBNAIL_PX = 192
THUMBNAIL_QUALITY = 70


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image on the wrong side of a category's threshold.

    Attributes:
        source: as the table of images names it.
        score: of the category.
        decision: on the whole image; None where a classifier was asked.
        labels: what is true of it.
        thumbnail: ``data:`` URI of a JPEG; None where none was asked for, or its bytes are not on this machine.
    """

    source: str
    score: float
    decision: str | None
    labels: tuple[str, ...]
    thumbnail: str | None


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Those of one category, worst first."""

    category: str
    missed: tuple[Mistake, ...]
    false_alarms: tuple[Mistake, ...]


def worst(judged: JudgedSet, figures: Sequence[CategoryFigures], *, thumbnails: bool) -> list[Mistakes]:
    """Return the worst mistakes of each category that has a threshold, and made one.

    Args:
        judged: images that the figures are of.
        figures: of its categories.
        thumbnails: whether small copies of the images are made.
    """
    found = []
    for entry in figures:
        at = entry.review.at if entry.review else 0.5  # a classifier's label has no threshold
        above = entry.scores >= at
        rising = np.argsort(entry.scores, kind="stable")
        missed = [judged.images[i] for i in rising if entry.truth[i] and not above[i]][:SHOWN]
        alarms = [judged.images[i] for i in rising[::-1] if above[i] and not entry.truth[i]][:SHOWN]
        if missed or alarms:
            made = [
                tuple(_mistake(image, entry.category, thumbnails=thumbnails) for image in side)
                for side in (missed, alarms)
            ]
            found.append(Mistakes(entry.category, made[0], made[1]))
    return found


def thumbnail(source: str) -> str | None:
    """Return a small JPEG of a file on this machine as a ``data:`` URI; None of all else."""
    path = Path(source)
    try:
        if not path.is_file():
            return None
        with Image.open(path) as image:
            image.draft("RGB", (THUMBNAIL_PX, THUMBNAIL_PX))
            small = ImageOps.exif_transpose(image).convert("RGB")
            small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(packed.getvalue()).decode()}"


def _mistake(image: JudgedImage, category: str, *, thumbnails: bool) -> Mistake:
    return Mistake(
        image.image.source,
        image.scores.get(category, 0.0),
        image.decision,
        tuple(sorted(image.image.labels)),
        thumbnail(image.image.source) if thumbnails else None,
    )
