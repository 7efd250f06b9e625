"""``python -m tests.support.internet_gateway``: the gateway process, on the tests' internet.

``TEST_INTERNET`` is a JSON object: ``routes`` from ``address:port`` to a port on loopback, ``dead`` addresses that
never answer, and ``log``, a file that gets one line for every connection that is opened. Every other address refuses,
so that no test reaches the real internet, and an address that must not be reached stands in the log.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpcore2

from gateway.__main__ import main
from gateway.fetching.fetcher import Fetcher
from gateway.parts import public_fetcher
from gateway.settings import Settings


class Rerouted(httpcore2.AsyncNetworkBackend):
    """Opens connections to public addresses at the tests' servers."""

    def __init__(self, routes: dict[str, int], dead: Iterable[str], log: Path) -> None:
        self._routes = routes
        self._dead = frozenset(dead)
        self._log = log
        self._real = httpcore2.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        with self._log.open("a") as log:
            log.write(target + "\n")
        if host in self._dead:
            await asyncio.sleep(60)
        if target not in self._routes:
            raise httpcore2.ConnectError
        return await self._real.connect_tcp("127.0.0.1", self._routes[target])


def make_fetcher(settings: Settings) -> Fetcher:
    """Return the fetcher on the tests' internet."""
    internet = json.loads(os.environ["TEST_INTERNET"])
    return public_fetcher(settings, Rerouted(internet["routes"], internet["dead"], Path(internet["log"])))


if __name__ == "__main__":
    sys.exit(main(make_fetcher))
