"""Compares the exported files with the eager model on the same pictures and texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm
from transformers import CLIPModel

from gateway.inference.bundle import ImageTransform
from scripts.export.formats.makers import Model
from scripts.export.refusal import ExportRefused
from scripts.export.vocabulary import Vocabulary

BATCHES = (1, 2, 7)
ALIKE_ROWS, ALIKE_TOKENS = 24, 4
"""Of one more batch of texts whose rows begin alike, as those of one template do: the text tower may share that."""
FP32_TOLERANCE = 1e-4
COSINE_FLOOR = {"fp32": 0.99999, "fp16": 0.999, "int8": 0.995}
TEXTS = (
    "a photo of a cat",
    "a drawing of a red circle",
    "a person",
    "two dogs on a beach at sunset",
    "a",
    "a handwritten sign that says no",
    "an empty picture",
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far unit vectors are from the eager model's.

    Attributes:
        max_abs: largest difference of one coordinate.
        min_cosine: smallest cosine of a pair.
        vectors: how many were compared.
    """

    max_abs: float
    min_cosine: float
    vectors: int


@dataclass(frozen=True, slots=True)
class Parity:
    """The figures of both towers, and what was asked of them."""

    image: Agreement
    text: Agreement
    cosine_floor: float
    max_abs_tolerance: float | None

    def as_record(self) -> dict[str, Any]:
        """Return the figures as they stand in the manifest."""
        return asdict(self)


def example_pixels(count: int, side: int, seed: int) -> torch.Tensor:
    """Return pictures uint8 [count, side, side, 3]: soft colour fields with grain, every fourth one pure noise."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.uniform(0, 255, (count, 3, 5, 5)).astype(np.float32))
    fields = functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=True)
    pictures = fields + torch.from_numpy(random.normal(0, 12, (count, 3, side, side)).astype(np.float32))
    pictures[::4] = torch.from_numpy(random.uniform(0, 255, tuple(pictures[::4].shape)).astype(np.float32))
    return pictures.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def example_ids(vocabulary: Vocabulary, count: int, length: int, seed: int) -> torch.Tensor:
    """Return ids int64 [count, length]: sentences that fit, then random ids with the end token anywhere."""
    transform = vocabulary.transform
    rows = vocabulary.padded(list(TEXTS), length)[:count]
    random = np.random.default_rng(seed)
    special = {transform.bos_id, transform.eos_id}
    ordinary = [index for index in range(max(special) + 1) if index not in special]
    while len(rows) < count:
        words = int(random.integers(1, length - 1))
        row = [transform.bos_id, *random.choice(ordinary, words).tolist(), transform.eos_id]
        rows.append(row + [transform.pad_id] * (length - len(row)))
    return torch.tensor(rows, dtype=torch.int64)


def check(
    eager: CLIPModel,
    image: Model,
    text: Model,
    *,
    transform: ImageTransform,
    vocabulary: Vocabulary,
    precision: str,
    device: torch.device,
    as_written: bool = True,
) -> Parity:
    """Compare at batch 1, 2 and 7, and at every length bucket; there with rows that begin alike, too.

    Args:
        eager: the original.
        image: the exported image tower.
        text: the exported text tower.
        transform: of pictures.
        vocabulary: of texts.
        precision: ``fp32``, ``fp16`` or ``int8``.
        device: of the exported towers.
        as_written: whether the server computes in the precision of the files; else fp32 may be bf16 there.

    Raises:
        ExportRefused: a vector differs by more than the precision may, or is no finite unit vector.
    """
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (transform.mean, transform.std))
    pairs_image, pairs_text = [], []
    steps = len(BATCHES) + (len(BATCHES) + 1) * len(vocabulary.transform.length_buckets)
    with torch.inference_mode(), tqdm(total=steps, desc="export: comparing", unit="batch", disable=None) as bar:
        for batch in BATCHES:
            pixels = example_pixels(batch, transform.size_px, seed=batch)
            plain = (pixels.permute(0, 3, 1, 2).float() / 255.0 - mean) / std
            expected = eager.get_image_features(pixel_values=plain).pooler_output
            pairs_image.append((functional.normalize(expected, dim=-1), image(pixels.to(device)).cpu()))
            bar.update()
        for batch in (*BATCHES, ALIKE_ROWS):
            for length in vocabulary.transform.length_buckets:
                ids = example_ids(vocabulary, batch, length, seed=batch)
                if batch == ALIKE_ROWS:
                    ids[:, :ALIKE_TOKENS] = ids[0, :ALIKE_TOKENS]
                expected = eager.get_text_features(input_ids=ids).pooler_output
                pairs_text.append((functional.normalize(expected, dim=-1), text(ids.to(device)).cpu()))
                bar.update()
    tolerance = FP32_TOLERANCE if precision == "fp32" and device.type == "cpu" and as_written else None
    floor = COSINE_FLOOR[precision] if as_written else min(COSINE_FLOOR[precision], COSINE_FLOOR["fp16"])
    parity = Parity(_agreement(pairs_image), _agreement(pairs_text), floor, tolerance)
    for name, found in (("image", parity.image), ("text", parity.text)):
        if not found.min_cosine >= parity.cosine_floor:
            raise ExportRefused(
                f"the {precision} {name} tower departs too far from the original (cosine {found.min_cosine:.5f}, "
                f"at least {parity.cosine_floor} is asked): choose another PRECISION"
            )
        if tolerance is not None and not found.max_abs <= tolerance:
            raise ExportRefused(
                f"the {name} tower differs from the original by {found.max_abs:.2e} where {tolerance:.0e} is allowed: "
                "this model is not computed as CLIP is"
            )
    return parity


def _agreement(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Agreement:
    expected = torch.cat([pair[0] for pair in pairs]).double()
    found = torch.cat([pair[1] for pair in pairs]).double()
    return Agreement(
        max_abs=float((expected - found).abs().max()),
        min_cosine=float(functional.cosine_similarity(expected, found).min()),
        vectors=len(expected),
    )
