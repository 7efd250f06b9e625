"""A rate for each key: requests counted in a sliding window, by the library ``limits``.

Counted in this process's memory, so several gateways each give a key its full rate; with a shared store (Redis or
Valkey), together. Two counters a key, whatever the rate: the window that runs, and the one before it, weighted by how
much of it still counts. That is the library's sliding window counter, which may let one request too many pass where
two windows meet.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from gateway.auth.api_keys import ApiKey

if TYPE_CHECKING:
    from redis.asyncio import BlockingConnectionPool

SHARED_TIMEOUT_S = 0.25  # a request waits no longer for the shared store
CONNECTIONS = 20
PREFIX = "clip-gateway"
PAUSE_S = 5.0  # and after a failure none waits at all for this long
SCHEMES = ("redis://", "rediss://")


class RateLimitStoreInvalid(ValueError):
    """The address of the shared store cannot be used; the text never repeats it, as it may hold a password."""


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """The state of one key's rate after a request.

    Attributes:
        admitted: whether this request may pass.
        limit: requests in a window.
        window_s: its length.
        remaining: requests left now.
        reset_s: seconds until there is room for one more than now, at least 1.
    """

    admitted: bool
    limit: int
    window_s: int
    remaining: int
    reset_s: int


class RateLimits:
    """Counts requests by key name.

    When the shared store fails or is slow, this process counts by itself until it is back: no request is refused for
    the store's sake, and none passes uncounted.

    Args:
        shared_url: ``redis://…`` or ``rediss://…``, or empty for this process's memory.

    Raises:
        RateLimitStoreInvalid: another address, or the extra that it needs is not installed.
    """

    def __init__(self, shared_url: str = "") -> None:
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = self._connections = None
        if shared_url:
            self._connections = shared_connections(shared_url)
            store = RedisStorage(
                f"async+{shared_url}",
                implementation="redispy",
                key_prefix=PREFIX,
                connection_pool=self._connections,  # type: ignore[arg-type]  # its own, untyped
            )
            self._shared = SlidingWindowCounterRateLimiter(store)
        self._retry_at = 0.0
        self._log = structlog.get_logger("rate_limits")

    async def hit(self, key: ApiKey) -> RateLimitStatus | None:
        """Count one request of a key; None if the key has no rate."""
        if key.rate is None:
            return None
        rate = parse(key.rate)
        if self._shared is not None and time.monotonic() >= self._retry_at:
            try:
                async with asyncio.timeout(SHARED_TIMEOUT_S):
                    return await _counted(self._shared, rate, key.name)
            except Exception as error:  # noqa: BLE001 - of three libraries; whichever, this process goes on counting
                self._retry_at = time.monotonic() + PAUSE_S
                self._log.warning("the shared rate store failed; counting by myself", error=type(error).__name__)
        return await _counted(self._own, rate, key.name)

    async def close(self) -> None:
        """Give up the connections to the shared store."""
        if self._connections is not None:
            await self._connections.disconnect()


async def _counted(limiter: SlidingWindowCounterRateLimiter, rate: RateLimitItem, name: str) -> RateLimitStatus:
    admitted = await limiter.hit(rate, name)
    stats = await limiter.get_window_stats(rate, name)
    reset_s = max(1, math.ceil(stats.reset_time - time.time()))
    return RateLimitStatus(
        admitted, rate.amount, rate.get_expiry(), max(0, stats.remaining) if admitted else 0, reset_s
    )


def shared_connections(url: str) -> BlockingConnectionPool:
    """Return connections to a shared store; none is made yet.

    Raises:
        RateLimitStoreInvalid: the address cannot be used.
    """
    if not url.startswith(SCHEMES):
        raise RateLimitStoreInvalid(f"an address begins with {' or '.join(SCHEMES)}")
    try:
        from redis.asyncio import BlockingConnectionPool  # noqa: PLC0415 - of an optional extra
    except ImportError:
        raise RateLimitStoreInvalid("it needs the extra redis: pip install '.[redis]'") from None
    waits = {"timeout": SHARED_TIMEOUT_S, "socket_timeout": SHARED_TIMEOUT_S}
    waits["socket_connect_timeout"] = SHARED_TIMEOUT_S
    try:
        return BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, **waits)
    except ValueError:
        raise RateLimitStoreInvalid("the address cannot be read") from None
