"""Who may do what: the key of a request, its rate, and the one table of routes and roles.

Authentication is a layer around the application, so that the key of a request is checked before all else: no route, no
body. Authorization is asked by every route before its own work. What is in neither table is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.console.live_sessions import LiveSession
from gateway.api.dependencies import Services
from gateway.api.problems import error_response
from gateway.api.request_rules import is_own_page, is_secure_page
from gateway.auth.api_keys import ApiKey, Keyring, Role
from gateway.auth.key_file import KeyFile
from gateway.auth.rate_limits import RateLimits, RateLimitStatus
from gateway.auth.sessions import Cookie, cookie_of
from gateway.errors import CrossSiteRequest, Forbidden, GatewayError, RateLimited, Unauthorized
from gateway.observability.metrics import Metrics
from gateway.store.audit import Actor

ANONYMOUS = "anonymous"  # in the audit, while no keys are configured

# Open to everybody. Health says nothing about anyone's data, and who asks for it (an orchestrator, a load balancer)
# often cannot send a header. The documentation says what the source says, and a browser opens a page without a key.
SESSION_PATHS = frozenset(
    {"/v1/session", "/v1/session/oidc", "/v1/session/oidc/callback"}
)  # who signs in has no key yet
OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/docs", "/openapi.json", "/console"}) | SESSION_PATHS
OPEN_FOLDERS = ("/swagger/", "/console/")

ANY_ROLE: frozenset[Role] = frozenset({"infer", "read", "manage", "review"})
INFER: frozenset[Role] = frozenset({"infer"})
READ: frozenset[Role] = frozenset({"read"})
MANAGE: frozenset[Role] = frozenset({"manage"})
REVIEW: frozenset[Role] = frozenset({"review"})
# Who changes something has to see it; who reads decisions has to know what decided.
CONFIGURATION = READ | MANAGE
METRICS: frozenset[Role] = READ | {"metrics"}

# (method, route) → any one of these roles is enough. A route that is missing here is refused to every key.
ACCESS: Mapping[tuple[str, str], frozenset[Role]] = {
    ("POST", "/v1/classify"): INFER,
    ("POST", "/v1/embeddings"): INFER,
    ("POST", "/v1/moderate"): INFER,
    ("POST", "/v1/moderations"): INFER,
    ("GET", "/v1/models"): ANY_ROLE,
    ("GET", "/metrics"): METRICS,
    ("GET", "/v1/decisions"): READ,
    ("GET", "/v1/decisions/statistics"): READ,
    ("GET", "/v1/decisions/{decision_id}"): READ,
    ("GET", "/v1/decisions/{decision_id}/similar"): READ | REVIEW,
    # Who may see a decision may say what holds instead. To put its image on a list needs ``manage`` too.
    ("POST", "/v1/decisions/{decision_id}/feedback"): CONFIGURATION | REVIEW,
    ("DELETE", "/v1/decisions"): MANAGE,
    ("GET", "/v1/reviews"): READ | REVIEW,
    ("GET", "/v1/reviews/{decision_id}"): READ | REVIEW,
    ("GET", "/v1/reviews/{decision_id}/image"): REVIEW,
    ("POST", "/v1/reviews/claim"): REVIEW,
    ("POST", "/v1/reviews/{decision_id}/extend"): REVIEW,
    ("POST", "/v1/reviews/{decision_id}/release"): REVIEW,
    ("POST", "/v1/reviews/{decision_id}/verdict"): REVIEW,
    ("POST", "/v1/reviews/{decision_id}/undo"): REVIEW,
    # Who asked for a decision may ask for a person.
    ("POST", "/v1/reviews/{decision_id}/appeal"): INFER | REVIEW | MANAGE,
    ("GET", "/v1/legal-holds"): MANAGE,
    ("PUT", "/v1/legal-holds"): MANAGE,
    ("DELETE", "/v1/legal-holds"): MANAGE,
    ("GET", "/v1/audit"): CONFIGURATION,
    ("GET", "/v1/webhooks/deliveries"): CONFIGURATION,
    ("POST", "/v1/webhooks/deliveries/{delivery_id}/retry"): MANAGE,
    ("GET", "/v1/keys"): MANAGE,
    ("GET", "/v1/sessions"): MANAGE,
    ("DELETE", "/v1/sessions/{session_id}"): MANAGE,
    ("GET", "/v1/status"): CONFIGURATION | REVIEW,
    ("GET", "/v1/classifiers"): CONFIGURATION,
    ("GET", "/v1/classifiers/{name}"): CONFIGURATION,
    ("GET", "/v1/classifiers/{name}/versions"): CONFIGURATION,
    ("PUT", "/v1/classifiers/{name}"): MANAGE,
    ("POST", "/v1/classifiers/{name}/activate"): MANAGE,
    ("POST", "/v1/classifiers/{name}/train"): MANAGE,
    ("DELETE", "/v1/classifiers/{name}"): MANAGE,
    ("GET", "/v1/policies"): CONFIGURATION,
    ("GET", "/v1/policies/{name}"): CONFIGURATION,
    ("GET", "/v1/policies/{name}/versions"): CONFIGURATION,
    ("PUT", "/v1/policies/{name}"): MANAGE,
    ("POST", "/v1/policies/{name}/activate"): MANAGE,
    ("POST", "/v1/policies/{name}/carry"): MANAGE,
    ("DELETE", "/v1/policies/{name}"): MANAGE,
    ("GET", "/v1/policies/{name}/rollout"): CONFIGURATION,
    ("PUT", "/v1/policies/{name}/rollout"): MANAGE,
    ("DELETE", "/v1/policies/{name}/rollout"): MANAGE,
    # Saves nothing, but runs the model, and its examples name logged decisions.
    ("POST", "/v1/policies/{name}/dry-run"): MANAGE,
    # Save nothing and run no model; rows name logged decisions, as the examples of a dry run do.
    ("POST", "/v1/policies/{name}/sample"): CONFIGURATION,
    ("POST", "/v1/policies/{name}/histogram"): CONFIGURATION,
    ("GET", "/v1/labelled-sets"): CONFIGURATION,
    ("GET", "/v1/labelled-sets/{name}"): CONFIGURATION,
    ("PUT", "/v1/labelled-sets/{name}"): MANAGE,
    ("DELETE", "/v1/labelled-sets/{name}"): MANAGE,
    ("POST", "/v1/labelled-sets/{name}/images"): MANAGE,
    ("GET", "/v1/jobs"): CONFIGURATION,
    ("GET", "/v1/jobs/{job_id}"): CONFIGURATION,
    ("GET", "/v1/jobs/{job_id}/files/{name}"): CONFIGURATION,
    ("POST", "/v1/jobs"): MANAGE,
    ("DELETE", "/v1/jobs/{job_id}"): MANAGE,
    ("GET", "/v1/lists"): CONFIGURATION,
    ("GET", "/v1/lists/{name}"): CONFIGURATION,
    ("GET", "/v1/lists/{name}/entries"): CONFIGURATION,
    ("PUT", "/v1/lists/{name}"): MANAGE,
    ("DELETE", "/v1/lists/{name}"): MANAGE,
    ("POST", "/v1/lists/{name}/entries"): MANAGE,
    ("DELETE", "/v1/lists/{name}/entries"): MANAGE,
}


def is_open(path: str) -> bool:
    """Return whether a path needs no key."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def key_name(request: Request) -> str | None:
    """Return the name of the request's key; None while no keys are configured."""
    key: ApiKey | None = request.state.key
    return key.name if key else None


