"""Answers kept by the idempotency keys of requests that decide, so that a repeated request decides nothing anew."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, delete, select, update

from gateway.store.database import Repository, Transaction, writes
from gateway.store.schema import idempotency_keys


class ClaimLost(Exception):
    """A claim has run out, and another request has the key."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that one request holds while it decides.

    Attributes:
        owner: name of the API key; empty while none are configured.
        key: the client's.
        token: tells this claim from later ones.
    """

    owner: str
    key: str
    token: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A key that a request has, or had.

    Attributes:
        fingerprint: of that request.
        until: when the key is free again.
        answer: that it was given; None while it is in progress.
    """

    fingerprint: str
    until: datetime
    answer: bytes | None


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer to keep under a claim, and until when."""

    claim: Claim
    answer: bytes
    until: datetime


class IdempotencyKeys(Repository):
    """Keys, claimed and answered. A row is free once its time is over, whether it was deleted yet or not."""

    @writes
    async def claim(
        self, tx: Transaction, owner: str, key: str, fingerprint: str, external_ids: Collection[str], seconds: float
    ) -> Claim | Taken:
        """Claim a key for so many seconds, or return who has it."""
        now = datetime.now(UTC)
        claim = Claim(owner, key, secrets.token_hex(8))
        ids = _listed(*sorted(external_ids)) if external_ids else None
        row = {"fingerprint": fingerprint, "token": claim.token, "external_ids": ids, "answer": None}
        here = (idempotency_keys.c.owner == owner, idempotency_keys.c.key == key)
        standing = None
        while standing is None:  # whoever has the key may give it back between the two statements
            await tx.execute(tx.insert_new(idempotency_keys).values(owner=owner, key=key, until=now, **row))
            standing = (await tx.execute(select(idempotency_keys).where(*here).with_for_update())).one_or_none()
        if standing.until > now:
            return Taken(standing.fingerprint, standing.until, standing.answer)
        await tx.execute(update(idempotency_keys).where(*here).values(until=now + timedelta(seconds=seconds), **row))
        return claim

    @writes
    async def release(self, tx: Transaction, claim: Claim) -> None:
        """Free a key whose request was not answered."""
        await tx.execute(delete(idempotency_keys).where(*_held_by(claim)))

    @writes
    async def expire(self, tx: Transaction) -> int:
        """Delete keys whose time is over; return how many."""
        return (
            await tx.execute(delete(idempotency_keys).where(idempotency_keys.c.until <= datetime.now(UTC)))
        ).rowcount


async def forget(tx: Transaction, external_id: str) -> None:
    """Delete the answers about an external id."""
    about_it = idempotency_keys.c.external_ids.contains(_listed(external_id), autoescape=True)
    await tx.execute(delete(idempotency_keys).where(about_it))


def _listed(*external_ids: str) -> str:
    """Return ids, which hold no line ends, in lines of their own, so that each can be found."""
    return "\n".join(("", *external_ids, ""))


async def keep(tx: Transaction, kept: KeptAnswer) -> None:
    """Keep an answer, in the transaction that logs its decisions: both are there, or neither.

    Raises:
        ClaimLost: the claim has run out, and another request has the key.
    """
    answered = update(idempotency_keys).where(*_held_by(kept.claim)).values(answer=kept.answer, until=kept.until)
    if (await tx.execute(answered)).rowcount != 1:
        raise ClaimLost


def _held_by(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    columns = idempotency_keys.c
    return (
        columns.owner == claim.owner,
        columns.key == claim.key,
        columns.token == claim.token,
        columns.answer.is_(None),
    )
