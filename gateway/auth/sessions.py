"""The cookie of a session: how it is made and named, and which of a request's cookies is it.

Its value is 256 random bits, as an API key's. The name over HTTPS begins with ``__Host-`` (RFC 6265bis, 4.1.3.2): a
browser takes such a cookie from this very host alone, so that no neighbouring name can slip another session in.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

TOKEN_BYTES = 32
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
PLAIN = "clip_session"  # over HTTP on loopback or a trusted network
SECURE = f"__Host-{PLAIN}"


@dataclass(frozen=True, slots=True)
class Cookie:
    """A session's cookie; ``secure`` tells that it travels over HTTPS alone."""

    value: str
    secure: bool

    @property
    def name(self) -> str:
        """Return its name."""
        return SECURE if self.secure else PLAIN

    @property
    def sha256(self) -> bytes:
        """Return the SHA-256 of its value, 32 bytes: what is kept."""
        return hashlib.sha256(self.value.encode()).digest()


def new_cookie(*, secure: bool) -> Cookie:
    """Return a fresh cookie."""
    return Cookie(secrets.token_urlsafe(TOKEN_BYTES), secure)


def cookie_of(cookies: Mapping[str, str], *, plain_allowed: bool) -> Cookie | None:
    """Return the session's cookie among those of a request, or None.

    Args:
        cookies: by name.
        plain_allowed: whether one that was given over HTTP may count: a page over HTTPS never has one of ours.
    """
    names = (SECURE, PLAIN) if plain_allowed else (SECURE,)
    value = next((cookies[name] for name in names if name in cookies), "")
    return Cookie(value, SECURE in cookies) if TOKEN.fullmatch(value) else None
