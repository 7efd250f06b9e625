"""What people say of decisions: verdicts, appeals, and verdicts taken back; rows of one table that are all kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

from sqlalchemy import select

from gateway.store.database import Transaction
from gateway.store.schema import feedback

FeedbackKind = Literal["verdict", "appeal", "undo"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """What was said of a decision; several may be, each is kept, the latest verdict that stands is the outcome.

    Attributes:
        decision_id: of the decision.
        at: UTC.
        decision: the verdict; None of an appeal or undo.
        categories: in which.
        note: the reviewer's, or of who appeals.
        key: name of the API key, or None.
        reviewer: as the key's holder says, or None.
        list: hash list that the image was put on, or None.
        kind: what it is.
        reason: of a verdict, in a word or sentence.
        undone: a verdict that was taken back.
    """

    decision_id: str
    at: datetime
    decision: Literal["allow", "block"] | None
    categories: list[str]
    note: str
    key: str | None = None
    reviewer: str | None = None
    list: str | None = None
    kind: FeedbackKind = "verdict"
    reason: str = ""
    undone: bool = False

    @property
    def stands(self) -> bool:
        """Whether it is a verdict that was not taken back."""
        return self.kind == "verdict" and not self.undone


async def feedback_on(tx: Transaction, decision_ids: Sequence[str]) -> tuple[Feedback, ...]:
    """Return what was said of decisions, oldest first."""
    given = select(*(feedback.c[field.name] for field in fields(Feedback)))
    given = given.where(feedback.c.decision_id.in_(decision_ids)).order_by(feedback.c.at, feedback.c.id)
    return tuple(Feedback(**row) for row in (await tx.execute(given)).mappings())
