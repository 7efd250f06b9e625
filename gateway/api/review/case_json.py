"""Cases as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from gateway.api.dependencies import Services
from gateway.api.review.decisions import out
from gateway.api.review.verdict_answer import feedback_out
from gateway.review.image_url import image_url
from gateway.review.withholding import withheld
from gateway.store.review.cases import CaseRecord

NOTHING: Mapping[str, Any] = MappingProxyType(
    {"stills": 0, "width": None, "height": None, "frames_ms": [], "url": None}
)


async def cases_out(services: Services, cases: Sequence[CaseRecord]) -> list[dict[str, Any]]:
    """Return cases without feedback and tokens."""
    lists = await withheld(services.list_refresher.current, [case.decision for case in cases])
    return [_case(services, case, lists.get(case.decision.id)) for case in cases]


async def case_out(services: Services, case: CaseRecord, *, token: bool = False) -> dict[str, Any]:
    """Return one case with what was said of the decision; ``token``: show the claim's, to who has it."""
    (shown,) = await cases_out(services, [case])
    shown["decision"]["feedback"] = [feedback_out(entry) for entry in case.feedback]
    if token and shown["claim"]:
        shown["claim"]["token"] = case.token
    return shown


def without_people(shown: dict[str, Any]) -> dict[str, Any]:
    """Return a case for who may appeal but not read: without reviewers and their words, lists and legal holds."""
    decision = {name: value for name, value in shown["decision"].items() if name != "feedback"}
    image = {**NOTHING, "state": "none"}
    hidden = {"claim": None, "legal_hold": False, "withheld": None, "image": image}
    return {**shown, **hidden, "decision": {**decision, "reviewed": None, "shadow": None}}


def _case(services: Services, case: CaseRecord, withheld_by: str | None) -> dict[str, Any]:
    state = case.state
    claimed = state == "claimed" and case.claimed_until is not None
    return {
        "id": case.decision.id,
        "state": state,
        "reason": case.reason,
        "opened_at": case.opened_at.isoformat(),
        "closed_at": case.closed_at and case.closed_at.isoformat(),
        "risk": case.risk,
        "margin": case.margin,
        "claim": {"by": case.claimed_by, "until": case.claimed_until.isoformat()}
        if claimed and case.claimed_until
        else None,
        "legal_hold": case.legal_hold,
        "withheld": withheld_by and {"list": withheld_by, "procedure": services.review.withheld_procedure},
        "image": _image(services, case, is_withheld=withheld_by is not None),
        "decision": out(case.decision),
    }


def _image(services: Services, case: CaseRecord, *, is_withheld: bool) -> dict[str, Any]:
    if is_withheld:
        return {**NOTHING, "state": "withheld"}
    kept, url = case.image, image_url(services.review.image_url, case.decision)
    if kept is not None and kept.state == "kept":
        size = {"width": kept.width, "height": kept.height}
        frames = [still.get("frame_ms") for still in kept.stills]
        return {"state": "kept", "stills": len(frames), **size, "frames_ms": frames, "url": url}
    if url is not None:
        return {**NOTHING, "state": "linked", "url": url}
    return {**NOTHING, "state": kept.state if kept is not None else "none"}
