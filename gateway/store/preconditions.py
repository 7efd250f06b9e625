"""Preconditions of a change: judged in the transaction that makes the change, so that nobody gets in between."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

ANY = frozenset({"*"})
DIGEST_CHARS = 32


@dataclass
class StaleWrite(Exception):
    """A precondition does not hold; ``latest`` is the number of the latest version, None where there is none."""

    latest: int | None


@dataclass(frozen=True, slots=True)
class Precondition:
    """What has to be there for a change to be made (RFC 9110, 13.1.1 and 13.1.2).

    Attributes:
        match: strong entity tags, quoted, one of which has to be current; ``ANY``: something has to be there. None: not
            asked.
        none_match: entity tags, quoted, without ``W/``, none of which may be current; ``ANY``: nothing may be there.
    """

    match: frozenset[str] | None = None
    none_match: frozenset[str] = frozenset()

    def check(self, *etags: str, latest: int | None = None) -> None:
        """Let a change pass.

        Args:
            etags: current ones of what is to be changed; none where it is not there.
            latest: number of its latest version, for whoever is refused.

        Raises:
            StaleWrite: the precondition does not hold.
        """
        current = {*etags, *ANY} if etags else set()
        if (self.match is not None and not self.match & current) or self.none_match & current:
            raise StaleWrite(latest)


UNCONDITIONAL = Precondition()


def list_etag(revision: int) -> str:
    """Return the entity tag of a list that changed last, or whose entries did, at this revision of the store."""
    return f'"{revision}"'


def version_etag(number: int, digest: str) -> str:
    """Return the entity tag of a version."""
    return f'"{number}-{digest}"'


def content_digest(kind: str, name: str, body: dict[str, Any], pins: dict[str, int], bundle_id: str | None) -> str:
    """Return the same hex for the same content of a version, in whatever order its fields were written."""
    content = json.dumps([kind, name, body, pins, bundle_id], sort_keys=True, allow_nan=False)
    return hashlib.sha256(content.encode()).hexdigest()[:DIGEST_CHARS]
