"""``python -m scripts.bench [section ...]``: measures, prints tables and the machine, and keeps what was measured.

Without sections all but ``against`` and ``formats`` are measured, the peers only with ``PEERS=1``; with ``DEVICE=cuda``
the GPU is. ``--write`` composes docs/benchmarks.md of everything kept, measured now or before.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.bench.machine import Stolen, machine
from scripts.bench.plan import Plan
from scripts.bench.report import ROOT, compose, keep, load

SECTIONS = (
    "gateway", "latency", "encoder", "intake", "precision", "text", "wire", "memory", "scale", "moderation", "peers",
    "gpu", "cost",
)  # fmt: skip
"""Modules of this package with a function ``measure(plan) -> Section``, in the order of docs/benchmarks.md."""


GPU_SECTIONS = ("gpu", "cost")
WITH_ANOTHER = ("against", "formats")
"""Sections that need ``--checkout`` or the extra ``openvino``; docs/benchmarks.md leaves them out."""


def sections_of(named: Sequence[str], *, device: str, peers: bool) -> tuple[str, ...]:
    """Return the sections to measure: those named, or all that belong to a device; the peers only when asked for."""
    if named:
        return tuple(named)
    if device == "cuda":
        return GPU_SECTIONS
    return tuple(name for name in SECTIONS if peers or name != "peers")


def main() -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join((*SECTIONS, *WITH_ANOTHER))}")
    parser.add_argument("--model", default=os.environ.get("BENCH_MODEL", "random:ViT-B/32"))
    parser.add_argument("--precision", default=os.environ.get("PRECISION") or "fp32")
    parser.add_argument("--device", default=os.environ.get("DEVICE") or "auto")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each single measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100_000, help="of the long run that watches memory")
    parser.add_argument("--peers", action="store_true", default=os.environ.get("PEERS") == "1")
    price = float(os.environ.get("PRICE_PER_HOUR") or 0.20)
    parser.add_argument("--price-per-hour", type=float, default=price, help="of this machine, US dollars")
    parser.add_argument("--checkout", type=Path, help="another checkout of this project, for the section against")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--write-only", action="store_true", help="write it from what was kept, measuring nothing")
    given = parser.parse_args()
    if unknown := [name for name in given.sections if name not in (*SECTIONS, *WITH_ANOTHER)]:
        parser.error(f"no section {', '.join(unknown)}: choose from {', '.join(SECTIONS)}")
    plan = Plan(
        given.model, given.precision, given.device, given.seconds, given.rounds, given.requests, given.peers,
        given.price_per_hour, given.checkout and given.checkout.resolve(),
    )  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    failed = []
    print(machine(), flush=True)
    chosen = sections_of(given.sections, device=given.device, peers=given.peers)
    for name in () if given.write_only else chosen:
        print(f"\n# {name}", file=sys.stderr, flush=True)
        stolen = Stolen()
        try:
            section = importlib.import_module(f"scripts.bench.{name}").measure(plan)
        except Exception as error:  # noqa: BLE001 - the other sections are measured all the same
            print(f"bench: {name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
            continue
        keep(name, section, plan, stolen.share())
        print(f"\n## {section.title}\n\n{section.markdown()}", flush=True)
    if given.write or given.write_only:
        kept = [one for name in SECTIONS if (one := load(name))]
        (ROOT / "docs" / "benchmarks.md").write_text(compose(kept), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
