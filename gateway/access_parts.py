"""The parts of access that settings alone describe."""

from __future__ import annotations

from datetime import timedelta

from gateway.api.console.live_sessions import LiveSessions, SessionRules
from gateway.api.console.presence import Presence
from gateway.api.console.services import AccessServices, Features
from gateway.auth.api_keys import ROLES
from gateway.auth.key_file import KeyFile
from gateway.auth.rate_limits import RateLimits
from gateway.evaluation.installed import is_installed
from gateway.observability.figures import RecentRates
from gateway.observability.metrics import Metrics
from gateway.readiness import Readiness
from gateway.settings import Settings
from gateway.store.access.activity import Activity
from gateway.store.access.sessions import Sessions
from gateway.store.database import Database

CALLBACK = "/v1/session/oidc/callback"


class OidcInvalid(ValueError):
    """The settings of OpenID Connect cannot be used; the text says which, and no secret."""


def check_oidc(settings: Settings) -> None:
    """Check the settings of OpenID Connect.

    Raises:
        OidcInvalid: they cannot be used together, or the extra is not installed.
    """
    if not settings.oidc_issuer:
        return
    if not settings.has_keys:
        raise OidcInvalid("OIDC_ISSUER needs API keys: without them everybody may do everything anyhow")
    if not settings.oidc_client_id or not settings.oidc_redirect_url.endswith(CALLBACK):
        raise OidcInvalid(f"OIDC_ISSUER needs OIDC_CLIENT_ID, and an OIDC_REDIRECT_URL that ends with {CALLBACK}")
    groups_and_roles(settings.oidc_roles)
    try:
        import gateway.api.console.oidc  # noqa: F401, PLC0415 - of an extra
    except ImportError:
        raise OidcInvalid("OIDC_ISSUER needs the extra oidc: pip install '.[oidc]'") from None


def groups_and_roles(text: str) -> dict[str, frozenset[str]]:
    """Return the roles of each group: ``group=role+role``, separated by commas.

    Raises:
        OidcInvalid: another form, another role, or nothing.
    """
    found: dict[str, frozenset[str]] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        group, _, roles = entry.rpartition("=")
        found[group] = frozenset(roles.split("+"))
        if not group or not found[group] <= ROLES:
            raise OidcInvalid(f"OIDC_ROLES is group=role+role, comma-separated, of {', '.join(sorted(ROLES))}")
    if not found:
        raise OidcInvalid("OIDC_ROLES names no group, so that nobody could sign in")
    return found


def access_services(
    settings: Settings,
    keys: KeyFile,
    rate_limits: RateLimits,
    database: Database,
    readiness: Readiness,
    metrics: Metrics,
) -> AccessServices:
    """Return what the routes of access work with."""
    oidc = None
    if settings.oidc_issuer:
        from gateway.api.console.oidc import OidcProvider, OidcRules  # noqa: PLC0415 - of an extra

        oidc = OidcProvider(
            OidcRules(
                settings.oidc_issuer,
                settings.oidc_client_id,
                settings.oidc_client_secret,
                settings.oidc_redirect_url,
                settings.oidc_roles_claim,
                groups_and_roles(settings.oidc_roles),
                settings.oidc_scope,
                settings.oidc_timeout_s,
            )
        )
    rules = SessionRules(
        timedelta(hours=settings.session_hours),
        timedelta(minutes=settings.session_idle_minutes),
        f"{settings.sign_ins_per_minute}/minute",
        settings.oidc_issuer or None,
    )
    sessions = LiveSessions(Sessions(database), rules, lambda: keys.current, rate_limits)
    activity = Activity(database)
    presence = Presence(activity, sessions, readiness, RecentRates(metrics))
    return AccessServices(keys, sessions, activity, presence, features(settings), oidc)


def features(settings: Settings) -> Features:
    """Return what this gateway has, as the console is told."""
    kept = settings.review_images != "none"
    return Features(
        review_images="store" if kept else "link" if settings.review_image_url else "none",
        vectors=settings.decision_log and settings.decision_vectors,
        webhooks=bool(settings.webhook_url),
        jobs=is_installed(),
        log=settings.decision_log,
    )
