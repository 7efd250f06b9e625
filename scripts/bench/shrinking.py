"""What decoding a large JPEG at a fraction of its size changes: pixels, vectors, the demo policy's decisions."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from gateway.decoding.preprocess import Job, prepare
from gateway.decoding.views import cut_views
from gateway.inference.bundle import read_manifest
from gateway.moderation.verdicts import verdict_of
from gateway.observability.stage_timer import StageTimer
from scripts.bench.decoding import Pixels, job
from scripts.bench.large_pictures import large_drawings, large_photographs
from scripts.bench.plan import Plan
from scripts.bench.stack import repository_of


def views_of(data: bytes, size_px: int) -> tuple[Pixels, Pixels, Job]:
    """Return the full view and the tiles as the gateway makes them, and as every pixel gives them."""
    asked = job(data, "tiles", size_px=size_px)
    made = prepare(asked, StageTimer(), None).pixels
    with Image.open(io.BytesIO(data)) as whole:
        cut = cut_views(whole.convert("RGB"), "tiles", size_px=size_px, resize_px=size_px)
    return made, np.stack([view.pixels for view in cut]), asked


def encoded(repository: Path, rows: Pixels) -> npt.NDArray[np.float32]:
    """Return the unit vectors [N, D] that a bundle's image model gives."""
    import torch

    if engine := read_manifest(repository).exported_with.get("quantized_engine"):
        torch.backends.quantized.engine = engine
    path = repository / "clip_image" / "1" / "model.pt"
    model = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        found: npt.NDArray[np.float32] = np.concatenate(
            [model(torch.from_numpy(rows[start : start + 8])).numpy() for start in range(0, len(rows), 8)]
        )
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """What changed for one model and one kind of pictures.

    Attributes:
        model: its name.
        pictures: how many of which kind.
        views: cut from them.
        level: root mean square over the pixels, of 255.
        lost: one minus the cosine of the vectors, of each view.
    """

    model: str
    pictures: str
    views: int
    level: float
    lost: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed.

    Attributes:
        found: by model and kind of pictures.
        flipped: pictures of which the demo policy decided otherwise.
        judged: of so many.
    """

    found: tuple[Change, ...]
    flipped: int
    judged: int


def changes(plan: Plan) -> Changes:
    """Compare with full decoding: pixels, vectors of the demo model and of the plan's; the demo policy's decisions."""
    from scripts.demo.measure_policy import bound
    from scripts.demo.model import Demo

    found, flipped, judged = [], 0, 0
    demo = Demo.load()
    policy = bound(demo)
    models = {"demo": "cpu", **({plan.model: plan.device} if plan.precision == "fp32" else {})}
    for model, device in models.items():
        repository = repository_of(model, "fp32", device)
        size_px = read_manifest(repository).image.size_px
        for kind, pictures in (("photographs", large_photographs()), ("drawings", large_drawings())):
            pairs = [views_of(data, size_px)[:2] for data in pictures]
            ours, whole = (np.concatenate(side) for side in zip(*pairs, strict=True))
            level = float(np.sqrt(((ours.astype(np.float32) - whole) ** 2).mean()))
            near, far = encoded(repository, ours), encoded(repository, whole)
            found.append(Change(model, f"{len(pictures)} {kind}", len(ours), level, 1 - (near * far).sum(axis=1)))
            if model != "demo":
                continue
            ends = np.cumsum([len(pair[0]) for pair in pairs])
            for end, (made, _), data in zip(ends, pairs, pictures, strict=True):
                places = prepare(job(data, "tiles", size_px=size_px), StageTimer(), None).places
                verdicts = [verdict_of(policy, side[end - len(made) : end], places, demo.scale) for side in (near, far)]
                flipped += verdicts[0].decision != verdicts[1].decision
                judged += 1
    return Changes(tuple(found), flipped, judged)