def actor_of(request: Request) -> Actor:
    """Return who is behind a request, for the audit."""
    return Actor(key_name(request) or ANONYMOUS, request.state.request_id)


def require(request: Request, needed: frozenset[Role]) -> None:
    """Check a part of a request that asks for more than its route.

    Raises:
        Forbidden: its key has none of these roles.
    """
    if not holds(request, needed):
        raise Forbidden(f"This needs a key with the role {' or '.join(sorted(needed))}.")


def holds(request: Request, roles: frozenset[Role]) -> bool:
    """Return whether a request's key has one of these roles; all are had while no keys are configured."""
    key: ApiKey | None = request.state.key
    return key is None or bool(roles & key.roles)


async def authorize(request: Request) -> None:
    """Let the request pass if its key has a role of the route; every route depends on this.

    Raises:
        Forbidden: it has none.
    """
    key: ApiKey | None = request.state.key
    if key is None:
        return
    route = getattr(request.scope.get("route"), "path", "")
    needed: frozenset[Role] = ACCESS.get((request.method, route), frozenset())
    if not needed:
        raise Forbidden("This is open to no key.")
    require(request, needed)


class Authentication:
    """ASGI middleware: finds out whose key a request carries and counts it, before anything else is read.

    A key in a header counts, else the cookie of a session of the console. Puts the key, or None where no keys are
    configured, into the request's state, and as whom a session signs verdicts.

    Args:
        app: what it wraps.
        keys: in force.
        rate_limits: of the keys.
        metrics: refusals are counted there.
        console: whether there are sessions.
    """

    def __init__(
        self, app: ASGIApp, keys: KeyFile, rate_limits: RateLimits, metrics: Metrics, *, console: bool
    ) -> None:
        self._app = app
        self._console = console
        self._keys = keys
        self._rate_limits = rate_limits
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other scopes pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        state["key"] = state["reviewer"] = None
        keyring = self._keys.current
        if keyring is None or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        status: RateLimitStatus | None = None

        async def send_marked(message: Message) -> None:
            if status is not None and message["type"] == "http.response.start":
                mark(MutableHeaders(scope=message), state["key"].name, status)
            await send(message)

        try:
            key = state["key"] = await self._authenticated(scope, keyring)
            structlog.contextvars.bind_contextvars(key=key.name)
            state["services"].access.note_use(key.name)
            status = await self._rate_limits.hit(key)
            if status is not None and not status.admitted:
                raise RateLimited(
                    f"The key “{key.name}” may send {status.limit} requests in {status.window_s} s.",
                    retry_after_s=status.reset_s,
                )
        except GatewayError as error:
            self._metrics.errors.labels(error.code).inc()
            state["code"] = error.code
            await error_response(error, state["request_id"], scope["path"])(scope, receive, send_marked)
            return
        await self._app(scope, receive, send_marked)

    async def _authenticated(self, scope: Scope, keyring: Keyring) -> ApiKey:
        """Return the key that the one Authorization header carries, or that a session was opened with.

        Raises:
            Unauthorized: there is neither, or it carries no known key. What it carries is not logged.
            CrossSiteRequest: there is a session, and no proof that a page of the console sent the request.
            StorageUnavailable: the store is away, and with it who is signed in.
        """
        headers = Headers(scope=scope)
        given = headers.getlist("authorization")
        if not given and self._console and (session := await session_of(scope)) is not None:
            if not is_own_page(scope["method"], headers):
                raise CrossSiteRequest(
                    "With a session only the console's own pages may send this; programs send a key."
                )
            scope["state"]["reviewer"] = session.row.reviewer
            return session.key
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        key = keyring.find(token.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            client = scope.get("client") or ("unknown", 0)
            reason = "unknown key" if given else "no key"
            structlog.contextvars.bind_contextvars(refused=reason, client=client[0])
            raise Unauthorized("Send a valid API key: Authorization: Bearer …")
        return key


async def session_of(scope: Scope) -> LiveSession | None:
    """Return the session whose cookie a request carries, or None.

    Raises:
        StorageUnavailable: the store is away, and this gateway does not know the cookie.
    """
    services: Services = scope["state"]["services"]
    return await services.access.sessions.find(cookie_in(scope))


def cookie_in(scope: Scope) -> Cookie | None:
    """Return the session's cookie that a request carries, or None."""
    headers = Headers(scope=scope)
    cookies = cookie_parser("; ".join(headers.getlist("cookie")))
    return cookie_of(cookies, plain_allowed=not is_secure_page(scope["scheme"], headers))


def mark(headers: MutableHeaders, name: str, status: RateLimitStatus) -> None:
    """Say in an answer's headers where its key stands, as the IETF's draft on RateLimit fields does.

    ``q`` requests in ``w`` seconds are allowed, ``r`` are left, and in ``t`` seconds there will be more.
    """
    headers["RateLimit-Policy"] = f'"{name}";q={status.limit};w={status.window_s}'
    headers["RateLimit"] = f'"{name}";r={status.remaining};t={status.reset_s}'
