"""Whether requests can be answered: by this process, and by every other one of the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.catalogue import Catalogue
from gateway.draining import Draining
from gateway.health import HealthGate
from gateway.known_watch import KnownWatch
from gateway.member import Member
from gateway.prepare import Preparer

PAUSE_S = 0.1
FIRST_WAIT_S = 60.0
WAIT_S = 3.0  # for the first inferences and for what is stored


class Readiness:
    """Asks the parts.

    Args:
        health: of the models.
        catalogue: of policies, which must be loaded.
        known: pictures, whose lists must be loaded.
        decoders: of which there must be some.
        draining: of this process.
        place: of this process, where all tell each other that they are not ready.
    """

    def __init__(
        self,
        health: HealthGate,
        catalogue: Catalogue,
        known: KnownWatch,
        decoders: Preparer,
        draining: Draining,
        place: Member,
    ) -> None:
        self._health = health
        self._catalogue = catalogue
        self._known = known
        self._decoders = decoders
        self._draining = draining
        self._unready = place.unready
        self._is_first = place.first

    def after_first(self, prepare: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        """Return ``prepare``, held back until the first process has done it: what that computed need not be again.

        The others wait for a while only, and one that takes the place of another not at all.
        """
        end_s = time.monotonic() + FIRST_WAIT_S

        async def prepared() -> object:
            starting = self._unready.own and not self._is_first
            while starting and self._unready.of(0) and time.monotonic() < end_s:  # noqa: ASYNC110 - told in memory
                await asyncio.sleep(PAUSE_S)
            return await prepare()

        return prepared

    def failing(self) -> list[str]:
        """Return the names of the checks that fail; empty when ready."""
        failing = self._own()
        if self._draining.begun:
            failing.append("draining")
        if self._unready.total() - self._unready.own:
            failing.append("processes")
        return failing

    async def watch(self) -> None:
        """Tell the other processes, for ever; runs as a task of the application's lifespan."""
        while True:
            await asyncio.sleep(PAUSE_S)  # at the beginning: for the server to take connections
            self._unready.set(int(bool(self._own())))

    async def wait(self) -> None:
        """Wait until this process is ready, but not for ever: it must be able to say why it is not."""
        try:
            async with asyncio.timeout(WAIT_S):
                while self._own():  # noqa: ASYNC110 - several parts, none of which tells
                    await asyncio.sleep(PAUSE_S / 5)
        except TimeoutError:
            pass

    def _own(self) -> list[str]:
        failing = self._health.failing_checks()
        if not self._catalogue.loaded:
            failing.append("policies")
        if not self._known.loaded:
            failing.append("lists")
        if not self._decoders.available:
            failing.append("decoders")
        return failing
