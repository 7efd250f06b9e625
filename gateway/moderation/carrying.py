"""Carrying a policy to the bundle being served: the same rules over the same classifier versions, as a draft.

What was measured on the other bundle, thresholds and calibrations, is kept and marked (``Policy.carried_from``). Label
vectors are computed with this bundle's text tower. Heads are not carried: they fit the model that they were trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.limits.deadline import Deadline
from gateway.moderation.binding import bind, stored_policy
from gateway.moderation.policy import CarriedFrom, Policy
from gateway.moderation.saving import Saver
from gateway.store.audit import Actor
from gateway.store.preconditions import UNCONDITIONAL, Precondition, StaleWrite
from gateway.store.versions import PinMissing, Saved, Version

ATTEMPTS = 3  # somebody else was faster: look again


async def carry(
    saver: Saver, source: Version, *, activate: bool, actor: Actor, precondition: Precondition = UNCONDITIONAL
) -> Saved:
    """Save what a policy's version of another bundle says as a version for this one, unless that is there.

    What was carried before is found again, so that nothing is saved twice. ``activate`` puts what is new in force, and
    what is there only where this bundle has nothing in force: thresholds that were measured meanwhile stay.

    Args:
        saver: of the bundle being served; its catalog is not refreshed here.
        source: in force for the other bundle.
        activate: whether it is to be in force, though its thresholds were not measured on this bundle.
        actor: who asks.
        precondition: has to hold of the latest version.

    Raises:
        HeadModelMismatch: it pins a head for another model.
        RequestError: words that this model cannot take.
        StaleWrite: the precondition does not hold.
        PinMissing: a classifier was deleted meanwhile.
        StorageUnavailable, StoreUnavailable: the store is away.
        ServiceError: text vectors could not be computed.
    """
    body = await _checked(saver, source)
    versions, name, attempt = saver.versions, source.name, 0
    while True:
        history = await versions.history("policy", name)
        latest = history[0].etag if history else None
        precondition.check(*([latest] if latest else []), latest=history[0].number if history else None)
        there = _carried_before(history, body, source.pins, saver.manifest.bundle_id)
        if there is not None:
            if not activate or any(version.active for version in history):
                return Saved(there, new=False)
            found = await versions.activate("policy", name, there.number, actor=actor)
            return Saved(found or there, new=False)
        unchanged = Precondition(frozenset({latest})) if latest else UNCONDITIONAL
        try:
            return await versions.save(
                "policy",
                name,
                body.model_dump(mode="json"),
                pins=source.pins,
                activate=activate,
                actor=actor,
                precondition=unchanged,
            )
        except StaleWrite:
            attempt += 1
            if attempt == ATTEMPTS:
                raise


async def _checked(saver: Saver, source: Version) -> Policy:
    """Return the body to save, once its classifiers have text vectors of this bundle and its labels are theirs."""
    before = stored_policy(source)
    carried_from = CarriedFrom(bundle_id=str(source.bundle_id), version=source.number)
    body = before.model_copy(update={"tuned_on": None, "carried_from": carried_from})
    deadline = Deadline.after(saver.timeout_s)
    classifiers = {}
    for name, number in source.pins.items():
        row = await saver.versions.read("classifier", name, number)
        if row is None:
            raise PinMissing([f"{name}@{number}"])
        classifiers[name] = await saver.catalog.bind_classifier(row, deadline)
    bind(source.name, 0, saver.manifest.bundle_id, body, classifiers)
    return body


def _carried_before(history: Sequence[Version], body: Policy, pins: dict[str, int], bundle_id: str) -> Version | None:
    """Return this bundle's newest version with the same rules over the same classifiers, measured or not."""
    wanted = _without_records(body.model_dump(mode="json"))
    ours = (version for version in history if (version.bundle_id, version.pins) == (bundle_id, pins))
    return next((version for version in ours if _without_records(version.body) == wanted), None)


def _without_records(body: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in body.items() if field not in {"tuned_on", "carried_from"}}
