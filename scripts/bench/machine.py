"""The machine that figures were taken on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> str:
    """Return processor, usable cores, widest vector unit, memory and versions on one line."""
    model, flags = "unknown processor", ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        if name.strip() == "flags":
            flags = f" {value.strip()} "
            break
    wide = [unit for unit in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if f" {unit} " in flags]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    vectors = f" ({', '.join(wide)})" if wide else ""
    return f"{model}{vectors}, {cores()} cores, {memory:.0f} GiB, Python {platform.python_version()}"
