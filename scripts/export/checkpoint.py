"""Loads the eager model: one path for the demo, folders, the hub and random weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel
from transformers.utils import logging

from gateway.inference.bundle import ImageTransform
from scripts.export.architectures import CONTEXT_LENGTH, RANDOM_SEED, VOCABULARY_SIZE, random_architecture
from scripts.export.refusal import ExportRefused

OTHER_FAMILIES = {
    "siglip": "SigLIP",
    "siglip2": "SigLIP 2",
    "altclip": "AltCLIP",
    "chinese_clip": "Chinese-CLIP",
    "metaclip_2": "MetaCLIP 2",
    "clipseg": "CLIPSeg",
    "xclip": "X-CLIP",
    "blip": "BLIP",
    "blip-2": "BLIP-2",
    "align": "ALIGN",
    "flava": "FLAVA",
    "groupvit": "GroupViT",
    "owlvit": "OWL-ViT",
    "vision-text-dual-encoder": "a vision-text dual encoder",
    "clip_vision_model": "the vision half of a CLIP",
    "clip_text_model": "the text half of a CLIP",
}


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` and refuse what is not a CLIP.

    Raises:
        ExportRefused: no config, or one of another kind of model.
    """
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "open_clip_config.json").is_file():
            raise ExportRefused(
                "this is an OpenCLIP folder, without the config.json of transformers: take a version of the model "
                "converted to transformers' CLIP format"
            )
        raise ExportRefused("this is no CLIP folder: it has no config.json beside its weights")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportRefused(f"config.json of the model cannot be read ({error}): fetch the model again") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clip":
        name = OTHER_FAMILIES.get(str(kind), f"a model of type {kind!r}")
        raise ExportRefused(
            f"this is {name}, which is not supported: choose a CLIP in transformers' format (model_type clip), such as "
            "openai/clip-vit-base-patch32"
        )
    return dict(config)


def load_folder(folder: Path) -> CLIPModel:
    """Load an eager fp32 ``CLIPModel`` with attention written out, in evaluation mode.

    Raises:
        ExportRefused: not a CLIP, or its weights are absent, unreadable or incomplete.
    """
    read_config(folder)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    safetensors = bool(list(folder.glob("*.safetensors")))
    if not safetensors:
        if not list(folder.glob("pytorch_model*.bin")):
            raise ExportRefused("the model has no weights: model.safetensors is missing")
        print("note: this model has pickled weights only; they are read by torch's restricted unpickler", flush=True)
    try:
        model, loading = CLIPModel.from_pretrained(
            folder,
            use_safetensors=safetensors,
            local_files_only=True,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except Exception as error:  # noqa: BLE001 - transformers, safetensors and torch each raise their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportRefused(
            f"the model's weights cannot be loaded ({reason}): fetch the model again, as safetensors if it has them"
        ) from None
    lacking = sorted(loading["missing_keys"]) + sorted(str(key) for key in loading["mismatched_keys"])
    if lacking:
        raise ExportRefused(
            f"the weights are not a whole CLIP: {len(lacking)} tensors are missing or of another shape, "
            f"{lacking[0]} first; fetch the model again"
        )
    return model.eval()


def load_random(name: str) -> CLIPModel:
    """Build an eager fp32 ``CLIPModel`` of a named architecture with seeded random weights.

    Args:
        name: ``random:<architecture>``.
    """
    sizes = random_architecture(name)
    config = CLIPConfig(
        projection_dim=sizes.embedding_dim,
        # The scale that CLIP's training ends at: exp(4.6052) = 100.
        logit_scale_init_value=4.6052,
        text_config={
            "vocab_size": VOCABULARY_SIZE,
            "hidden_size": sizes.text_width,
            "intermediate_size": 4 * sizes.text_width,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": sizes.text_heads,
            "max_position_embeddings": CONTEXT_LENGTH,
            "bos_token_id": VOCABULARY_SIZE - 2,
            "eos_token_id": VOCABULARY_SIZE - 1,
        },
        vision_config={
            "image_size": sizes.image_size,
            "patch_size": sizes.patch_size,
            "hidden_size": sizes.vision_width,
            "intermediate_size": 4 * sizes.vision_width,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
        },
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        return CLIPModel(config).eval()


def weights_sha256(model: CLIPModel) -> str:
    """Return the hex sha256 of the fp32 weights: names sorted, each with its shape and its bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().to(torch.float32).contiguous().numpy().data)
    return digest.hexdigest()


def bundle_id(weights: str, tokenizer: bytes, transform: ImageTransform) -> str:
    """Name weights, tokenizer and transform together: 16 hex digits, the same for every precision and device."""
    digest = hashlib.sha256()
    digest.update(weights.encode())
    digest.update(hashlib.sha256(tokenizer).digest())
    digest.update(json.dumps(asdict(transform), sort_keys=True).encode())
    return digest.hexdigest()[:16]
