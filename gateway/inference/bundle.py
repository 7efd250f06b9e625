"""The manifest of a bundle: what the exported model is, and how images and words must be prepared for it.

A bundle is one folder, Triton's model repository: ``clip_image/`` and ``clip_text/`` (a model in the bundle's format
and ``config.pbtxt``), and beside them the files ``manifest.json`` and ``tokenizer.json``. The export writes the
manifest with this module, the gateway reads it with this module, so there is one definition of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST_NAME = "manifest.json"
TOKENIZER_NAME = "tokenizer.json"
IMAGE_MODEL = "clip_image"
TEXT_MODEL = "clip_text"
FORMAT = 1


class BundleError(Exception):
    """The bundle is absent, incomplete or not in the format this version reads; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model this is.

    Attributes:
        id: ``demo``, the hub id, the folder's name, or ``random:<architecture>``.
        revision: commit of the hub, or a digest of the weights where there is none.
        demo: the bundled demo model, which understands drawings only.
        random: random weights for benchmarks; its answers mean nothing.
    """

    id: str
    revision: str
    demo: bool
    random: bool


@dataclass(frozen=True, slots=True)
class ImageTransform:
    """The reference transform: short side to ``resize_px`` (bicubic), centre crop to ``size_px``, mean and std.

    ``mean`` and ``std`` are per RGB channel on the 0..1 scale. They are applied inside the exported model, so a client
    sends plain uint8 pixels; they stand here for the record and for tests.
    """

    size_px: int
    resize_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class TextTransform:
    """How words become ids.

    Attributes:
        context_length: most tokens of a prompt, start and end token included.
        length_buckets: ascending lengths that prompts are padded to; the last is ``context_length``.
        bos_id: id of the start token.
        eos_id: id of the end token, whose position the text vector is read from.
        pad_id: id that fills the rest; the text tower is causal and never reads behind the end token.
        tokenizer_sha256: digest of ``tokenizer.json``.
    """

    context_length: int
    length_buckets: tuple[int, ...]
    bos_id: int
    eos_id: int
    pad_id: int
    tokenizer_sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything the gateway needs to know about a bundle.

    Attributes:
        bundle_id: names weights, tokenizer and transform together; the same for every precision and device.
        precision: ``fp32``, ``fp16`` or ``int8``.
        device: ``cpu`` or ``cuda``, as exported for.
        embedding_dim: D, length of the vectors of both towers.
        logit_scale: factor on the cosine similarity before the softmax (CLIP: 100).
        image_max_batch: ``max_batch_size`` of ``clip_image``.
        text_max_batch: ``max_batch_size`` of ``clip_text``.
        templates: default prompt templates, each with one ``{}``.
        negatives: default negative prompts of ``independent`` mode, used as they are, without a template.
        parity: figures against the eager model, as measured by the export.
        checksums: sha256 of each file of the bundle but the manifest, by relative path.
        exported_with: versions of the exporting programs, and ``quantized_engine``: the kernels they chose.
        target: the server that parity, threads and kernels are for: ``wheel``, or NVIDIA's ``container``.
        format_name: of the models' files, ``torchscript`` or ``openvino``.
        format: version of this manifest.
    """

    bundle_id: str
    model: ModelIdentity
    precision: str
    device: str
    embedding_dim: int
    logit_scale: float
    image: ImageTransform
    text: TextTransform
    image_max_batch: int
    text_max_batch: int
    templates: tuple[str, ...]
    negatives: tuple[str, ...]
    parity: dict[str, Any]
    checksums: dict[str, str]
    exported_with: dict[str, str]
    target: str = "wheel"
    format_name: str = "torchscript"
    format: int = FORMAT

    @property
    def text_checksum(self) -> str:
        """Hex sha256 of what makes vectors of texts: the text tower, without its config, and the tokenizer.

        Towers of two precisions differ. A manifest without checksums stands for its bundle id, precision and device.
        """
        towers = {name: digest for name, digest in self.checksums.items() if name.startswith(f"{TEXT_MODEL}/")}
        towers.pop(f"{TEXT_MODEL}/config.pbtxt", None)
        unnamed = [self.bundle_id, self.precision, self.device]
        parts = [sorted(towers.items()) or unnamed, self.text.tokenizer_sha256]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def described(self) -> dict[str, Any]:
        """Return what clients may know of the model, as ``/v1/models`` shows it."""
        return {
            "id": self.model.id,
            "revision": self.model.revision,
            "bundle_id": self.bundle_id,
            "embedding_dim": self.embedding_dim,
            "image_size": self.image.size_px,
            "context_length": self.text.context_length,
            "precision": self.precision,
            "device": self.device,
            "demo": self.model.demo,
            "random": self.model.random,
            "logit_scale": self.logit_scale,
            "templates": list(self.templates),
            "negatives": list(self.negatives),
        }

    def to_json(self) -> str:
        """Return the text of ``manifest.json``."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"


def read_manifest(repository: Path) -> Manifest:
    """Read ``manifest.json`` of a model repository.

    Raises:
        BundleError: no manifest there, or not one this version reads.
    """
    path = repository / MANIFEST_NAME
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"no bundle in {repository}: export a model into it first") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise BundleError(f"{path} is not a manifest of format {FORMAT}: export the model again")
    try:
        image = {**raw["image"], "mean": tuple(raw["image"]["mean"]), "std": tuple(raw["image"]["std"])}
        text = {**raw["text"], "length_buckets": tuple(raw["text"]["length_buckets"])}
        parts = {
            "model": ModelIdentity(**raw["model"]),
            "image": ImageTransform(**image),
            "text": TextTransform(**text),
            "templates": tuple(raw["templates"]),
            "negatives": tuple(raw["negatives"]),
        }
        return Manifest(**{**raw, **parts})
    except (KeyError, TypeError) as error:
        raise BundleError(f"{path} lacks or has an unknown entry: {error}") from error


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
