"""Fuzzes the pictures of a running gateway: ``python -m scripts.fuzz --url http://127.0.0.1:8000 --count 100000``.

Every picture must get scores or an error of the contract about itself, within the request's deadline, and the memory of
the gateway must not grow. Ends with 0; with 1 when something offended (it is then kept in the folder); with 2 when no
gateway answers. ``--seed S --first N --count 1`` sends mutation N of a run again. A gateway with API keys
needs one with the role infer in CLIP_API_KEY.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from scripts.fuzz.memory import MIB, Memory, listener
from scripts.fuzz.mutate import mutation
from scripts.fuzz.send import Run, Sender, Tally

ROOT = Path(__file__).parents[2]
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
SAMPLE_EVERY_S, SAY_EVERY_S = 1.0, 15.0


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.fuzz", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the gateway")
    parser.add_argument("--count", type=int, default=100_000, help="mutations to send")
    parser.add_argument("--minutes", type=float, default=120.0, help="stop after this long")
    parser.add_argument("--seed", type=int, default=1, help="of the run: the same seed, the same mutations")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--batch", type=int, default=16, help="pictures in a request; more leave animations few frames")
    parser.add_argument("--concurrency", type=int, default=2, help="requests at a time; low, so that none is refused")
    parser.add_argument("--deadline-s", type=float, default=10.0, help="the gateway's REQUEST_TIMEOUT_S")
    parser.add_argument("--corpus", type=Path, default=ROOT / "tests" / "corpus" / "pictures", help="whole pictures")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "fuzz", help="where offenders are kept")
    parser.add_argument("--pid", type=int, help="the gateway's process; found by its port on this machine")
    parser.add_argument("--growth-mib", type=float, default=64.0, help="growth behind the warm-up that is an offence")
    return parser.parse_args(arguments)


async def watch(memory: Memory | None, tally: Tally) -> None:
    """Sample the memory and say how far the run is, until cancelled."""
    start_s = said_s = time.monotonic()
    while True:
        await asyncio.sleep(SAMPLE_EVERY_S)
        held = memory.look() if memory is not None else None
        now_s = time.monotonic()
        if now_s - said_s >= SAY_EVERY_S:
            said_s = now_s
            rate = tally.sent / (now_s - start_s)
            holds = "" if held is None else f", gateway {held / MIB:.0f} MiB"
            print(f"{tally.sent:,} sent, {rate:.0f}/s, {len(tally.offenders)} offenders{holds}", flush=True)


async def fuzz(given: argparse.Namespace, seeds: list[bytes], memory: Memory | None) -> Tally:
    """Send the run and return what came of it."""
    run = Run(
        given.first,
        given.count,
        given.batch,
        given.concurrency,
        given.deadline_s,
        time.monotonic() + 60 * given.minutes,
    )
    tally = Tally()
    key = os.environ.get("CLIP_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx2.AsyncClient(base_url=given.url, headers=headers, timeout=None) as client:
        sender = Sender(client, lambda number: mutation(seeds, given.seed, number), given.out)
        watching = asyncio.create_task(watch(memory, tally))
        try:
            await sender.run(run, tally)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    return tally


def report(tally: Tally, memory: Memory | None, elapsed_s: float, given: argparse.Namespace) -> int:
    """Print what came of a run and return the exit code."""
    print(f"\n{tally.sent:,} mutations in {elapsed_s:.0f} s, seed {given.seed}")
    print(f"slowest request {tally.slowest_s:.2f} s")
    for outcome, count in tally.counts.most_common():
        print(f"{count:>9,}  {outcome}")
    failed = bool(tally.offenders)
    if failed:
        print(f"{len(tally.offenders)} offenders, kept in {given.out}")
    if memory is not None and memory.samples:
        first, last = memory.first_and_last()
        print(
            f"memory of gateway and children, MiB: {memory.samples[0] / MIB:.0f} at first, {first / MIB:.0f} behind "
            f"the warm-up, {last / MIB:.0f} at the end, {max(memory.samples) / MIB:.0f} at most"
        )
        if memory.gone:
            print("OFFENCE: the gateway's process ended")
            failed = True
        if last - first > given.growth_mib * MIB:
            print(f"OFFENCE: it grew by more than {given.growth_mib:g} MiB")
            failed = True
    else:
        print("memory: not looked at; the gateway's process was not found (--pid)")
    print("failed" if failed else "nothing offended")
    return int(failed)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = read_arguments(arguments)
    seeds = [path.read_bytes() for path in sorted(given.corpus.iterdir()) if path.is_file()]
    address = urlsplit(given.url)
    try:
        httpx2.get(f"{given.url}/readyz", timeout=10).raise_for_status()
    except (httpx2.TransportError, httpx2.HTTPStatusError) as fault:
        print(f"fuzz: no gateway that is ready answers at {given.url}: {type(fault).__name__}", file=sys.stderr)
        return 2
    pid = given.pid
    if pid is None and address.hostname in LOOPBACK and address.port:
        pid = listener(address.port)
    memory = None if pid is None else Memory(pid)
    start_s = time.monotonic()
    if memory is not None:
        memory.look()
    tally = asyncio.run(fuzz(given, seeds, memory))
    if memory is not None:
        memory.look()
    return report(tally, memory, time.monotonic() - start_s, given)


if __name__ == "__main__":
    sys.exit(main())
