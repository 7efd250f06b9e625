"""What this gateway tells the others: that it runs, whether it is ready, and which keys and sessions were used."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from gateway.api.console.live_sessions import LiveSessions
from gateway.observability.figures import RecentRates
from gateway.readiness import Readiness
from gateway.store.access.activity import Activity, Replica
from gateway.store.outages import StoreUnavailable

PAUSE_S = 10.0
USE_EVERY = timedelta(minutes=1)  # a key's last use is kept to the minute


class Presence:
    """Reports by a task of its own: no request waits for it.

    Args:
        activity: where it is kept.
        sessions: whose uses are kept with it.
        readiness: of this gateway.
        recent: what it answered lately.
    """

    def __init__(self, activity: Activity, sessions: LiveSessions, readiness: Readiness, recent: RecentRates) -> None:
        self.recent = recent
        self._activity = activity
        self._sessions = sessions
        self._readiness = readiness
        self.replica_id = secrets.token_hex(4)
        self._started_at = datetime.now(UTC)
        self._used: dict[str, datetime] = {}  # by the names of keys, which are few
        self._kept: dict[str, datetime] = {}

    def note_use(self, name: str) -> None:
        """Note that a key was used now."""
        self._used[name] = datetime.now(UTC)

    def itself(self) -> Replica:
        """Return what holds of this gateway now."""
        now, ready = datetime.now(UTC), not self._readiness.failing()
        return Replica(self.replica_id, self._started_at, now, ready, self._readiness.reasons())

    async def report(self) -> None:
        """Write what has changed.

        Raises:
            StoreUnavailable: an outage; what was not written comes with the next report.
        """
        old = datetime.min.replace(tzinfo=UTC)
        due = {name: at for name, at in self._used.items() if at - self._kept.get(name, old) >= USE_EVERY}
        await self._activity.report(self.itself(), due)
        self._kept |= due
        await self._sessions.write_seen()

    async def watch(self) -> None:
        """Report every ten seconds, for ever; runs as a task of the application's lifespan."""
        log = structlog.get_logger("presence")
        while True:
            self.recent.remember()
            try:
                await self.report()
            except StoreUnavailable:
                log.debug("not reported: the store is away")
            await asyncio.sleep(PAUSE_S)

    async def leave(self) -> None:
        """Say that this gateway ends."""
        with suppress(StoreUnavailable):
            await self._activity.leave(self.replica_id)
