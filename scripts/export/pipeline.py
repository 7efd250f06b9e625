"""The export, step by step: load, trace, compare, measure, write. The only part that needs torch."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from transformers import CLIPModel

from gateway.inference.bundle import ImageTransform, Manifest, ModelIdentity
from scripts.export import checkpoint, measuring, parity, sizing, vocabulary, writing
from scripts.export.architectures import random_architecture
from scripts.export.formats.makers import Format, Model, maker
from scripts.export.order import text_precision
from scripts.export.preprocessing import read_image_transform
from scripts.export.prompts import DRAWINGS, PHOTOGRAPHS
from scripts.export.record import Measured, Request
from scripts.export.refusal import ExportRefused
from scripts.export.source import DEMO, Source, fetch
from scripts.export.towers import ImageTower, TextTower

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGE_BATCH = 64  # on a GPU; a CPU is measured
TEXT_BATCH = {"cpu": 64, "cuda": 128}
GPU_INSTANCES = 2


@dataclass(frozen=True, slots=True)
class Loaded:
    """An eager model with all that belongs to it.

    Attributes:
        eager: ``CLIPModel``, fp32, on the CPU.
        transform: of pictures.
        words: tokenizer and ids.
        revision: of the model, for the manifest.
        weights: hex sha256 of the fp32 weights.
    """

    eager: CLIPModel
    transform: ImageTransform
    words: vocabulary.Vocabulary
    revision: str
    weights: str


def export(source: Source, request: Request, repository: Path) -> Manifest:
    """Export a model into a repository that the caller holds; return its manifest.

    Raises:
        ExportRefused: it cannot be done, with the reason.
    """
    begin = time.perf_counter()
    if request.device == "cuda" and not torch.cuda.is_available():
        raise ExportRefused("DEVICE=cuda, but PyTorch finds no usable GPU: install a CUDA build, or give DEVICE=cpu")
    made_by = maker(request.format_name)
    device = torch.device(request.device)
    torch.set_num_threads(max(1, request.cores // 2))
    _say(f"loading {source.id}")
    model = load(source)
    _say(f"tracing at {request.precision} for {request.device}, as {request.format_name} for the {request.target}")
    staging, image_folder, text_folder = writing.staging_of(repository)
    write_towers(made_by, model, request, device, image_folder, text_folder)
    # What is checked and measured is what was written.
    image, text = (made_by.load(folder, device, request.target) for folder in (image_folder, text_folder))
    _say("comparing with the original model")
    figures = parity.check(
        model.eager,
        image,
        text,
        transform=model.transform,
        vocabulary=model.words,
        precision=request.precision,
        device=device,
        as_written=(request.format_name, request.target) != ("openvino", "container"),
    )
    _say(
        f"cosine at least {figures.image.min_cosine:.6f} (pictures), {figures.text.min_cosine:.6f} (texts); "
        f"largest difference {figures.image.max_abs:.1e}, {figures.text.max_abs:.1e}"
    )
    image_size, text_size = measured(model, image, text, request, device)
    _say(
        f"about {image_size.rows_per_s:.0f} pictures/s on {image_size.instances} x {image_size.threads} threads, "
        f"{text_size.rows_per_s:.0f} texts/s on {text_size.instances} x {text_size.threads}"
    )
    versions = made_by.versions(request.precision, request.device)
    manifest = _manifest(source, request, model, figures, image_size.max_batch, text_size.max_batch, versions)
    manifest = writing.finish(staging, manifest, model.words.json, image_size, text_size)
    writing.publish(staging, repository, request, Measured(image_size, text_size))
    _say(f"wrote bundle {manifest.bundle_id} to {repository} in {time.perf_counter() - begin:.1f} s")
    return manifest


def load(source: Source) -> Loaded:
    """Load the eager model of a source with transform and tokenizer.

    Raises:
        ExportRefused: not a CLIP, incomplete, or not to be had.
    """
    if source.kind == "random":
        sizes = random_architecture(source.id)
        transform = ImageTransform(sizes.image_size, sizes.image_size, OPENAI_MEAN, OPENAI_STD)
        eager, tokenizer, revision = checkpoint.load_random(source.id), vocabulary.random_tokenizer(), None
    else:
        folder = fetch(source)
        assert folder is not None  # noqa: S101 - only random weights have none
        config = checkpoint.read_config(folder)
        side = int((config.get("vision_config") or {}).get("image_size", 224))
        transform = read_image_transform(folder, side)
        tokenizer = vocabulary.folder_tokenizer(folder)
        eager = checkpoint.load_folder(folder)
        revision = folder.name if source.kind == "hub" else None
    config = eager.config
    words = vocabulary.read_vocabulary(
        tokenizer,
        context_length=int(config.text_config.max_position_embeddings),
        vocab_size=int(config.text_config.vocab_size),
        config_eos_id=int(config.text_config.eos_token_id),
    )
    weights = checkpoint.weights_sha256(eager)
    return Loaded(eager, transform, words, revision or weights[:16], weights)


def write_towers(
    made_by: Format, model: Loaded, request: Request, device: torch.device, image: Path, text: Path
) -> None:
    """Write the image and the text tower into their folders."""
    transform, words = model.transform, model.words
    # On a GPU, and where a runtime compiles the graph, sharing would only add kernels.
    sharing = device.type == "cpu" and request.format_name == "torchscript"
    image_tower = ImageTower(model.eager, transform.mean, transform.std).eval()
    text_tower = TextTower(model.eager, words.transform.eos_id, sharing=sharing).eval()
    pixels = parity.example_pixels(2, transform.size_px, seed=0).to(device)
    ids = parity.example_ids(words, 2, words.transform.context_length, seed=0).to(device)
    # The text tower first: the engine of the image tower stays set.
    made_by.write(text_tower, ids, text_precision(request.precision), request.target, text)
    made_by.write(image_tower, pixels, request.precision, request.target, image)


def measured(
    model: Loaded, image: Model, text: Model, request: Request, device: torch.device
) -> tuple[sizing.Sizing, sizing.Sizing]:
    """Measure both models and choose their share of the machine."""
    buckets = model.words.transform.length_buckets
    pixels = parity.example_pixels(8, model.transform.size_px, seed=1).to(device)
    ids = parity.example_ids(model.words, 16, buckets[min(1, len(buckets) - 1)], seed=1).to(device)
    model_bytes = 4 * sum(parameter.numel() for parameter in model.eager.parameters())
    on_cpu = request.device == "cpu"
    room, threads = sizing.instances_and_threads(request.cores, model_bytes) if on_cpu else (GPU_INSTANCES, 1)
    torch.set_num_threads(threads)

    def size(rates: Mapping[int, float], room: int, largest: int) -> sizing.Sizing:
        rate = max(rates.values())
        count = sizing.instances_needed(room, rate)
        together = rate * count if on_cpu else rate
        return sizing.Sizing(
            count, threads, largest, sizing.queue_places(together), together, sizing.queue_delay_us(rates[1])
        )

    one = measuring.rows_per_second(image, pixels, [1], seconds=0.3)
    tried = sizing.batches_worth_trying(one[1]) if on_cpu else (len(pixels),)
    several = measuring.rows_per_second(image, pixels, tried)
    largest = sizing.best_batch(several) if on_cpu else IMAGE_BATCH
    texts = measuring.rows_per_second(text, ids, [1, len(ids)])
    # Texts are few: the gateway keeps the vectors of those it has seen.
    return (
        size(one | several, room, largest),
        size(texts, max(1, room // 2), sizing.largest_batch(texts[len(ids)], TEXT_BATCH[request.device])),
    )


def _manifest(
    source: Source,
    request: Request,
    model: Loaded,
    figures: parity.Parity,
    image_batch: int,
    text_batch: int,
    versions: Mapping[str, str],
) -> Manifest:
    prompts = DRAWINGS if source.kind == DEMO else PHOTOGRAPHS
    random = source.kind == "random"
    return Manifest(
        bundle_id=checkpoint.bundle_id(model.weights, model.words.json, model.transform),
        model=ModelIdentity(source.id, model.revision, demo=source.kind == DEMO, random=random),
        precision=request.precision,
        device=request.device,
        embedding_dim=int(model.eager.config.projection_dim),
        logit_scale=math.exp(model.eager.logit_scale.detach().item()),
        image=model.transform,
        text=model.words.transform,
        image_max_batch=image_batch,
        text_max_batch=text_batch,
        templates=prompts.templates,
        negatives=prompts.negatives,
        parity=figures.as_record(),
        checksums={},
        exported_with={
            **versions,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        target=request.target,
        format_name=request.format_name,
    )


def _say(line: str) -> None:
    print(f"export: {line}", flush=True)
