"""/v1/session/oidc: signing in at an identity provider."""

from __future__ import annotations

import secrets
from typing import Annotated

import structlog
from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse, Response
from starlette.requests import Request

from gateway.api.console.services import AccessServices
from gateway.api.console.session import client_of, keep
from gateway.api.dependencies import ServicesDep
from gateway.api.store_calls import stored
from gateway.auth.api_keys import ApiKey
from gateway.errors import GatewayError, NotFound, SignInFailed

COOKIE, SECURE_COOKIE = "clip_oidc", "__Host-clip_oidc"
LASTS_S = 600  # how long a person may take at the provider
SECRET_BYTES = 32
MAX_CHARS = 4096

router = APIRouter(tags=["access"])


@router.get("/v1/session/oidc", summary="Sign in at the identity provider", status_code=302)
async def begin(request: Request, services: ServicesDep) -> Response:
    """Send a browser to the identity provider. 404 where `OIDC_ISSUER` is not set."""
    access = services.access
    if access.oidc is None or access.keys.current is None:
        raise NotFound("Signing in by OpenID Connect is not set up.")
    await access.sessions.count_attempt(client_of(request))
    secret = secrets.token_urlsafe(SECRET_BYTES)
    answer = RedirectResponse(await access.oidc.begin(secret), 302)
    secure = access.oidc.is_secure
    # Lax: the way back is a navigation that another site begins.
    answer.set_cookie(_name(access), secret, max_age=LASTS_S, path="/", secure=secure, httponly=True, samesite="lax")
    return answer


@router.get("/v1/session/oidc/callback", summary="Come back from the identity provider", status_code=302)
async def callback(
    request: Request,
    services: ServicesDep,
    state: Annotated[str, Query(max_length=MAX_CHARS)] = "",
    code: Annotated[str, Query(max_length=MAX_CHARS)] = "",
    error: Annotated[str, Query(max_length=MAX_CHARS, description="Why the provider knows nobody.")] = "",
) -> Response:
    """Open a session for the person that the provider names, and go on to the console.

    Only in the browser that began, within ten minutes, once.
    """
    access = services.access
    if access.oidc is None or access.keys.current is None:
        raise NotFound("Signing in by OpenID Connect is not set up.")
    outcomes = services.metrics.sign_ins
    try:
        await access.sessions.count_attempt(client_of(request))
        secret = request.cookies.get(_name(access), "")
        if error or not secret or not code:
            raise SignInFailed("The identity provider did not sign you in, or this browser did not begin it.")
        person = await access.oidc.finish(secret, state, code)
        key = ApiKey(person.name, b"", person.roles)
        issuer, secure = access.oidc.rules.issuer, access.oidc.is_secure
        opening = access.sessions.open(key, person.reviewer, secure=secure, issuer=issuer)
        session, cookie = await stored(opening)
    except GatewayError as refused:
        outcomes.labels(refused.code).inc()
        raise
    outcomes.labels("ok").inc()
    structlog.get_logger("access").info("signed in", key=person.name, session=session.row.id)
    answer = RedirectResponse("/console", 302)
    keep(answer, cookie, services)
    answer.delete_cookie(_name(access), path="/", secure=secure, httponly=True, samesite="lax")
    return answer


def _name(access: AccessServices) -> str:
    return SECURE_COOKIE if access.oidc is not None and access.oidc.is_secure else COOKIE
