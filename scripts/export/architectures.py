"""The published CLIP architectures that can be had with random weights, for benchmarks without a download."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.export.refusal import ExportRefused

RANDOM_PREFIX = "random:"
RANDOM_SEED = 0
VOCABULARY_SIZE = 49_408
CONTEXT_LENGTH = 77


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of both towers as in the paper (Radford et al. 2021, tables 19 and 20).

    Attributes:
        image_size: side of the square picture, in pixels.
        patch_size: side of a patch, in pixels.
        vision_width: hidden size of the vision tower; its MLP is four times as wide.
        vision_layers: layers of the vision tower.
        vision_heads: attention heads of the vision tower.
        text_width: hidden size of the text tower; its MLP is four times as wide.
        text_heads: attention heads of the text tower (12 layers in all of them).
        embedding_dim: length of the common vectors.
    """

    image_size: int
    patch_size: int
    vision_width: int
    vision_layers: int
    vision_heads: int
    text_width: int
    text_heads: int
    embedding_dim: int
    text_layers: int = 12


ARCHITECTURES = {
    "ViT-B/32": Architecture(224, 32, 768, 12, 12, 512, 8, 512),
    "ViT-B/16": Architecture(224, 16, 768, 12, 12, 512, 8, 512),
    "ViT-L/14": Architecture(224, 14, 1024, 24, 16, 768, 12, 768),
    "ViT-L/14@336px": Architecture(336, 14, 1024, 24, 16, 768, 12, 768),
}


def random_architecture(model: str) -> Architecture:
    """Return the architecture that ``random:<name>`` names.

    Raises:
        ExportRefused: no architecture of that name.
    """
    name = model.removeprefix(RANDOM_PREFIX)
    try:
        return ARCHITECTURES[name]
    except KeyError:
        known = ", ".join(RANDOM_PREFIX + known for known in ARCHITECTURES)
        raise ExportRefused(f"no architecture {name!r}: choose one of {known}") from None
