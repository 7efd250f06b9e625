"""Notes what a bundle was exported from, and decides in no time whether a repository already holds it.

Imports neither torch nor transformers: starting a stack whose bundle is there must not wait for them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from gateway.inference.bundle import BundleError, file_sha256, read_manifest
from scripts.export.sizing import Sizing, Wish

RECORD_NAME = "export.json"
# Raised when the same model would be exported to other files.
LAYOUT = 11


@dataclass(frozen=True, slots=True)
class Request:
    """What an export is asked for; two equal requests give the same bundle.

    Attributes:
        source: fingerprint of the model's source.
        precision: ``fp32``, ``fp16`` or ``int8``.
        device: ``cpu`` or ``cuda``.
        cores: for which instances and threads were chosen.
        kernels: vector units that the weights were laid out for, where that matters.
        target: ``wheel`` or ``container``.
        format_name: ``torchscript`` or ``openvino``.
        layout: version of what the export writes.
    """

    source: str
    precision: str
    device: str
    cores: int
    kernels: str = ""
    target: str = "wheel"
    format_name: str = "torchscript"
    layout: int = LAYOUT


@dataclass(frozen=True, slots=True)
class Measured:
    """What the export found to be best for each model on this machine."""

    image: Sizing
    text: Sizing


@dataclass(frozen=True, slots=True)
class Held:
    """What a repository holds.

    Attributes:
        wish: of the operator, as its configs are written.
        measured: what they are written from where there is no wish.
    """

    wish: Wish
    measured: Measured


def write_record(repository: Path, request: Request, measured: Measured, wish: Wish) -> None:
    """Write ``export.json`` beside a finished bundle, with the size and time of each of its files."""
    files = {name: _stamp(repository / name) for name in read_manifest(repository).checksums}
    record = {
        "request": dataclasses.asdict(request),
        "measured": dataclasses.asdict(measured),
        "wish": dataclasses.asdict(wish),
        "files": files,
    }
    (repository / RECORD_NAME).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def held(repository: Path, request: Request) -> Held | None:
    """Return how a repository holds the bundle of ``request``, whole; None if it does not.

    A file whose size and time are as noted counts as unchanged; any other is compared by its sha256.
    """
    try:
        record = json.loads((repository / RECORD_NAME).read_text(encoding="utf-8"))
        if record["request"] != dataclasses.asdict(request):
            return None
        for name, digest in read_manifest(repository).checksums.items():
            path = repository / name
            if _stamp(path) != record["files"].get(name) and file_sha256(path) != digest:
                return None
        noted = record["measured"]
        return Held(Wish(**record["wish"]), Measured(Sizing(**noted["image"]), Sizing(**noted["text"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BundleError):
        return None


def image_sizing(repository: Path) -> Sizing:
    """Return what the image model of a repository was given of its machine.

    Raises:
        OSError, ValueError, KeyError: the repository has no record of this layout.
    """
    record = json.loads((repository / RECORD_NAME).read_text(encoding="utf-8"))
    wish = Wish(**record["wish"])
    return wish.applied(Sizing(**record["measured"]["image"]), wish.instances)


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
