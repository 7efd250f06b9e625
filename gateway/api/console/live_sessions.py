"""Sessions in force: opened by a key or a provider's word, found by cookie, ended at once with what they rest on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address

from cachetools import LRUCache

from gateway.auth.api_keys import ApiKey, Keyring
from gateway.auth.rate_limits import RateLimits
from gateway.auth.sessions import Cookie, new_cookie
from gateway.errors import RateLimited, StorageUnavailable
from gateway.store.access.sessions import SessionRow, Sessions
from gateway.store.audit import Actor
from gateway.store.outages import StoreUnavailable

FRESH = timedelta(seconds=5)  # a gateway believes no longer what it read: how late a revocation elsewhere is followed
STALE = timedelta(seconds=60)  # and no longer than this while the store is away
MOST_CACHED = 10_000
READS_AT_A_TIME = 8  # of cookies that are not known here, so that a flood of made-up ones leaves the store to others
SEEN_EVERY = timedelta(minutes=1)
AWAY = "The store does not answer, and it knows who is signed in. Try again later, or send an API key."
PREFIX_BITS = 64  # of an IPv6 address: one client has all that follows


@dataclass(frozen=True, slots=True)
class SessionRules:
    """How long sessions last, and how often one address may try to open one.

    Attributes:
        lifetime: whatever is done.
        idle: without a request.
        sign_ins: ``count/period`` of attempts of one client address.
        issuer: of OpenID Connect; None: nobody signs in so, and sessions by it are over.
    """

    lifetime: timedelta
    idle: timedelta
    sign_ins: str
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session in force, and the key that its requests count as: the API key, or one that stands for a person."""

    row: SessionRow
    key: ApiKey


class LiveSessions:
    """Opens, finds and ends sessions.

    What was read of one counts for ``FRESH``, so that not each request reads the store. While the store is away, those
    that were read within ``STALE`` go on; any other request gets 503.

    Args:
        rows: where they are kept.
        rules: of their lives.
        keyring: the keys in force; a session whose key is not among them is over.
        limits: counts attempts to sign in.
    """

    def __init__(
        self, rows: Sessions, rules: SessionRules, keyring: Callable[[], Keyring | None], limits: RateLimits
    ) -> None:
        self.rows = rows
        self.rules = rules
        self._keyring = keyring
        self._limits = limits
        self._cached: LRUCache[bytes, tuple[SessionRow, datetime]] = LRUCache(MOST_CACHED)
        self._seen: LRUCache[str, datetime] = LRUCache(MOST_CACHED)
        self._reading = asyncio.Semaphore(READS_AT_A_TIME)

    async def count_attempt(self, address: str) -> None:
        """Count an attempt to sign in.

        Raises:
            RateLimited: there were too many from this address.
        """
        status = await self._limits.hit(
            ApiKey(f"sign-in {client_network(address)}", b"", frozenset(), self.rules.sign_ins)
        )
        if status is not None and not status.admitted:
            raise RateLimited("Too many attempts to sign in from this address.", retry_after_s=status.reset_s)

    async def open(
        self, key: ApiKey, reviewer: str | None, *, secure: bool, issuer: str | None = None
    ) -> tuple[LiveSession, Cookie]:
        """Open a session; return it and the cookie that opens it.

        Args:
            key: what its requests count as.
            reviewer: as whom verdicts are signed.
            secure: whether the page came by HTTPS.
            issuer: who vouches for a person; None where the key is an API key.

        Raises:
            StoreUnavailable: an outage.
            ValueError: the reviewer's name holds a character that cannot be kept.
        """
        cookie, now = new_cookie(secure=secure), datetime.now(UTC)
        row = SessionRow(
            id=secrets.token_hex(8),
            token_sha256=cookie.sha256,
            key_sha256=None if issuer else key.digest,
            issuer=issuer,
            name=key.name,
            roles=sorted(key.roles) if issuer else [],
            reviewer=reviewer,
            secure=secure,
            created_at=now,
            seen_at=now,
            expires_at=now + self.rules.lifetime,
        )
        await self.rows.add(row)
        return LiveSession(row, key), cookie

    async def find(self, cookie: Cookie | None) -> LiveSession | None:
        """Return the session that a cookie opens, or None.

        Raises:
            StorageUnavailable: the store is away, and this gateway does not know the cookie.
        """
        if cookie is None:
            return None
        row, now = await self._row(cookie.sha256), datetime.now(UTC)
        if row is None or row.secure != cookie.secure or row.expires_at <= now:
            return None
        seen = max(row.seen_at, self._seen.get(row.id, row.seen_at))
        key = self._key(row)
        if key is None or seen + self.rules.idle <= now:
            return None
        if now - seen >= SEEN_EVERY:
            self._seen[row.id] = now
        return LiveSession(row, key)

    async def rename(self, session: LiveSession, reviewer: str | None) -> LiveSession:
        """Set as whom verdicts are signed, and return the session as it is then.

        Raises:
            StoreUnavailable, ValueError: as ``open``.
        """
        await self.rows.rename(session.row.id, reviewer)
        self._cached.pop(session.row.token_sha256, None)
        return replace(session, row=replace(session.row, reviewer=reviewer))

    async def close(self, cookie: Cookie) -> None:
        """End the session of a cookie.

        Raises:
            StoreUnavailable: an outage.
        """
        await self.rows.close(cookie.sha256)
        self._cached.pop(cookie.sha256, None)

    async def revoke(self, session_id: str, *, actor: Actor) -> bool:
        """End a session by its id, here at once and elsewhere within ``FRESH``; False where there is none.

        Raises:
            StoreUnavailable: an outage.
        """
        row = await self.rows.revoke(session_id, actor=actor)
        if row is not None:
            self._cached.pop(row.token_sha256, None)
        return row is not None

    async def expire(self) -> None:
        """Delete what has ended.

        Raises:
            StoreUnavailable: an outage.
        """
        await self.rows.expire(self.rules.idle)

    async def write_seen(self) -> None:
        """Keep when sessions were last used.

        Raises:
            StoreUnavailable: an outage; then nothing is lost.
        """
        seen = dict(self._seen)
        if seen:
            await self.rows.see(seen)
            for session_id, at in seen.items():
                if self._seen.get(session_id) == at:
                    del self._seen[session_id]

    def _key(self, row: SessionRow) -> ApiKey | None:
        if row.key_sha256 is None:
            known = row.issuer is not None and row.issuer == self.rules.issuer
            return ApiKey(row.name, b"", frozenset(row.roles)) if known else None
        keyring = self._keyring()
        return next((key for key in keyring.keys if key.digest == row.key_sha256), None) if keyring else None

    async def _row(self, token_sha256: bytes) -> SessionRow | None:
        row, read_at = self._cached.get(token_sha256, (None, datetime.min.replace(tzinfo=UTC)))
        now = datetime.now(UTC)
        if row is not None and now - read_at < FRESH:
            return row
        try:
            async with self._reading:
                found = await self.rows.find(token_sha256)
        except StoreUnavailable:
            if row is not None and now - read_at < STALE:
                return row
            raise StorageUnavailable(AWAY) from None
        if found is None:
            self._cached.pop(token_sha256, None)
        else:
            self._cached[token_sha256] = (found, now)
        return found


def client_network(address: str) -> str:
    """Return the address that attempts are counted under: of IPv6 the network, of which one client has all."""
    try:
        ip = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(ip, IPv6Address):
        return str(IPv6Address(int(ip) >> PREFIX_BITS << PREFIX_BITS))
    return str(ip)
