"""``python -m scripts.rolling --launcher PID URL ...``: does a request fail while replicas are replaced under load?

Clients upload images to each address, a gateway's or its proxy's: half of them over kept connections, half over a
fresh one for each request. Meanwhile the launcher of ``make serve REPLICAS=n`` gets SIGUSR1 again and again. The exit
status is 1 if any request got no answer or another one than 200; none is sent twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil

from scripts.bench.client import Connection, upload
from scripts.bench.machine import machine
from scripts.bench.pictures import photographs

FIELDS = (("labels", "a red circle"), ("labels", "a blue square"))
SIZE = (160, 120)
CHECK_S = 0.2


async def send(address: tuple[str, int], requests: Iterator[bytes], answers: Counter[int], *, kept: bool) -> None:
    """Send requests one after another and count the answers' statuses; 0 and -1 stand for none."""
    loop = asyncio.get_running_loop()
    connection: Connection | None = None
    for request in requests:
        if connection is None or not connection.open:
            try:
                _, connection = await loop.create_connection(Connection, *address)
            except OSError:
                answers[-1] += 1
                continue
        answers[await connection.ask(request)] += 1
        if not kept:
            connection.close()
            connection = None


def replicas_of(launcher: int) -> set[int]:
    """Return the process ids of a launcher's gateways."""
    found = set()
    for one in psutil.Process(launcher).children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if one.cmdline()[1:3] == ["-m", "gateway"]:
                found.add(one.pid)
    return found


async def replace(launcher: int) -> None:
    """Replace all replicas over and over."""
    while True:
        before = replicas_of(launcher)
        os.kill(launcher, signal.SIGUSR1)
        while before & replicas_of(launcher):  # noqa: ASYNC110 - nobody tells of a process that ends
            await asyncio.sleep(CHECK_S)
        print(f"replaced {len(before)} replicas", file=sys.stderr, flush=True)


def address_of(url: str) -> tuple[str, int]:
    """Return host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80


async def run(urls: list[str], launcher: int, count: int, clients: int) -> dict[str, Counter[int]]:
    """Send ``count`` requests, ``clients`` at a time to each address, while replicas are replaced.

    Returns:
        for each address how many answers had which status.
    """
    uploads = [upload("/v1/classify", [image], FIELDS) for image in photographs(16, SIZE)]
    requests = (uploads[number % len(uploads)] for number in range(count))
    answers: dict[str, Counter[int]] = {url: Counter() for url in urls}
    async with asyncio.TaskGroup() as users:
        replacing = users.create_task(replace(launcher))
        sending = [
            users.create_task(send(address_of(url), requests, answered, kept=number % 2 == 0))
            for url, answered in answers.items()
            for number in range(clients)
        ]
        await asyncio.wait(sending)
        replacing.cancel()
    return answers


def main() -> int:
    """Read the command line, send the requests, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--launcher", type=int, required=True, help="process id of scripts.serve")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=4, help="for each address")
    given = parser.parse_args()
    print(machine(), flush=True)
    answers = asyncio.run(run(given.urls, given.launcher, given.requests, given.clients))
    for url, counted in answers.items():
        print(f"{url}: {dict(counted)}")
    return 0 if all(set(counted) == {200} for counted in answers.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
