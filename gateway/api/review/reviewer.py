"""Who reviews: as the request says, else as the session, else the API key."""

from __future__ import annotations

from starlette.requests import Request

from gateway.api.authorization import key_name
from gateway.store.review.cases import ANONYMOUS


def session_reviewer(request: Request) -> str | None:
    """Return the name that the reviewer gave when signing in; None without a session."""
    name: str | None = getattr(request.state, "reviewer", None)
    return name


def reviewer_of(request: Request, given: str | None) -> str:
    """Return who claims or judges."""
    return given or session_reviewer(request) or key_name(request) or ANONYMOUS
