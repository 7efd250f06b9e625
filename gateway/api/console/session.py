"""/v1/session: an API key is exchanged for the cookie of a session, which the console's pages send by themselves."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import orjson
import structlog
from fastapi import APIRouter, Depends
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.authorization import actor_of, cookie_in, session_of
from gateway.api.body.reader import read_json
from gateway.api.body.validation import validated
from gateway.api.console.live_sessions import LiveSession
from gateway.api.dependencies import Services, ServicesDep
from gateway.api.openapi import request_body
from gateway.api.parameters import known_parameters
from gateway.api.request_rules import is_own_page, is_secure_page
from gateway.api.schemas.access import OpenSessionsOut, ReviewerBody, SessionOut, SignInBody
from gateway.api.store_calls import stored
from gateway.auth.api_keys import ROLES
from gateway.auth.sessions import PLAIN, SECURE, Cookie
from gateway.errors import CrossSiteRequest, GatewayError, NotFound, Unauthorized

NOT_OURS = "Only the console's own pages may sign in, rename and sign out; programs send a key with each request."
MOST_LISTED = 500

router = APIRouter(tags=["access"], dependencies=[Depends(known_parameters)])


@router.get("/v1/session", summary="Who is signed in", response_model=SessionOut)
async def who(request: Request, services: ServicesDep) -> Response:
    """Say who uses the console and what it may offer; needs no key. Never prolongs a session that has ended."""
    session = await session_of(request.scope)
    answer = _answer(request, services, session)
    if session is None and cookie_in(request.scope) is not None:
        _forget(answer)
    return answer


@router.post(
    "/v1/session",
    summary="Sign in with an API key",
    response_model=SessionOut,
    openapi_extra=request_body(SignInBody, {"key": "clipmod_…", "reviewer": "ann"}),
)
async def sign_in(request: Request, services: ServicesDep) -> Response:
    """Exchange a key for a cookie that pages of this gateway alone can send, and no script can read.

    It has the key's roles and rate, ends with the key, after `SESSION_HOURS`, and after `SESSION_IDLE_MINUTES` without
    a request. A browser has to vouch (`Sec-Fetch-Site` or `Origin`) that a page of this gateway asks.
    """
    check_own_page(request)
    access, outcomes = services.access, services.metrics.sign_ins
    try:
        await access.sessions.count_attempt(client_of(request))
        with services.admission.request() as reservation:
            given = await read_json(request, services.body_rules, reservation)
            body = await asyncio.to_thread(validated, SignInBody, given)
        keyring = access.keys.current
        if keyring is None:
            return _answer(request, services, None)
        key = keyring.find(body.key)
        if key is None:
            raise Unauthorized("There is no such API key.")
        opening = access.sessions.open(key, body.reviewer or None, secure=_is_secure(request))
        session, cookie = await stored(opening)
        await _close_former(request, services)
    except GatewayError as refused:
        outcomes.labels(refused.code).inc()
        raise
    outcomes.labels("ok").inc()
    structlog.get_logger("access").info("signed in", key=key.name, session=session.row.id)
    answer = _answer(request, services, session)
    keep(answer, cookie, services)
    return answer


@router.patch(
    "/v1/session",
    summary="Set as whom verdicts are signed",
    response_model=SessionOut,
    openapi_extra=request_body(ReviewerBody, {"reviewer": "ann"}),
)
async def rename(request: Request, services: ServicesDep) -> Response:
    """Set the reviewer's name of one's own session. A gateway without keys has no sessions and keeps no name."""
    check_own_page(request)
    with services.admission.request() as reservation:
        given = await read_json(request, services.body_rules, reservation)
        body = await asyncio.to_thread(validated, ReviewerBody, given)
    session = await session_of(request.scope)
    if services.access.keys.current is None:
        return _answer(request, services, None)
    if session is None:
        raise Unauthorized("Nobody is signed in.")
    return _answer(request, services, await stored(services.access.sessions.rename(session, body.reviewer or None)))


@router.delete("/v1/session", summary="Sign out", status_code=204)
async def sign_out(request: Request, services: ServicesDep) -> Response:
    """End one's own session, on all gateways within 5 s, and take the cookie back."""
    check_own_page(request)
    await _close_former(request, services)
    answer = Response(status_code=204)
    _forget(answer)
    return answer


@router.get("/v1/sessions", summary="Who is signed in, all", response_model=OpenSessionsOut)
async def sessions(services: ServicesDep) -> Response:
    """List open sessions, the newest first."""
    live = services.access.sessions
    rows = await stored(live.rows.latest(MOST_LISTED, live.rules.idle))
    data = [
        {
            "id": row.id,
            "name": row.name,
            "reviewer": row.reviewer,
            "by": "oidc" if row.issuer else "key",
            "created_at": row.created_at.isoformat(),
            "seen_at": row.seen_at.isoformat(),
            "expires_at": row.expires_at.isoformat(),
        }
        for row in rows
    ]
    return _json({"data": data})


@router.delete("/v1/sessions/{session_id}", summary="End a session", status_code=204)
async def revoke(request: Request, services: ServicesDep, session_id: str) -> Response:
    """End somebody's session: at this gateway at once, at others within 5 s. The audit says who did."""
    if not await stored(services.access.sessions.revoke(session_id, actor=actor_of(request))):
        raise NotFound("There is no such session.")
    return Response(status_code=204)


def check_own_page(request: Request) -> None:
    """Check that a page of this gateway asks.

    Raises:
        CrossSiteRequest: no browser vouches for it.
    """
    if not is_own_page(request.method, request.headers):
        raise CrossSiteRequest(NOT_OURS)


def client_of(request: Request) -> str:
    """Return the address of a client."""
    return request.client.host if request.client else "unknown"


def keep(answer: Response, cookie: Cookie, services: Services) -> None:
    """Let the browser keep a session's cookie."""
    lasts_s = int(services.access.sessions.rules.lifetime.total_seconds())
    answer.set_cookie(
        cookie.name, cookie.value, max_age=lasts_s, path="/", secure=cookie.secure, httponly=True, samesite="strict"
    )


def _is_secure(request: Request) -> bool:
    return is_secure_page(request.scope["scheme"], request.headers)


async def _close_former(request: Request, services: Services) -> None:
    """End the session of the cookie that a request carries."""
    cookie = cookie_in(request.scope)
    if cookie is not None:
        await stored(services.access.sessions.close(cookie))


def _forget(answer: Response) -> None:
    for name, secure in ((SECURE, True), (PLAIN, False)):
        answer.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="strict")


def _answer(request: Request, services: Services, session: LiveSession | None) -> Response:
    access, free = services.access, services.access.keys.current is None
    said: dict[str, Any] = {
        "open": free,
        "signed_in": session is not None,
        "name": session.key.name if session else None,
        "reviewer": session.row.reviewer if session else None,
        "roles": sorted(session.key.roles if session else ROLES if free else ()),
        "expires_at": session.row.expires_at.isoformat() if session else None,
        "demo": services.manifest.model.demo,
        "oidc": access.oidc is not None,
        "version": request.app.version,
        "features": asdict(access.features),
    }
    return _json(said)


def _json(answer: dict[str, Any]) -> Response:
    return Response(orjson.dumps(answer), media_type="application/json")
