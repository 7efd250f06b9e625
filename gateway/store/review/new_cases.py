"""Which decisions wait for a person, and what their place in the queue follows from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row

if TYPE_CHECKING:
    from gateway.store.decisions import DecisionRecord

FIRED = ("review", "block")
AUDIT = "audit"  # the warning of a file that its policy allows and that is looked at all the same
CERTAIN = 1.0  # the margin of a decision without thresholds, such as one by a hash list


def new_case(record: DecisionRecord | Row[Any]) -> dict[str, Any]:
    """Return the row of the case of a decision, or of a row of the log.

    ``risk`` is the highest score of the categories that fired, 0..1, and 0 where none did. ``margin`` is the smallest
    distance of a score to one of its thresholds, 0..1.
    """
    categories = record.detail["categories"]
    distances = [
        abs(entry["score"] - threshold)
        for entry in categories
        for threshold in (entry.get("review_at"), entry.get("block_at"))
        if threshold is not None
    ]
    return {
        "decision_id": record.id,
        "reason": "audit" if AUDIT in record.detail.get("warnings", ()) else "policy",
        "opened_at": record.at,
        "risk": max((entry["score"] for entry in categories if entry["decision"] in FIRED), default=0.0),
        "margin": min(distances, default=CERTAIN),
        "policy": record.policy,
        "key": record.detail.get("key"),
    }
