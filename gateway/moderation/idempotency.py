"""Requests that decide, made twice: under one idempotency key the second gets the answer of the first.

The answer is kept as it was sent, in the transaction that logs its decisions. It could not be made again from these:
they do not hold what became of images that failed, and may be forgotten, or not be logged at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

import structlog

from gateway.errors import IdempotencyKeyInUse, IdempotencyKeyReused, StorageUnavailable
from gateway.fetching.image_source import Base64, ImageRequest, Upload
from gateway.moderation.decision_log import DecisionLog
from gateway.store.idempotency import Claim, IdempotencyKeys, KeptAnswer, Taken
from gateway.store.outages import StoreUnavailable

MAX_KEY_CHARS = 255
MAX_ANSWER_BYTES = 4 << 20  # larger ones are not kept


@dataclass(frozen=True, slots=True)
class IdempotencyRules:
    """How long a request may hold its key, seconds; how long its answer is kept; whether it must be."""

    claim_s: float
    kept_for: timedelta
    required: bool


@dataclass(slots=True)
class Attempt:
    """One request under a key.

    Attributes:
        claim: its hold on the key; None without a key, or without a store.
        kept_for: how long its answer is kept.
        answer: that of the request that came first, or its own once it is kept.
    """

    claim: Claim | None = None
    kept_for: timedelta = timedelta()
    answer: bytes | None = None

    def kept(self, answer: bytes) -> KeptAnswer | None:
        """Return what has to be written for a repeated request to get this answer."""
        if self.claim is None or len(answer) > MAX_ANSWER_BYTES:
            return None
        return KeptAnswer(self.claim, answer, datetime.now(UTC) + self.kept_for)


class Idempotency:
    """Lets one request at a time have a key, and hands out answers that are kept.

    Args:
        keys: where they are kept.
        log: knows whether the store takes writes.
        rules: how long.
    """

    def __init__(self, keys: IdempotencyKeys, log: DecisionLog, rules: IdempotencyRules) -> None:
        self._keys = keys
        self._decision_log = log
        self._rules = rules
        self._log = structlog.get_logger("idempotency")

    @asynccontextmanager
    async def attempt(
        self, key: str | None, owner: str | None, fingerprint: str, external_ids: Collection[str]
    ) -> AsyncIterator[Attempt]:
        """Yield the attempt that a request is; its key is free again afterwards, unless its answer was kept.

        Without a store a request is decided as if it had no key, or not at all where decisions must be logged.

        Args:
            key: the client's; None: it may not be repeated.
            owner: name of its API key.
            fingerprint: of what it asks.
            external_ids: of the request and its images, by any of which its answer can be forgotten.

        Raises:
            IdempotencyKeyReused: the key belongs to a request that asks something else.
            IdempotencyKeyInUse: that request is still worked on.
            StorageUnavailable: the store is away, and decisions must be logged.
        """
        if key is None:
            yield Attempt()
            return
        taken = await self._claimed(key, owner or "", fingerprint, external_ids)
        if taken is None:
            if self._rules.required:
                raise StorageUnavailable("The idempotency key could not be kept; nothing was decided.")
            self._log.warning("idempotency key not kept: the store takes no writes")
            yield Attempt()
            return
        if isinstance(taken, Taken):
            yield Attempt(answer=_answer_of(taken, fingerprint))
            return
        attempt = Attempt(taken, self._rules.kept_for)
        try:
            yield attempt
        finally:
            if attempt.answer is None:
                await self._release(taken)

    async def _claimed(
        self, key: str, owner: str, fingerprint: str, external_ids: Collection[str]
    ) -> Claim | Taken | None:
        """Claim a key, or return who has it; None without a store."""
        if self._decision_log.unavailable:
            return None
        try:
            return await self._keys.claim(owner, key, fingerprint, external_ids, self._rules.claim_s)
        except StoreUnavailable:
            return None

    async def _release(self, claim: Claim) -> None:
        try:
            await self._keys.release(claim)
        except StoreUnavailable:
            self._log.warning("idempotency key not released: the store takes no writes; it runs out by itself")


def _answer_of(taken: Taken, fingerprint: str) -> bytes:
    if taken.fingerprint != fingerprint:
        raise IdempotencyKeyReused(
            "This Idempotency-Key was sent with another request; each request has one of its own."
        )
    if taken.answer is None:
        left_s = max(1, ceil((taken.until - datetime.now(UTC)).total_seconds()))
        raise IdempotencyKeyInUse(
            "The first request with this Idempotency-Key is still worked on; try again.", retry_after_s=min(left_s, 2)
        )
    return taken.answer


def fingerprint_of(route: str, fields: str, images: Sequence[ImageRequest]) -> str:
    """Return the SHA-256 of what a request asks; a form's boundary, which differs each time, does not count.

    For a thread: the images may be large.

    Args:
        route: that was called.
        fields: the checked fields, in words.
        images: with their bytes or text.
    """
    digest = hashlib.sha256()
    for part in (route, fields):
        digest.update(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest())
    for image in images:
        source = image.source
        held = (
            source.data if isinstance(source, Upload) else (source.text if isinstance(source, Base64) else source.url)
        )
        content = held if isinstance(held, bytes) else held.encode("utf-8", "surrogatepass")
        name = f"{type(source).__name__} {image.id}"
        digest.update(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() + hashlib.sha256(content).digest())
    return digest.hexdigest()
