"""People known by OpenID Connect: the authorization code flow with PKCE (OpenID Connect Core 3.1, RFC 7636, RFC 9700).

State, nonce and PKCE's verifier are derived from one secret in a cookie of the browser that began, so that nothing is
kept here meanwhile and an answer counts in that browser alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.jwk import KeySet

from gateway.errors import Forbidden, GatewayError, ProviderUnavailable, SignInFailed

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")  # no secrets
WELL_KNOWN = "/.well-known/openid-configuration"
CACHED_S = 3600.0  # of the provider's metadata and keys
RENEWED_S = 30.0  # a token by an unknown key reads the keys again, no oftener than this
MAX_BYTES = 1 << 20  # of one answer of the provider
LEEWAY_S = 60  # between the clocks
MAX_NAME_CHARS = 128
PREFIX = "oidc:"  # no API key has such a name
REFUSED = "Signing in failed: the answer of the identity provider does not fit what was asked. Begin anew."


@dataclass(frozen=True, slots=True)
class OidcRules:
    """How people sign in.

    Attributes:
        issuer: the provider, as its tokens name it.
        client_id: of this gateway there.
        client_secret: likewise; empty: a public client.
        redirect_url: the callback's address as browsers reach it.
        roles_claim: of the ID token; names its groups.
        roles: of each group.
        scope: asked for.
        timeout_s: for everything that is asked of the provider in one step.
    """

    issuer: str
    client_id: str
    client_secret: str
    redirect_url: str
    roles_claim: str
    roles: Mapping[str, frozenset[str]]
    scope: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Person:
    """Who signed in: a name that no API key has, another to sign verdicts with, and roles."""

    name: str
    reviewer: str
    roles: frozenset[str]


class OidcProvider:
    """Asks the provider; what it says is cached for an hour.

    Args:
        rules: of signing in.
    """

    def __init__(self, rules: OidcRules) -> None:
        self.rules = rules
        self._metadata: dict[str, Any] = {}
        self._keys = KeySet([])
        self._read_at = -CACHED_S
        self._reading = asyncio.Lock()
        self._log = structlog.get_logger("oidc")

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach this gateway by HTTPS."""
        return self.rules.redirect_url.startswith("https://")

    async def begin(self, secret: str) -> str:
        """Return the address at the provider that a browser with this secret is sent to.

        Raises:
            ProviderUnavailable: it does not answer, or not as a provider does.
        """
        async with self._asking() as client:
            await self._read(client, CACHED_S)
            url, _ = client.create_authorization_url(
                self._metadata["authorization_endpoint"],
                state=derived(secret, "state"),
                nonce=derived(secret, "nonce"),
                code_verifier=derived(secret, "verifier"),
            )
        return str(url)

    async def finish(self, secret: str, state: str, code: str) -> Person:
        """Return who came back from the provider.

        Raises:
            SignInFailed: the answer is not for this browser, or its ID token is not one for this gateway, now.
            Forbidden: the person has no role here.
            ProviderUnavailable: it does not answer, or not as a provider does.
        """
        if not hmac.compare_digest(derived(secret, "state").encode(), state.encode("utf-8", "surrogateescape")):
            raise SignInFailed(REFUSED)
        async with self._asking() as client:
            await self._read(client, CACHED_S)
            token = await self._token(client, secret, code)
            claims = await self._claims(client, token, derived(secret, "nonce"))
        return self._person(claims)

    def _asking(self) -> _Asking:
        return _Asking(self.rules, self._log)

    async def _token(self, client: AsyncOAuth2Client, secret: str, code: str) -> str:
        verifier = derived(secret, "verifier")
        try:
            answer = await client.fetch_token(self._metadata["token_endpoint"], code=code, code_verifier=verifier)
        except OAuthError as refused:
            self._log.warning("the provider gave no token", error=type(refused).__name__)
            raise SignInFailed(REFUSED) from None
        if not isinstance(found := answer.get("id_token"), str):
            raise SignInFailed(REFUSED)
        return found

    async def _claims(self, client: AsyncOAuth2Client, token: str, nonce: str) -> dict[str, Any]:
        for oldest_s in (CACHED_S, RENEWED_S):
            await self._read(client, oldest_s)
            try:
                claims = jwt.decode(token, self._keys, algorithms=ALGORITHMS).claims
                self._check(claims, nonce)
            except Exception as fault:  # noqa: BLE001 - of two libraries, on what came from outside
                reason = type(fault).__name__
                continue
            return claims
        self._log.warning("an ID token was refused", reason=reason)
        raise SignInFailed(REFUSED)

    def _check(self, claims: dict[str, Any], nonce: str) -> None:
        """Check an ID token's claims (OpenID Connect Core, 3.1.3.7)."""
        rules = self.rules
        jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": rules.issuer},
            aud={"essential": True, "value": rules.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        ).validate(claims)
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else rules.client_id) != rules.client_id:
            raise ValueError("azp")

    def _person(self, claims: dict[str, Any]) -> Person:
        groups = claims.get(self.rules.roles_claim, [])
        named = groups.split() if isinstance(groups, str) else groups if isinstance(groups, list) else []
        roles = frozenset[str]().union(*(self.rules.roles.get(group, ()) for group in named if isinstance(group, str)))
        if not roles:
            raise Forbidden("The identity provider knows you, but none of your groups has a role here.")
        verified = claims.get("email") if claims.get("email_verified") is True else None
        given = verified or claims.get("preferred_username") or claims["sub"]
        shown = "".join(char for char in str(given) if char.isprintable())[:MAX_NAME_CHARS]
        return Person(f"{PREFIX}{shown}", shown, roles)

    async def _read(self, client: AsyncOAuth2Client, oldest_s: float) -> None:
        """Read metadata and keys, unless they were read within ``oldest_s``."""
        async with self._reading:
            if time.monotonic() - self._read_at < oldest_s:
                return
            metadata = await _json_of(client, self.rules.issuer.rstrip("/") + WELL_KNOWN)
            if metadata["issuer"] != self.rules.issuer:
                raise ValueError("the metadata name another issuer")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if urlsplit(metadata[name]).scheme not in {"https", urlsplit(self.rules.issuer).scheme}:
                    raise ValueError("an endpoint without TLS")
            self._keys = KeySet.import_key_set(await _json_of(client, metadata["jwks_uri"]))  # type: ignore[arg-type]  # it checks
            self._metadata = metadata
            self._read_at = time.monotonic()


