"""The machine that figures were taken on, in words."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

_STEAL = (
    8  # of the line "cpu" in /proc/stat: ticks in which this machine had work and its host did other things (proc(5))
)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


class Stolen:
    """What a host takes from a virtual machine, counted from when this is made."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._before = _stolen_ticks()

    def share(self) -> float:
        """Return the part of the time of all processors that was taken, 0.0 to 1.0; 0.0 where the host does not say."""
        ticks = (time.monotonic() - self._start) * os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1)
        return (_stolen_ticks() - self._before) / max(1.0, ticks)


def _stolen_ticks() -> int:
    first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()
    return int(first[_STEAL]) if len(first) > _STEAL else 0


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
