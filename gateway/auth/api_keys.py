"""API keys: how one looks, the entries that configure them, and finding out whose key a request carries.

A key is ``clipmod_`` and 256 random bits. What is configured is its SHA-256 alone. A slow, salted hash (bcrypt, argon2)
is for passwords, which can be guessed; nobody guesses 256 random bits, so one round of SHA-256 gives nothing away and
costs a request microseconds. That holds for keys made by ``new_key`` only: do not hash a password of your own.

An entry is ``name:sha256:roles`` or ``name:sha256:roles:rate``, such as ``ci:9f86…0a08:infer+read:120/minute``. Entries
are separated by white space or commas; ``#`` begins a comment. Several entries may have one name, which is how a key is
exchanged without a pause: they share the name's quota. No message here repeats an entry: it may hold a key by mistake.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["infer", "read", "manage", "metrics", "review"]

ROLES: frozenset[str] = frozenset(get_args(Role))
KEY_PREFIX = "clipmod_"  # what scanners for leaked secrets look for
KEY_BYTES = 32
MAX_KEY_CHARS = 256
MAX_KEYS = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RESERVED_NAMES = frozenset({"anonymous", "seed"})  # whom the audit names where no key was used
DIGEST = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")


class KeysInvalid(ValueError):
    """Entries that cannot be used; the text says which and why, and never what stood there."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key: everything but the key.

    Attributes:
        name: who uses it; in logs, the decision log and the audit.
        digest: the key's SHA-256, 32 bytes.
        roles: what it may do; none includes another.
        rate: ``count/period`` of requests, or None for no quota.
    """

    name: str
    digest: bytes
    roles: frozenset[str]
    rate: str | None = None


def new_key() -> str:
    """Return a fresh key."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest_of(key: str) -> bytes:
    """Return the SHA-256 of a key, 32 bytes."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def entry_of(key: ApiKey) -> str:
    """Return the entry that configures a key."""
    parts = [key.name, key.digest.hex(), "+".join(sorted(key.roles))]
    return ":".join(parts + ([key.rate] if key.rate else []))


def parse_entries(text: str) -> tuple[ApiKey, ...]:
    """Return the keys of all entries.

    Raises:
        KeysInvalid: an entry is wrong, two have the same hash, or there are too many.
    """
    keys, faults = read_entries(text)
    if faults:
        raise KeysInvalid("; ".join(faults))
    return keys


def read_entries(text: str) -> tuple[tuple[ApiKey, ...], tuple[str, ...]]:
    """Return the keys of the entries that are right, and what is wrong with the others, by their number."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    entries = [entry for line in lines for entry in re.split(r"[\s,]+", line) if entry]
    faults = [f"there are over {MAX_KEYS} entries"] if len(entries) > MAX_KEYS else []
    keys: dict[bytes, ApiKey] = {}
    for number, entry in enumerate(entries[:MAX_KEYS], 1):
        try:
            key = _parsed(entry)
        except KeysInvalid as fault:
            faults.append(f"entry {number} {fault}")
            continue
        if key.digest in keys:
            faults.append(f"entry {number} has the hash of another entry")
            continue
        keys[key.digest] = key
    return tuple(keys.values()), tuple(faults)


def _parsed(entry: str) -> ApiKey:
    name, *rest = entry.split(":")
    if len(rest) not in {2, 3}:
        raise KeysInvalid("is not name:sha256:roles or name:sha256:roles:rate; clip-gateway keys new makes one")
    digest, roles, rate = rest[0], frozenset(rest[1].split("+")), rest[2] if rest[2:] else None
    if not NAME.fullmatch(name) or name in RESERVED_NAMES:
        raise KeysInvalid(
            "has no usable name: 1 to 64 letters, digits, dots, hyphens and underscores, not "
            + " or ".join(sorted(RESERVED_NAMES))
        )
    if not DIGEST.fullmatch(digest):
        raise KeysInvalid("has no SHA-256 of 64 hex digits; a key itself never stands in the configuration")
    if digest.lower() == hashlib.sha256(b"").hexdigest():
        raise KeysInvalid("has the SHA-256 of nothing")
    if not roles <= ROLES:
        raise KeysInvalid(f"has roles other than {', '.join(sorted(ROLES))}, joined by +")
    if rate is not None and not RATE.fullmatch(rate):
        raise KeysInvalid("has no usable rate: such as 120/minute; second, minute, hour or day")
    return ApiKey(name, bytes.fromhex(digest), roles, rate)


class Keyring:
    """The keys in force.

    Args:
        keys: possibly none, and then no key is right.
    """

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self.keys = tuple(keys)

    def find(self, given: str) -> ApiKey | None:
        """Return whose key it is, or None.

        Every entry is compared, each in constant time, whichever matches: the time taken says nothing about the hashes.
        A thousand entries take less than a millisecond.
        """
        if not given or len(given) > MAX_KEY_CHARS:
            return None
        digest = digest_of(given)
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found