class _Asking:
    """A client of the provider for one step, within the deadline; its faults become ours."""

    def __init__(self, rules: OidcRules, log: Any) -> None:  # noqa: ANN401 - structlog's
        self._client = AsyncOAuth2Client(
            rules.client_id,
            rules.client_secret or None,
            token_endpoint_auth_method="client_secret_basic" if rules.client_secret else "none",
            redirect_uri=rules.redirect_url,
            scope=rules.scope,
            code_challenge_method="S256",
            timeout=rules.timeout_s,
        )
        self._limit = asyncio.timeout(rules.timeout_s)
        self._log = log

    async def __aenter__(self) -> AsyncOAuth2Client:
        await self._limit.__aenter__()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()
        try:
            await self._limit.__aexit__(kind, fault, trace)
        except TimeoutError as late:
            fault = late
        if isinstance(fault, Exception) and not isinstance(fault, GatewayError):
            self._log.warning("the identity provider failed", error=type(fault).__name__)
            raise ProviderUnavailable("The identity provider does not answer as it should.", retry_after_s=5) from None


async def _json_of(client: AsyncOAuth2Client, url: str) -> dict[str, Any]:
    """Return a JSON object of the provider's."""
    body = bytearray()
    async with client.stream("GET", url, withhold_token=True) as answer:
        answer.raise_for_status()
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > MAX_BYTES:
                raise ValueError("too long an answer")
    found: dict[str, Any] = orjson.loads(body)
    return found


def derived(secret: str, use: str) -> str:
    """Return what a secret comes to for one use: 43 characters, of which neither it nor another use can be told."""
    digest = hmac.digest(secret.encode(), use.encode(), hashlib.sha256)
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
