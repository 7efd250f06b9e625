"""What the processor's vector units can do. Imports no torch."""

from __future__ import annotations

from pathlib import Path

UNITS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
SUM_IN_32_BITS = {"avx512_vnni", "avx_vnni", "amx_int8"}


def vector_units() -> tuple[str, ...]:
    """Return which of ``UNITS`` this processor has; none where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return tuple(unit for unit in UNITS if unit in flags)


def sums_in_32_bits() -> bool:
    """Return whether sums of products of 8-bit numbers are made in 32 bits here, so that none can overflow."""
    return bool(SUM_IN_32_BITS & set(vector_units()))
