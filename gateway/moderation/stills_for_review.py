"""Which stills are kept: of logged decisions that wait for review, with the frames that decided first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.limits.deadline import Deadline
from gateway.moderation.verdicts import Verdict
from gateway.pipeline import ImageOutcome
from gateway.review.images import ReviewImages, ToKeep


@dataclass(frozen=True, slots=True)
class Pending:
    """A logged decision: its id, the client's id, the image and the verdict."""

    decision_id: str
    external_id: str | None
    outcome: ImageOutcome
    verdict: Verdict


async def keep_stills(kept: ReviewImages, logged: Sequence[Pending], deadline: Deadline) -> None:
    """Keep the stills of what waits for review, behind its row in the log and before it is answered.

    Where that fails, the verdict stands and the case has no image.
    """
    waiting = []
    for each in logged:
        if each.verdict.decision != "review":
            continue
        if each.outcome.stills_dropped:
            kept.observe("no_room")
        prepared = each.outcome.prepared
        if prepared is not None and prepared.stills:
            places = [evidence.place for category in each.verdict.categories for evidence in category.evidence]
            shown = tuple(dict.fromkeys((place.frame_ms, place.background) for place in places))
            size = prepared.info.width, prepared.info.height
            waiting.append(ToKeep(each.decision_id, each.external_id, *size, prepared.stills, shown))
    await kept.keep(waiting, deadline)
