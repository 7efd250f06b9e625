"""Time and memory of looking an image up among known ones: ``python -m scripts.bench_known``."""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path

import numpy as np

from gateway.hash_matching.matcher import HashMatcher
from gateway.store.lists import HashList
from scripts.bench.machine import machine

UNLIKE = "0" * 64


def resident_mb() -> float:
    """Return the process's resident memory in megabytes (10^6 bytes)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("no VmRSS")


def main() -> None:
    """Measure lists of both kinds and several lengths, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--lookups", type=int, default=500)
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{machine()}, numpy {np.__version__}; {chosen.lookups:,} lookups each, half of them hits")
    for entries in chosen.entries:
        hashes = [rng.bytes(32).hex() for _ in range(entries)]
        held = [hashes[row] for row in rng.integers(0, entries, chosen.lookups // 2)]
        for kind in ("sha256", "pdq"):
            gc.collect()
            before, start = resident_mb(), time.perf_counter()
            known = HashMatcher().with_list(HashList("known", "block", kind, 31), hashes)
            built_s = time.perf_counter() - start
            grown = resident_mb() - before
            took = []
            for asked, wanted in [(one, True) for one in held] + [(rng.bytes(32).hex(), False) for _ in held]:
                start = time.perf_counter()
                found = known.match(asked if kind == "sha256" else UNLIKE, asked, 100)
                took.append(1e3 * (time.perf_counter() - start))
                if bool(found) is not wanted:
                    raise SystemExit(f"wrong answer for {asked}")
            print(
                f"{entries:>9,} {kind:<6}  median {np.median(took):6.3f} ms   p99 {np.percentile(took, 99):6.3f} ms   "
                f"read from hex in {built_s:.2f} s, holds {known.nbytes / 1e6:.1f} MB, process grew {grown:.0f} MB"
            )


if __name__ == "__main__":
    main()
