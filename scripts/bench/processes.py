"""Processor time of a stack's processes, by what they are."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

KINDS = (
    ("gateway.decoding.workers.worker", "decoders"),
    ("-m\0gateway", "gateway"),
    ("triton_python_backend_stub", "encoders"),
    ("tritonserver", "triton"),
)
"""Words of a command line, the first that fits counts."""


def spent(root: int) -> dict[str, float]:
    """Return processor seconds by kind, of a process and all below it that live; what has ended is not counted."""
    found: defaultdict[str, float] = defaultdict(float)
    tick = os.sysconf("SC_CLK_TCK")
    children: defaultdict[int, list[int]] = defaultdict(list)
    told: dict[int, tuple[str, float]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            words = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # ended meanwhile
        children[int(fields[1])].append(int(folder.name))
        told[int(folder.name)] = (words, sum(map(int, fields[11:13])) / tick)
    todo = [root]
    while todo:
        process = todo.pop()
        todo += children[process]
        if process in told:
            words, seconds = told[process]
            found[next((kind for word, kind in KINDS if word in words), "launcher")] += seconds
    return dict(found)
