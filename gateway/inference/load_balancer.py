"""The encoder on all Tritons: each inference goes to the one that is well and has the fewest under way."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from gateway.errors import GatewayError, ModelUnavailable
from gateway.inference.addresses import Address, Addresses
from gateway.inference.bundle import IMAGE_MODEL, TEXT_MODEL, Manifest
from gateway.inference.circuit_breaker import CircuitBreaker, unavailable
from gateway.inference.triton import ModelServer, Vectors
from gateway.limits.deadline import Deadline
from gateway.observability.metrics import Metrics

RETRY_SHARE = 0.1  # retries per call, over time
MOST_RETRIES_SAVED = 128.0  # at once: as many as one Triton may have under way, so that losing it costs no request
RECONNECT_S = 1.0  # how long a request waits for a connection that was lost a moment ago, where no server is well
LEAVE_CHECK_S = 0.1


@dataclass(slots=True)
class Member:
    """A server among those that share the load.

    Attributes:
        breaker: around it.
        watching: the task that checks it.
        picked: number of the inference that it got last.
    """

    breaker: CircuitBreaker
    watching: asyncio.Task[None]
    picked: int = 0

    def load(self, model: str) -> tuple[int, int, int]:
        """Return what is compared when one is picked; the least is taken."""
        under_way = self.breaker.under_way
        return under_way.get(model, 0), sum(under_way.values()), self.picked


@dataclass(slots=True)
class RetryBudget:
    """Every call earns a tenth of a retry; a retry spends a whole one, so that retries never multiply an outage.

    Attributes:
        saved: retries that are left.
    """

    saved: float = MOST_RETRIES_SAVED

    def earn(self) -> None:
        """Count a call."""
        self.saved = min(MOST_RETRIES_SAVED, self.saved + RETRY_SHARE)

    def spend(self) -> bool:
        """Take one retry; False if none is left."""
        if self.saved < 1:
            return False
        self.saved -= 1
        return True


class LoadBalancer:
    """An encoder on several servers.

    Each has a circuit breaker, and only those whose circuit is closed are asked. Requests fail at once while none is.
    An inference changes nothing, so that what a server that is gone, frozen or stopping leaves unanswered is asked once
    more: of another one, or where there is none of the same one behind its next connection. Within the deadline, and
    within a tenth of all calls.

    Args:
        addresses: where the servers are; names are looked up again every ``resolve_s``.
        resolve_s: see there.
        make_server: called with an address, within the loop.
        manifest: the bundle that all must serve.
        window_s: how long a successful inference keeps a server ready.
        metrics: told which servers are up, what they do, and what they left unanswered.
    """

    def __init__(
        self,
        addresses: Addresses,
        resolve_s: float,
        make_server: Callable[[Address], ModelServer],
        manifest: Manifest,
        window_s: float,
        metrics: Metrics,
    ) -> None:
        self._addresses = addresses
        self._resolve_s = resolve_s
        self._make_server = make_server
        self._manifest = manifest
        self._window_s = window_s
        self._metrics = metrics
        self._members: dict[Address, Member] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._picks = itertools.count(1)
        self._budget = RetryBudget()

    async def encode_images(self, pixels: npt.NDArray[np.uint8], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_images``."""
        return await self._encode(IMAGE_MODEL, lambda server: server.encode_images(pixels, deadline), deadline)

    async def encode_texts(self, input_ids: npt.NDArray[np.int64], deadline: Deadline) -> Vectors:
        """See ``Encoder.encode_texts``."""
        return await self._encode(TEXT_MODEL, lambda server: server.encode_texts(input_ids, deadline), deadline)

    def failing_checks(self) -> list[str]:
        """Return the names of the checks that fail of every server; empty when one is ready."""
        failing = [member.breaker.failing_checks() for member in self._members.values()]
        return [] if not all(failing) else sorted({"inference"}.union(*failing))

    def states(self) -> Mapping[str, str | None]:
        """Return by address why a server is not asked; None of one that is."""
        reasons = {str(address): self._members[address].breaker.open_because for address in sorted(self._members)}
        return {address: reason.detail if reason else None for address, reason in reasons.items()}

    async def watch(self) -> None:
        """Look names up and check servers for ever; runs as a task of the application's lifespan."""
        try:
            while True:
                self._use(await self._addresses.resolve())
                self._observe()
                await asyncio.sleep(self._resolve_s)
        finally:
            tasks = [*(member.watching for member in self._members.values()), *self._leaving]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Give up all connections."""
        for member in self._members.values():
            await member.breaker.close()

    def _use(self, found: Iterable[Address]) -> None:
        """Begin with new servers, and leave those that are no longer named once nothing is under way there."""
        found = frozenset(found)
        for address in sorted(found - self._members.keys()):
            server, others_well = self._make_server(address), partial(self._others_well, address)
            breaker = CircuitBreaker(str(address), server, self._manifest, self._window_s, others_well, self._observe)
            self._members[address] = Member(breaker, asyncio.create_task(breaker.watch()))
            self._metrics.watch_triton(str(address), breaker.is_closed, breaker.under_way)
        for address in self._members.keys() - found:
            leaving = asyncio.create_task(self._leave(address, self._members.pop(address)))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def _leave(self, address: Address, member: Member) -> None:
        """Let what is under way at a server end; it is still watched, and given up if it freezes."""
        try:
            while any(member.breaker.under_way.values()):  # noqa: ASYNC110 - each call ends by its own deadline
                await asyncio.sleep(LEAVE_CHECK_S)
        finally:
            member.watching.cancel()
            await asyncio.gather(member.watching, return_exceptions=True)
            await member.breaker.close()
            if address not in self._members:
                self._metrics.forget_triton(str(address))

    def _others_well(self, address: Address) -> bool:
        return any(well != address for well, _ in self._well())

    def _observe(self) -> None:
        self._metrics.ready.set(not self.failing_checks())

    async def _encode(
        self, model: str, encode: Callable[[ModelServer], Awaitable[Vectors]], deadline: Deadline
    ) -> Vectors:
        self._budget.earn()
        first = await self._pick(model, deadline)
        try:
            return await self._call(first, encode, deadline)
        except ModelUnavailable as error:
            try:
                second = await self._pick(model, deadline)
            except ModelUnavailable:
                raise error from None
            if not self._budget.spend():
                raise
            self._metrics.triton_retries.inc()
            return await self._call(second, encode, deadline)

    async def _call(
        self, asked: tuple[Address, Member], encode: Callable[[ModelServer], Awaitable[Vectors]], deadline: Deadline
    ) -> Vectors:
        address, member = asked
        try:
            return await member.breaker.call(encode, deadline)
        except ModelUnavailable:
            self._metrics.observe_triton_failure(str(address))
            raise

    async def _pick(self, model: str, deadline: Deadline) -> tuple[Address, Member]:
        """Return the server to ask: of those that are well the one with the fewest inferences of the model under way.

        Where several have, that with the fewest of both models, and then the one picked least lately.

        Raises:
            ServiceError: none is well, and none that was a moment ago is again within ``RECONNECT_S``.
        """
        if not self._well():
            await self._reconnected(deadline)
        if not (well := self._well()):
            raise self._why()
        address, member = min(well, key=lambda one: one[1].load(model))
        member.picked = next(self._picks)
        return address, member

    async def _reconnected(self, deadline: Deadline) -> None:
        """Wait for the first server whose connection was lost a moment ago to be looked at again."""
        lost = [one.breaker.settled for one in self._members.values() if not one.breaker.settled.is_set()]
        if not lost:
            return
        wait_s = min(RECONNECT_S, deadline.remaining_s())
        waits = [asyncio.create_task(settled.wait()) for settled in lost]
        try:
            await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _well(self) -> list[tuple[Address, Member]]:
        return [(address, member) for address, member in self._members.items() if member.breaker.is_closed()]

    def _why(self) -> GatewayError:
        """Return why no server can be asked."""
        for member in self._members.values():
            if reason := member.breaker.open_because:
                return type(reason)(reason.detail, retry_after_s=reason.retry_after_s)
        return unavailable("No address of a model server is known yet")
