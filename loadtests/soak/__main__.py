"""``python -m loadtests.soak``: many mixed requests, faults and disconnects too, and whether memory stays flat.

Without ``--url`` it starts a stack of its own on free ports and stops it again. With ``--url`` the gateway (and, at
TRITON_HOST and TRITON_GRPC_PORT, Triton) must run on this machine, since their memory is read from its processes; if it
asks for API keys, CLIP_API_KEY is one with the roles infer and read, without a rate.

Exit codes: 0 every answer was the expected one and memory stayed within the bound, 1 not so, 2 nothing to test.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from loadtests.picture_server import serving
from loadtests.pictures import pictures_in
from loadtests.soak.client import Connection, Outcome, drive
from loadtests.soak.curve import svg
from loadtests.soak.memory import Died, Sample, growth, listening, sample, write_csv
from loadtests.soak.mix import Case, bad, good, leavers, order
from loadtests.target import NoStack, Target, described, is_running, started

SAMPLES = 240
WARM_UP = 0.15
FEWEST_SAMPLES = 20
MAX_IMAGE_BYTES, MAX_BODY_BYTES = 10 * 2**20, 64 * 2**20  # the gateway's defaults
JUDGED = ("gateway with children", "Triton")


@dataclass(slots=True)
class Record:
    """What came of it."""

    samples: list[Sample] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    elapsed_s: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--concurrency", type=int, default=8, help="requests at a time")
    parser.add_argument("--seed", type=int, default=1, help="of the order of requests and of when clients leave")
    parser.add_argument("--bound", type=float, default=0.10, help="growth of the median that is still flat")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder of soak.csv and soak.svg")
    parser.add_argument("--url", help="a gateway on this machine; a stack is started without it")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    try:
        with ExitStack() as exits:
            target, picture_url = prepared(exits, given.url)
            cases = all_cases(picture_url)
            gateway, triton = processes(target)
            say(f"{given.requests:,} requests of {len(cases)} kinds to {target.gateway_url}, seed {given.seed}")
            record = asyncio.run(run(given, target, cases, gateway, triton))
    except (NoStack, Died) as reason:
        print(f"soak: {reason}", file=sys.stderr)
        return 2 if isinstance(reason, NoStack) else 1
    except KeyboardInterrupt:
        return 130
    return report(record, given.reports, given.bound)


def prepared(exits: ExitStack, url: str | None) -> tuple[Target, str | None]:
    """Return the stack, and where the gateway may fetch pictures (None: nowhere).

    Raises:
        NoStack: none answers at the URL, or none can be started.
    """
    environment = dict(os.environ)
    if url is None:
        pictures = pictures_in(cache())
        port = exits.enter_context(serving("127.0.0.1", 0, pictures))
        target = exits.enter_context(started({"LOG_LEVEL": "warning", **environment}, f"127.0.0.1:{port}"))
        return target, f"http://127.0.0.1:{port}"
    here = described(environment)
    target = Target(url.rstrip("/"), here.grpc_address, here.tokenizer)
    if not is_running(target):
        raise NoStack(f"nothing answers at {url}")
    return target, None


def cache() -> Path:
    """Return the folder that keeps the picture set."""
    return Path(os.environ.get("DATA_DIR", "data")) / "cache"


def all_cases(picture_url: str | None) -> list[Case]:
    """Return every kind of request."""
    pictures = pictures_in(cache())
    return [*good(pictures, picture_url), *bad(pictures, MAX_IMAGE_BYTES, MAX_BODY_BYTES), *leavers(pictures)]


def processes(target: Target) -> tuple[psutil.Process, psutil.Process | None]:
    """Return the processes of the gateway and of Triton (None: not on this machine).

    Raises:
        NoStack: the gateway's cannot be seen.
    """
    gateway = listening(urlsplit(target.gateway_url).port or 80)
    if gateway is None:
        raise NoStack("the gateway's process cannot be seen: run this on its machine and as its user")
    triton = listening(int(target.grpc_address.rpartition(":")[2]))
    if triton is None:
        say("Triton's process cannot be seen: its memory is not measured")
    return gateway, triton


async def run(
    given: argparse.Namespace,
    target: Target,
    cases: Sequence[Case],
    gateway: psutil.Process,
    triton: psutil.Process | None,
) -> Record:
    """Send everything and look at the memory meanwhile.

    Raises:
        Died: a process ended.
    """
    parts, key = urlsplit(target.gateway_url), os.environ.get("CLIP_API_KEY")
    connections = [
        Connection(
            parts.hostname or "127.0.0.1",
            parts.port or 80,
            random.Random(f"{given.seed} {number}"),
            f"Authorization: Bearer {key}\r\n".encode() if given.url and key else b"",
        )
        for number in range(given.concurrency)
    ]
    done: asyncio.Queue[tuple[Case, Outcome]] = asyncio.Queue()
    every = max(1, given.requests // SAMPLES)
    record, start_s = Record(), time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(drive(connections, cases, order(cases, given.requests, given.seed), done))
            for number in range(1, given.requests + 1):
                case, outcome = await done.get()
                record.said[outcome.said] += 1
                if outcome.wrong is not None:
                    record.wrong[f"{case.name}: {outcome.said}, {outcome.wrong}"] += 1
                if number % every == 0 or number == given.requests:
                    elapsed_s = time.monotonic() - start_s
                    record.samples.append(await asyncio.to_thread(sample, number, elapsed_s, gateway, triton))
                    if len(record.samples) % (SAMPLES // 12) == 0:
                        progress(record, elapsed_s)
    except* Died as died:
        raise died.exceptions[0] from None
    record.elapsed_s = time.monotonic() - start_s
    return record


def progress(record: Record, elapsed_s: float) -> None:
    """Print one line on how far it is."""
    last = record.samples[-1]
    say(
        f"{last.requests:>7,} requests, {last.requests / elapsed_s:.0f}/s, gateway {last.gateway:.0f} + "
        f"{last.gateway_children:.0f} MiB in {last.children} children, Triton {last.triton:.0f} MiB, "
        f"{sum(record.wrong.values())} unexpected"
    )


def report(record: Record, folder: Path, bound: float) -> int:
    """Write CSV and curve, print the summary, and return the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "soak.csv", record.samples)
    lines = {
        "gateway with children": [one.gateway + one.gateway_children for one in record.samples],
        "gateway process": [one.gateway for one in record.samples],
        "Triton with children": [one.triton for one in record.samples],
    }
    total = record.samples[-1].requests
    title = f"Memory over {total:,} mixed requests"
    xs = [float(one.requests) for one in record.samples]
    (folder / "soak.svg").write_text(svg(title, xs, lines, x_name="requests", y_name="PSS, MiB"), encoding="utf-8")
    say(f"{total:,} requests in {record.elapsed_s:.0f} s, {total / record.elapsed_s:.0f} a second")
    for said, count in record.said.most_common():
        print(f"  {count:>7,}  {said}")
    failed = bool(record.wrong)
    for what, count in record.wrong.most_common(30):
        print(f"  UNEXPECTED {count:,} x {what}")
    kept = [one for one in record.samples if one.requests >= WARM_UP * total]
    if len(kept) < FEWEST_SAMPLES:
        say(f"too few samples to judge growth: {len(kept)} after the warm-up, at least {FEWEST_SAMPLES} are needed")
        return 1
    print(f"  medians of the first and the last quarter after {WARM_UP:.0%} warm-up; PSS in MiB")
    for part in growth(record.samples, WARM_UP):
        over = part.name in JUDGED and part.share > bound
        failed |= over
        print(
            f"  {part.name:<22} {part.first:>9,.1f} → {part.last:>9,.1f}  {part.share:+7.1%}  most {part.most:,.1f}"
            f"{f'  GREW by more than {bound:.0%}' if over else ''}"
        )
    say(f"{'FAILED' if failed else 'passed'}; {folder / 'soak.csv'}, {folder / 'soak.svg'}")
    return 1 if failed else 0


def say(line: str) -> None:
    """Print one line."""
    print(f"soak: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
