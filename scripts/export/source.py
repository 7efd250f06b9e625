"""Where a model comes from: the bundled demo, a folder, the hub, or random weights. Imports no torch."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from scripts.export.architectures import RANDOM_PREFIX, RANDOM_SEED, random_architecture
from scripts.export.refusal import ExportRefused

DEMO = "demo"
DEMO_FOLDER = Path(__file__).resolve().parents[1] / "demo" / "weights"
HUB_ID = re.compile(r"^(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?$")
MODEL_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
)
SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True, slots=True)
class Source:
    """What ``MODEL`` names.

    Attributes:
        id: the name under which answers show the model.
        kind: ``demo``, ``folder``, ``hub`` or ``random``.
        folder: the folder in Hugging Face's format; None for the hub and for random weights.
        revision: the commit or branch asked of the hub, where one was.
    """

    id: str
    kind: str
    folder: Path | None = None
    revision: str | None = None


def parse_source(model: str) -> Source:
    """Read ``MODEL``: ``demo``, ``random:<architecture>``, a folder, or a hub id with an optional ``@revision``.

    Raises:
        ExportRefused: it is none of these.
    """
    if model == DEMO:
        if not (DEMO_FOLDER / "config.json").is_file():
            raise ExportRefused("the demo model's weights are missing: fetch them, or run `make train-demo`")
        return Source(DEMO, DEMO, DEMO_FOLDER)
    if model.startswith(RANDOM_PREFIX):
        random_architecture(model)
        return Source(model, "random")
    path = Path(model).expanduser()
    if path.is_dir():
        return Source(path.resolve().name, "folder", path.resolve())
    if path.exists():
        raise ExportRefused(f"MODEL={model} is a file: name the folder that holds config.json and model.safetensors")
    match = HUB_ID.match(model)
    if match is None or model.startswith((".", "/", "~")):
        raise ExportRefused(
            f"there is no folder {model}: name an existing folder, a hub id such as openai/clip-vit-base-patch32, "
            "`demo` or `random:ViT-B/32`"
        )
    return Source(match["id"], "hub", None, match["revision"])


def fingerprint(source: Source) -> str | None:
    """Name the state of a source without reading its weights; None where only the hub could say.

    A folder is named by names, sizes and modification times of its files, random weights by architecture and seed,
    a hub model by the commit that the local cache holds for the revision.
    """
    if source.kind == "random":
        return f"{source.id} seed {RANDOM_SEED}"
    if source.kind == "hub":
        commit = _cached_commit(source)
        return None if commit is None else f"{source.id}@{commit}"
    assert source.folder is not None  # noqa: S101 - a folder or the demo
    digest = hashlib.sha256()
    for pattern in (*MODEL_FILES, *SAFETENSORS, *PICKLES):
        for path in sorted(source.folder.glob(pattern)):
            stat = path.stat()
            digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return f"{source.id} {digest.hexdigest()}"


def _cached_commit(source: Source) -> str | None:
    from huggingface_hub import constants

    revision = source.revision or "main"
    cache = Path(constants.HF_HUB_CACHE) / f"models--{source.id.replace('/', '--')}"
    try:
        return (cache / "refs" / revision).read_text(encoding="utf-8").strip()
    except OSError:
        return revision if (cache / "snapshots" / revision).is_dir() else None


def fetch(source: Source) -> Path | None:
    """Return the folder of a source, downloading it from the hub when it is not in the cache; None for random weights.

    Raises:
        ExportRefused: the hub cannot be reached and the cache does not hold it, or there is no such model.
    """
    if source.kind != "hub":
        return source.folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def download(patterns: tuple[str, ...]) -> Path:
        return Path(snapshot_download(source.id, revision=source.revision, allow_patterns=list(patterns)))

    try:
        folder = download((*MODEL_FILES, *SAFETENSORS))
        if not list(folder.glob("*.safetensors")):
            folder = download((*MODEL_FILES, *PICKLES))
    except GatedRepoError:
        raise ExportRefused(
            f"{source.id} is gated: accept its terms on the hub and set HF_TOKEN, or choose another model"
        ) from None
    except RevisionNotFoundError:
        raise ExportRefused(f"{source.id} has no revision {source.revision}: check the name") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ExportRefused(
            f"the hub has no model {source.id} that is public: check the name, or set HF_TOKEN if it is private"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ExportRefused(
            f"the hub cannot be reached for {source.id} and the local cache does not hold it "
            f"({type(error).__name__}): check the network, or download the model elsewhere and give its folder as MODEL"
        ) from None
    return folder
