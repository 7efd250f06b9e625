"""What the peers need before they can be measured: an environment each, the same weights, and their ONNX files.

All of it is made once and kept in ``.cache/peers``. Nothing is fetched but packages, in the versions that stand in
``peer_services/requirements``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from scripts.bench.report import ROOT
from scripts.export.record import LAYOUT

SERVICES = Path(__file__).parent / "peer_services"
FOLDER = ROOT / ".cache" / "peers"
OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}


def environment(name: str) -> Path:
    """Return the ``bin`` folder of a peer's environment, made unless it is there as its requirements say."""
    requirements = SERVICES / "requirements" / f"{name}.txt"
    made_of = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = FOLDER / name
    marker = folder / ".made-of"
    if marker.is_file() and marker.read_text(encoding="ascii") == made_of:
        return folder / "bin"
    print(f"peers: installing {name} into {folder} (once) ...", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    # torch brings what its build needs, CUDA's libraries or none; of all others the list is complete.
    torch = re.search(r"^torch==.*$", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    if torch:
        subprocess.run([*pip, torch[0]], check=True)
    subprocess.run([*pip, "--no-deps", "--requirement", str(requirements)], check=True)
    marker.write_text(made_of, encoding="ascii")
    return folder / "bin"


def version(name: str, package: str) -> str:
    """Return the version of a package that a peer's requirements name."""
    text = (SERVICES / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{package}==(.+)$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"{name}.txt does not name {package}")
    return found[1]


def weights(model: str) -> Path:
    """Return a folder with a model's weights, tokenizer and transform as all versions of transformers read them."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", model).strip("-").lower()
    folder = FOLDER / f"weights-{name}-{LAYOUT}"  # another tokenizer would be another model
    if not (folder / "whole").is_file():
        subprocess.run([sys.executable, "-m", "scripts.bench.peer_setup", model, folder], cwd=ROOT, check=True)
    return folder


def onnx(model: str) -> Path:
    """Return a folder with ``fp32.onnx``, ``int8.onnx`` and ``cosine.json`` of a model's image encoder."""
    source = weights(model)
    folder = source.with_name(source.name + "-onnx")
    if not (folder / "cosine.json").is_file():
        command = [environment("onnx") / "python", SERVICES / "onnx_export.py", source, folder]
        subprocess.run(command, env={**os.environ, **OFFLINE}, check=True, stdout=sys.stderr)
    return folder


def _write_weights(model: str, folder: Path) -> None:
    """Write what ``weights`` returns."""
    from scripts.export.pipeline import load
    from scripts.export.source import parse_source

    loaded = load(parse_source(model))
    loaded.eager.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(loaded.words.json)
    transform, words = dataclasses.asdict(loaded.transform), loaded.words.transform
    tokens = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    tokens |= {"pad_token": "<|endoftext|>"}
    files = {
        "special_tokens_map.json": tokens,
        "tokenizer_config.json": {
            **tokens, "model_max_length": words.context_length, "tokenizer_class": "CLIPTokenizerFast",
        },
        "preprocessor_config.json": {
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": transform["resize_px"],
            "resample": 3,
            "do_center_crop": True,
            "crop_size": transform["size_px"],
            "do_normalize": True,
            "image_mean": transform["mean"],
            "image_std": transform["std"],
        },
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    (folder / "whole").touch()


if __name__ == "__main__":
    _write_weights(sys.argv[1], Path(sys.argv[2]))
