"""Writes ``config.pbtxt``, for NVIDIA's backends and for the Python-based ones in ``scripts/triton``."""

from __future__ import annotations

import json
from collections.abc import Mapping

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2 as schema

from gateway.inference.bundle import IMAGE_MODEL, TEXT_MODEL, Manifest
from scripts.export.formats.serving import BACKENDS, batches_itself, parameters
from scripts.export.order import text_precision
from scripts.export.sizing import Sizing


def image_config(manifest: Manifest, sizing: Sizing) -> str:
    """Return the text of ``clip_image/config.pbtxt``."""
    side = manifest.image.size_px
    config = _config(IMAGE_MODEL, manifest, sizing, about_image(manifest))
    config.input.add(name="pixels", data_type=schema.TYPE_UINT8, dims=_dims(manifest, side, side, 3))
    for batch in _warmup_batches(sizing.max_batch):
        warm = _warmup(config, manifest, f"batch {batch}", "pixels", batch, side, side, 3)
        warm.data_type, warm.random_data = schema.TYPE_UINT8, True
    return str(text_format.MessageToString(config))


def text_config(manifest: Manifest, sizing: Sizing) -> str:
    """Return the text of ``clip_text/config.pbtxt``."""
    config = _config(TEXT_MODEL, manifest, sizing, about_text(manifest))
    config.input.add(name="input_ids", data_type=schema.TYPE_INT64, dims=_dims(manifest, -1))
    for length in manifest.text.length_buckets:
        for batch in (1, sizing.max_batch) if length == manifest.text.length_buckets[0] else (1,):
            warm = _warmup(config, manifest, f"batch {batch} of {length} tokens", "input_ids", batch, length)
            warm.data_type, warm.zero_data = schema.TYPE_INT64, True
    return str(text_format.MessageToString(config))


def about_model(manifest: Manifest) -> dict[str, str]:
    """Return what identifies the model to a client that talks to Triton alone."""
    return {
        "bundle_id": manifest.bundle_id,
        "model_id": manifest.model.id,
        "model_revision": manifest.model.revision,
        "demo": json.dumps(manifest.model.demo),
        "random_weights": json.dumps(manifest.model.random),
        "precision": manifest.precision,
        "embedding_dim": str(manifest.embedding_dim),
        "logit_scale": repr(manifest.logit_scale),
    }


def about_image(manifest: Manifest) -> dict[str, str]:
    """Return how a client prepares a picture. Mean and std are for the record: the model applies them."""
    return {
        **about_model(manifest),
        "image_size_px": str(manifest.image.size_px),
        "resize_px": str(manifest.image.resize_px),
        "resize_rule": "convert to RGB, short side to resize_px (Pillow bicubic), centre crop to image_size_px",
        "mean": json.dumps(manifest.image.mean),
        "std": json.dumps(manifest.image.std),
    }


def about_text(manifest: Manifest) -> dict[str, str]:
    """Return how a client prepares a text."""
    text = manifest.text
    return {
        **about_model(manifest),
        "precision": text_precision(manifest.precision),
        "context_length": str(text.context_length),
        "length_buckets": json.dumps(text.length_buckets),
        "bos_id": str(text.bos_id),
        "eos_id": str(text.eos_id),
        "pad_id": str(text.pad_id),
        "tokenizer_sha256": text.tokenizer_sha256,
        "templates": json.dumps(manifest.templates),
        "negatives": json.dumps(manifest.negatives),
    }


def _config(name: str, manifest: Manifest, sizing: Sizing, about: Mapping[str, str]) -> schema.ModelConfig:
    backend, platform = BACKENDS[manifest.format_name]
    config = schema.ModelConfig(
        name=name,
        backend=backend,
        platform=platform,
        max_batch_size=sizing.max_batch if batches_itself(manifest) else 0,
        output=[
            schema.ModelOutput(
                name="embedding__0", data_type=schema.TYPE_FP32, dims=_dims(manifest, manifest.embedding_dim)
            ),
        ],
    )
    group = schema.ModelInstanceGroup
    kind = group.KIND_GPU if manifest.device == "cuda" else group.KIND_CPU
    config.instance_group.add(count=sizing.instances, kind=kind)
    # A delay, and no queue policy: with a bound, a timeout or its override Triton makes no batch ready ahead, and may
    # sleep half a second beside an idle instance (server 2.51: 43 % of requests at 32 in flight on one instance). The
    # gateway counts in its stead, by ``inferences_at_most``, and a deadline that has passed cancels.
    if batches_itself(manifest):
        config.dynamic_batching.max_queue_delay_microseconds = sizing.delay_us
    bound = {"inferences_at_most": str(sizing.queue + sizing.instances * sizing.max_batch)}
    for key, value in {**parameters(name, manifest, sizing), **bound, **about}.items():
        config.parameters[key].string_value = value
    return config


def _dims(manifest: Manifest, *dims: int) -> list[int]:
    """Return a tensor's dims as the config names them: without the rows where Triton puts requests together."""
    return [*dims] if batches_itself(manifest) else [-1, *dims]


def _warmup(
    config: schema.ModelConfig, manifest: Manifest, name: str, tensor: str, rows: int, *dims: int
) -> schema.ModelWarmup.Input:
    """Add a warm-up of some rows and return its input, which still lacks its values."""
    batching = batches_itself(manifest)
    warm = config.model_warmup.add(name=name, batch_size=rows if batching else 0).inputs[tensor]
    warm.dims.extend(dims if batching else (rows, *dims))
    return warm


def _warmup_batches(max_batch: int) -> list[int]:
    return sorted({1, max(1, max_batch // 4), max_batch})
