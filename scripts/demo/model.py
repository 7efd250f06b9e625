"""The demo CLIP itself: its shape, its preprocessing, and scores of pictures against texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

IMAGE_SIZE, PATCH_SIZE = 72, 12
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
WEIGHTS = Path(__file__).parent / "weights"

Pixels = NDArray[np.uint8]
"""Pictures [n, IMAGE_SIZE, IMAGE_SIZE, 3], RGB, 0..255."""


def build_model(vocabulary_size: int, start: int, end: int) -> CLIPModel:
    """Return an untrained demo CLIP; `start` and `end` are the ids of the start and end tokens."""
    config = CLIPConfig(
        text_config={
            "vocab_size": vocabulary_size,
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 77,
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": end,
            "projection_dim": 128,
        },
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "projection_dim": 128,
        },
        projection_dim=128,
    )
    return CLIPModel(config)


def preprocess(image: Image.Image, size: int = IMAGE_SIZE) -> Pixels:
    """Return a picture as CLIP sees it, [size, size, 3] uint8: RGB, short side to `size` (bicubic), centre crop."""
    rgb = image.convert("RGB")
    width, height = rgb.size
    short = min(width, height)
    target = (int(size * width / short), int(size * height / short))
    if target != rgb.size:
        rgb = rgb.resize(target, Image.Resampling.BICUBIC)
    left, top = round((target[0] - size) / 2.0), round((target[1] - size) / 2.0)
    return np.asarray(rgb.crop((left, top, left + size, top + size)), dtype=np.uint8)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Return pixels [n, H, W, 3] (0..255) as float [n, 3, H, W] with CLIP's mean and deviation taken out."""
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return (pixels.permute(0, 3, 1, 2).float() / 255.0 - mean) / std


def encode_images(model: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """Return unit vectors [n, D] for normalised pixels [n, 3, H, W]."""
    pooled = model.vision_model(pixel_values=pixels).pooler_output
    return torch.nn.functional.normalize(model.visual_projection(pooled), dim=-1)


def encode_texts(model: CLIPModel, ids: torch.Tensor) -> torch.Tensor:
    """Return unit vectors [n, D] for token ids [n, L], padded behind the end token."""
    pooled = model.text_model(input_ids=ids).pooler_output
    return torch.nn.functional.normalize(model.text_projection(pooled), dim=-1)


@dataclass(frozen=True)
class Demo:
    """A loaded demo model with its tokenizer; everything it gives back is numpy."""

    model: CLIPModel
    tokenizer: CLIPTokenizer

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> Demo:
        """Load from a folder in Hugging Face format. Raises OSError if files are missing."""
        return cls(CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder))

    @property
    def scale(self) -> float:
        """What cosines are multiplied by before a softmax: at most 100."""
        return float(self.model.logit_scale.detach().exp())

    def images(self, pictures: Sequence[Image.Image], batch: int = 256) -> NDArray[np.float32]:
        """Return unit vectors [n, D] of pictures of any size."""
        size = int(self.model.config.vision_config.image_size)
        parts = []
        with torch.inference_mode():
            for k in range(0, len(pictures), batch):
                pixels = np.stack([preprocess(picture, size) for picture in pictures[k : k + batch]])
                parts.append(encode_images(self.model, normalise(torch.from_numpy(pixels))).numpy())
        return np.concatenate(parts)

    def texts(self, texts: Sequence[str], batch: int = 1024) -> NDArray[np.float32]:
        """Return unit vectors [n, D] of texts."""
        parts = []
        with torch.inference_mode():
            for k in range(0, len(texts), batch):
                ids = self.tokenizer(list(texts[k : k + batch]), padding=True, truncation=True, return_tensors="pt")
                parts.append(encode_texts(self.model, ids["input_ids"]).numpy())
        return np.concatenate(parts)

    def probabilities(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the zero-shot probabilities [pictures, texts], each row summing to 1."""
        logits = self.scale * (self.images(pictures) @ self.texts(texts).T).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def save_preprocessor(folder: Path) -> None:
    """Write preprocessor_config.json, from which transformers builds the same preprocessing."""
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": IMAGE_SIZE},
        "resample": int(Image.Resampling.BICUBIC),
        "do_center_crop": True,
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
