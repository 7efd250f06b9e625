"""Time and memory of looking a picture up among known ones: ``python -m scripts.bench_known``.

The hashes are random: bits of equal weight, independent. Those of real pictures crowd a little (pictures with the
spectrum of photographs share a band's value 1.15 times as often), so that lookups by PDQ cost as much more. The worst
case, hashes that all share their bands' values, is measured too: it falls back to comparing with every hash.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gateway.hash_index import HASH_BYTES
from gateway.known_pictures import KnownPictures
from gateway.store.lists import ListKind, PictureList
from scripts.bench.machine import machine

Octets = npt.NDArray[np.uint8]
NO_SHA256 = "0" * 64


def resident_mb() -> float:
    """Return the process's resident memory in megabytes (10^6 bytes)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("no VmRSS")


def flipped(rng: np.random.Generator, octets: Octets, bits: int) -> str:
    """Return the hex of a hash with as many different bits turned over."""
    unpacked = np.unpackbits(octets)
    unpacked[rng.choice(unpacked.size, bits, replace=False)] ^= 1
    return np.packbits(unpacked).tobytes().hex()


def report(name: str, ask: Callable[[str], bool], wanted: list[str], *, found: bool | None) -> None:
    """Ask for each hash, check that it is found (or not), print median and 99th percentile in milliseconds."""
    took = []
    for one in wanted:
        start = time.perf_counter()
        answer = ask(one)
        took.append(1e3 * (time.perf_counter() - start))
        if found is not None and answer is not found:
            raise SystemExit(f"{name}: wrong answer for {one}")
    print(f"{name:<48} median {np.median(took):7.3f} ms   p99 {np.percentile(took, 99):7.3f} ms")


def built(kind: ListKind, hashes: list[str], max_distance: int = 31) -> KnownPictures:
    """Build one list and print how long it took and what it holds in memory."""
    gc.collect()
    before, start = resident_mb(), time.perf_counter()
    known = KnownPictures.build([(PictureList("known", "block", kind, max_distance), hashes)])
    took = time.perf_counter() - start
    gc.collect()
    grown = resident_mb() - before
    print(f"{kind}: built from hex in {took:.2f} s; arrays {known.nbytes / 1e6:.0f} MB, process grew {grown:.0f} MB")
    return known


def main() -> None:
    """Measure both kinds and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--lookups", type=int, default=2_000)
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{machine()}, numpy {np.__version__}; {chosen.entries:,} hashes, {chosen.lookups:,} lookups each")

    octets = rng.integers(0, 256, (chosen.entries, HASH_BYTES), dtype=np.uint8)
    hashes = [row.tobytes().hex() for row in octets]
    some = rng.integers(0, chosen.entries, chosen.lookups)
    misses = [row.tobytes().hex() for row in rng.integers(0, 256, (chosen.lookups, HASH_BYTES), dtype=np.uint8)]

    known = built("sha256", hashes)
    report("sha256 hit", lambda one: bool(known.match(one)), [hashes[row] for row in some], found=True)
    report("sha256 miss", lambda one: bool(known.match(one)), misses, found=False)

    near = built("pdq", hashes)

    def by_pdq(one: str) -> bool:
        return bool(near.match(NO_SHA256, one, 100))

    report("pdq hit, 31 bits off", by_pdq, [flipped(rng, octets[row], 31) for row in some], found=True)
    report("pdq miss, 32 bits off", by_pdq, [flipped(rng, octets[row], 32) for row in some], found=False)
    report("pdq miss, unrelated", by_pdq, misses, found=False)
    few = misses[: max(1, chosen.lookups // 10)]
    for distance in (15, 47, 48, 90):
        near = near.with_list(PictureList("known", "block", "pdq", distance))
        report(f"pdq unrelated, max_distance {distance}", by_pdq, few, found=None)
    start = time.perf_counter()
    near = near.with_list(PictureList("known", "block", "pdq", 31)).adding("known", few)
    print(f"added {len(few)} hashes to the list in {1e3 * (time.perf_counter() - start):.1f} ms")
    report("pdq hit among those added", by_pdq, few, found=True)

    crowded = octets.copy()
    crowded[:, :16] = crowded[0, :16]
    near = built("pdq", [row.tobytes().hex() for row in crowded])
    alike = rng.integers(0, 256, (len(few), HASH_BYTES), dtype=np.uint8)
    alike[:, :16] = crowded[0, :16]
    report("pdq, half of the bits alike in all", by_pdq, [row.tobytes().hex() for row in alike], found=False)


if __name__ == "__main__":
    main()
