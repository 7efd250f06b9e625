"""A tiny CLIP with random weights, made on the spot, and its export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from scripts.export.__main__ import main

PREPROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 36},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.25, 0.3],
}


def tiny_clip(folder: Path, *, seed: int = 0, **text: Any) -> Path:
    """Write a CLIP with random weights in Hugging Face's format: 32 pixels, 20 tokens."""
    from tokenizers.pre_tokenizers import ByteLevel

    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    config = CLIPConfig(
        projection_dim=24,
        text_config={
            "vocab_size": 514,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 20,
            "bos_token_id": 512,
            "eos_token_id": 513,
            **text,
        },
        vision_config={
            "image_size": 32,
            "patch_size": 10,  # does not divide the side: the last pixels belong to no patch
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
    )
    torch.manual_seed(seed)
    CLIPModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder


def export(model: Path | str, repository: Path, *more: str) -> int:
    return main(["--model", str(model), "--repository", str(repository), "--device", "cpu", *more])
