"""GET /v1/decisions/statistics: decisions over time, and whether reviewers agreed with the policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from gateway.api.body.validation import NAME_PATTERN
from gateway.api.dependencies import ServicesDep
from gateway.api.parameters import known_parameters
from gateway.api.schemas.samples import StatisticsOut
from gateway.api.schemas.stored_requests import Moment
from gateway.api.store_calls import stored
from gateway.errors import InvalidRequest
from gateway.store.review.statistics import SPANS, Bucket, Counted, begin_of

MOST_BUCKETS = 1000
BY_DEFAULT = timedelta(days=30)
DECISIONS = ("allow", "review", "block")

router = APIRouter(tags=["decisions"], dependencies=[Depends(known_parameters)])


@router.get("/v1/decisions/statistics", summary="Decisions over time", response_model=StatisticsOut)
async def statistics(
    services: ServicesDep,
    since: Annotated[Moment | None, Query(description="30 days before `until` by default.")] = None,
    until: Annotated[Moment | None, Query(description="Exclusive; now by default.")] = None,
    policy: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
    bucket: Bucket = "day",
) -> Any:  # noqa: ANN401 - of the response model
    """Count decisions, what holds of them, and the reviewers' verdicts, by hour, day or week of the decision, UTC.

    A verdict agrees where the policy's rules flagged the image and it is blocked, or they did not and it is allowed.
    """
    end = until or datetime.now(UTC)
    try:
        begin = since or end - BY_DEFAULT
        count = (end + SPANS[bucket] - begin_of(begin, bucket)) / SPANS[bucket] - 1  # the last span ends behind `until`
    except OverflowError:
        raise InvalidRequest("The query parameters “since” and “until” leave the years 1 to 9999.") from None
    if count > MOST_BUCKETS:
        raise InvalidRequest(
            f"From “since” to “until” there are {count:.0f} times one {bucket}; at most {MOST_BUCKETS} are counted: "
            "take a wider bucket or less time."
        )
    return {
        "data": [bucket_json(span) for span in await stored(services.statistics.counted(begin, end, bucket, policy))]
    }


def bucket_json(span: Counted) -> dict[str, Any]:
    """Return a span of time as JSON values."""
    return {
        "from": span.begin.isoformat(),
        "to": span.end.isoformat(),
        "decisions": {name: span.decisions[name] for name in DECISIONS},
        "outcomes": {name: span.outcomes[name] for name in DECISIONS},
        "reviewed": span.agreed + span.overturned,
        "agreed": span.agreed,
        "overturned": span.overturned,
    }
