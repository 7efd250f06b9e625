"""Sessions as they are kept: found by the SHA-256 of their cookie, never by the cookie itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, or_, select, update

from gateway.store.access.tables import sessions
from gateway.store.audit import Actor, note
from gateway.store.database import Repository, Transaction, reads, writes

MOST_OF_A_NAME = 50  # open sessions of one key or person; the oldest is closed for a further one


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session.

    Attributes:
        id: by which it is listed and revoked; it opens nothing.
        token_sha256: of the cookie's value, 32 bytes.
        key_sha256: of the API key that it was opened with; None of a person known by OpenID Connect.
        issuer: who vouches for that person; None of a key.
        name: of the key or the person.
        roles: of the person; those of a key stand with the key.
        reviewer: as which verdicts are signed.
        secure: whether the cookie was given over HTTPS.
        created_at: when it was opened.
        seen_at: of its latest request, to the minute.
        expires_at: when it ends, whatever is done with it.
    """

    id: str
    token_sha256: bytes
    key_sha256: bytes | None
    issuer: str | None
    name: str
    roles: list[str]
    reviewer: str | None
    secure: bool
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


class Sessions(Repository):
    """The sessions that are open, of all gateways on the database."""

    @writes
    async def add(self, tx: Transaction, row: SessionRow) -> None:
        """Keep a new session; of one name there are ``MOST_OF_A_NAME`` at most."""
        newest = select(sessions.c.id).where(sessions.c.name == row.name).order_by(sessions.c.created_at.desc())
        kept = newest.limit(MOST_OF_A_NAME - 1).scalar_subquery()
        await tx.execute(delete(sessions).where(sessions.c.name == row.name, sessions.c.id.not_in(kept)))
        await tx.execute(insert(sessions).values(**asdict(row)))

    @reads
    async def find(self, tx: Transaction, token_sha256: bytes) -> SessionRow | None:
        """Return the session of a cookie, ended ones too."""
        found = await tx.execute(select(sessions).where(sessions.c.token_sha256 == token_sha256))
        row = found.mappings().one_or_none()
        return SessionRow(**row) if row else None

    @reads
    async def latest(self, tx: Transaction, limit: int, idle: timedelta) -> tuple[SessionRow, ...]:
        """Return those that have not ended, the newest first."""
        now = datetime.now(UTC)
        live = (sessions.c.expires_at > now, sessions.c.seen_at > now - idle)
        rows = await tx.execute(select(sessions).where(*live).order_by(sessions.c.created_at.desc()).limit(limit))
        return tuple(SessionRow(**row) for row in rows.mappings())

    @writes
    async def rename(self, tx: Transaction, session_id: str, reviewer: str | None) -> None:
        """Set as whom verdicts are signed."""
        await tx.execute(update(sessions).where(sessions.c.id == session_id).values(reviewer=reviewer))

    @writes
    async def see(self, tx: Transaction, seen: Mapping[str, datetime]) -> None:
        """Set when sessions, by their ids, were last used."""
        for session_id, at in seen.items():
            newer = (sessions.c.id == session_id, sessions.c.seen_at < at)
            await tx.execute(update(sessions).where(*newer).values(seen_at=at))

    @writes
    async def close(self, tx: Transaction, token_sha256: bytes) -> None:
        """End the session of a cookie."""
        await tx.execute(delete(sessions).where(sessions.c.token_sha256 == token_sha256))

    @writes
    async def revoke(self, tx: Transaction, session_id: str, *, actor: Actor) -> SessionRow | None:
        """End a session by its id and return it; None where there is none. The audit says who did."""
        found = await tx.execute(select(sessions).where(sessions.c.id == session_id).with_for_update())
        row = found.mappings().one_or_none()
        if row is None:
            return None
        await tx.execute(delete(sessions).where(sessions.c.id == session_id))
        detail = {"name": row["name"], "reviewer": row["reviewer"]}
        await note(tx, actor=actor, action="revoke", kind="session", name=session_id, detail=detail)
        return SessionRow(**row)

    @writes
    async def expire(self, tx: Transaction, idle: timedelta) -> int:
        """Delete sessions that have ended; return how many."""
        now = datetime.now(UTC)
        ended = or_(sessions.c.expires_at <= now, sessions.c.seen_at <= now - idle)
        return (await tx.execute(delete(sessions).where(ended))).rowcount
