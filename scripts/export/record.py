"""Notes what a bundle was exported from, and decides in no time whether a repository already holds it.

Imports neither torch nor transformers: starting a stack whose bundle is there must not wait for them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from gateway.bundle import BundleError, file_sha256, read_manifest

RECORD_NAME = "export.json"
# Raised when the same model would be exported to other files.
LAYOUT = 5


@dataclass(frozen=True, slots=True)
class Request:
    """What an export is asked for; two equal requests give the same bundle.

    Attributes:
        source: fingerprint of the model's source.
        precision: ``fp32``, ``fp16`` or ``int8``.
        device: ``cpu`` or ``cuda``.
        cores: for which instances and threads were chosen.
        layout: version of what the export writes.
    """

    source: str
    precision: str
    device: str
    cores: int
    layout: int = LAYOUT


def write_record(repository: Path, request: Request) -> None:
    """Write ``export.json`` beside a finished bundle, with the size and time of each of its files."""
    files = {name: _stamp(repository / name) for name in read_manifest(repository).checksums}
    record = {"request": dataclasses.asdict(request), "files": files}
    (repository / RECORD_NAME).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def holds(repository: Path, request: Request) -> bool:
    """Tell whether a repository holds the bundle of ``request``, whole.

    A file whose size and time are as noted counts as unchanged; any other is compared by its sha256.
    """
    try:
        record = json.loads((repository / RECORD_NAME).read_text(encoding="utf-8"))
        if record["request"] != dataclasses.asdict(request):
            return False
        for name, digest in read_manifest(repository).checksums.items():
            path = repository / name
            if _stamp(path) != record["files"].get(name) and file_sha256(path) != digest:
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BundleError):
        return False
    return True


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
