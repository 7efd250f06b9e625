"""Decides between CPU and GPU. Imports no torch."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(device: str) -> str:
    """Return ``cpu`` or ``cuda``; ``auto`` is ``cuda`` where this PyTorch was built for it and a GPU is there."""
    if device != "auto":
        return device
    return "cuda" if Path("/dev/nvidiactl").exists() and _torch_has_cuda() else "cpu"


def _torch_has_cuda() -> bool:
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    try:
        version = (Path(found.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\b[^=]*= '", version, re.MULTILINE) is not None
