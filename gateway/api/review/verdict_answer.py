"""How a verdict is read and answered, by whichever route it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi.responses import Response
from starlette.requests import Request

from gateway.api.authorization import MANAGE, key_name, require
from gateway.api.dependencies import Services
from gateway.api.review.reviewer import session_reviewer
from gateway.api.schemas.stored_requests import FeedbackIn
from gateway.api.schemas.stored_responses import FeedbackOut
from gateway.api.store_calls import put_in_force, stored
from gateway.decoding.pdq import MIN_QUALITY
from gateway.errors import InvalidRequest, NotFound, ReviewClaimLost
from gateway.hash_matching.matcher import HashMatcher
from gateway.store.review.cases import CaseTaken
from gateway.store.review.feedback import Feedback
from gateway.store.review.verdicts import Reviewed
from gateway.store.reviewed_lists import REVIEWED_NEAR, ListUnfit

TAKEN = "Somebody else has the case by now, or it is decided."


def verdict_of(request: Request, decision_id: str, given: FeedbackIn) -> Feedback:
    """Return the verdict that a body gives of a decision.

    Raises:
        Forbidden: it names a hash list, and the request's key may not change one.
    """
    if given.add_to_list:
        require(request, MANAGE)
    return Feedback(
        decision_id,
        datetime.now(UTC),
        given.decision,
        given.categories,
        given.note,
        key_name(request),
        given.reviewer or session_reviewer(request),
        given.add_to_list if isinstance(given.add_to_list, str) else None,
        reason=given.reason,
    )


async def reviewed(services: Services, giving: Coroutine[Any, Any, Reviewed | None], decision: str) -> Response:
    """Return the answer of a verdict, and put what it changed of lists in force.

    Raises:
        ReviewClaimLost: somebody else has the case, or it is decided.
        InvalidRequest: the list that it names says something else.
        NotFound: there is no such decision.
    """
    try:
        kept = await stored(giving)
    except ListUnfit as unfit:
        raise InvalidRequest(
            f"The list “{unfit.name}” holds {unfit.kind} and its action is {unfit.action}; name a new one, "
            f"or one that holds sha256 and whose action is {decision}."
        ) from None
    except CaseTaken:
        raise ReviewClaimLost(TAKEN) from None
    if kept is None:
        raise NotFound("There is no such decision.")
    if kept.agreement is not None:
        services.metrics.observe_review(kept.reason or "feedback", kept.agreement)
    if kept.lists:
        await put_in_force(services.list_refresher)
    answer = {
        **feedback_out(kept.verdict),
        "lists": kept.lists,
        "still_blocked_by": await asyncio.to_thread(still_blocked_by, services.list_refresher.current, kept),
        "state": kept.state,
    }
    return Response(orjson.dumps(answer), 201, media_type="application/json")


def still_blocked_by(matcher: HashMatcher, kept: Reviewed) -> list[str]:
    """Return the lists that block an image although it was put on one that allows it; for a thread."""
    if kept.verdict.decision == "block" or not kept.lists:
        return []
    found = matcher.match(kept.image.sha256, kept.image.pdq, MIN_QUALITY)
    return [match.list for match in found if match.action == "block" and match.list != REVIEWED_NEAR]


def feedback_out(feedback: Feedback) -> dict[str, Any]:
    """Return a row of feedback as the API shows it."""
    return {name: getattr(feedback, name) for name in FeedbackOut.model_fields}
