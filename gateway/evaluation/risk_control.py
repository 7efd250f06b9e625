"""Thresholds that keep stated risks at a stated confidence, chosen on the calibration half and checked on the rest.

``block_at`` follows from the share of harmless images that may be blocked, ``review_at`` from the share of traffic that
people can look at (as low as that allows) or from the share of offending images that must be seen (as high as that
allows). Each promise is about the whole policy. Several promises share the confidence (Bonferroni), so that all hold
together.

The rules' thresholds move on one path (``guarantee.path``), whose shape must not come from the images that it is tested
on. With enough images an eighth of them gives the shape: the same share of the way, in logits, from the score that a
tenth of harmless images exceeds to the middle of the offending ones. So every category catches about as much as the
others. With fewer, all images test, and the shape is that of the thresholds in force. Which of the two follows from the
number of images alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from gateway.evaluation.guarantee.choice import Choice
from gateway.evaluation.guarantee.demands import Demand, DrawnGroups, apart_and_rest, demands, drawn_groups, matrix
from gateway.evaluation.guarantee.path import Floats, ThresholdPath, loosest_row, strictest_row
from gateway.evaluation.guarantee.promises import (
    GoalName,
    Goals,
    Missing,
    Promise,
    held,
    needed,
    percent,
    possible,
    stated,
)
from gateway.evaluation.judged import JudgedSet, Part
from gateway.moderation.policy import Policy

__all__ = ("Choice", "Goals", "choose")

MIN_HARMLESS = 30  # to give the path's shape
MIN_OFFENDING = 10  # of each category
HARMLESS_BELOW = 0.9


def choose(
    judged: JudgedSet,
    goals: Goals,
    parts: Sequence[Part] | None = None,
    traffic: Sequence[Mapping[str, float]] | None = None,
) -> Choice:
    """Choose thresholds that keep the goals, or say why none do.

    Args:
        judged: all parts; the test part is looked at only after the choice.
        goals: what to keep.
        parts: to choose on; None: those that no head was trained on.
        traffic: category → score of stored decisions of the same policy, as they came; then ``review_share`` needs no
            prevalence.

    Raises:
        ValueError: no policy was asked, it has two rules for a category, or a prevalence is missing.
    """
    parts = judged.run.untouched if parts is None else parts
    before = _policy_body(judged)
    categories = tuple(rule["category"] for rule in before["rules"])
    _check(goals, categories, traffic)
    tuning = drawn_groups(judged.of(*parts), categories)
    stored = None if traffic is None else matrix(traffic, categories)
    asked = list(demands(goals, tuning, stored))
    refused = tuple(_too_common(goals)) if stored is None else ()
    missing = tuple(_missing(asked, goals.each_confidence)) if not refused else ()
    if refused or missing:
        return Choice(goals, None, before, missing=missing, contradictions=refused)

    shaping = None
    if len(categories) > 1:
        apart, rest = (drawn_groups(some, categories) for some in apart_and_rest(judged.of(*parts)))
        later = list(demands(goals, rest, stored))
        if enough_to_shape(apart) and not list(_missing(later, goals.each_confidence)):
            shaping, asked = apart, later
    review, block, contradictions = _thresholds(goals, asked, _paths(before, shaping), before)
    if contradictions:
        return Choice(goals, None, before, contradictions=contradictions)
    promises = tuple(
        Promise(d.goal, d.category, d.limit, d.errors(review, block), len(d.scores), d.always) for d in asked
    )
    rules = [
        {**rule, "review_at": _threshold(low), "block_at": _threshold(high)}
        for rule, low, high in zip(before["rules"], review, block, strict=True)
    ]
    tuned_on = _tuned_on(judged, goals, parts, tuning, promises)
    body = {**before, "rules": rules, "tuned_on": tuned_on, "carried_from": None}
    test = drawn_groups(judged.of("test") if "test" not in parts else judged.of(), categories)
    found = [
        held(promise, d.errors(review, block), len(d.scores))
        for promise, d in zip(promises, demands(goals, test, None), strict=True)
        if promise.goal != "review_share" or stored is None
    ]
    return Choice(
        goals,
        Policy.model_validate(body).model_dump(mode="json"),
        before,
        promises,
        held=tuple(one for one in found if one is not None),
        effects=tuple(_effects(test, review, block)),
        notes=tuple(_notes(before, tuning, block, balanced=shaping is not None)),
    )


def _policy_body(judged: JudgedSet) -> dict[str, Any]:
    given = judged.run.policy_body
    if given is None:
        raise ValueError("thresholds belong to a policy; these images were judged by a classifier")
    body = {name: value for name, value in given.items() if name in Policy.model_fields}
    names = [rule["category"] for rule in body["rules"]]
    if len(set(names)) < len(names):
        raise ValueError("the policy has two rules for a category; a score of the category does not say whose it is")
    return Policy.model_validate(body).model_dump(mode="json")


def _check(goals: Goals, categories: Sequence[str], traffic: Sequence[Mapping[str, float]] | None) -> None:
    """Raise ValueError where the share of traffic that is reviewed cannot be known, or a name is no category."""
    named = set(goals.prevalence or {})
    if unknown := sorted(named - set(categories)):
        raise ValueError(f"the policy has no category “{unknown[0]}”, whose prevalence is given")
    if goals.review_share is None or traffic is not None:
        return
    if absent := [name for name in categories if name not in named]:
        raise ValueError(
            "review_share is about all images that come in, and a folder does not say how common things are: state the "
            f"prevalence of each category ({', '.join(absent)}), as in gore=0.002, or use stored decisions"
        )


def _too_common(goals: Goals) -> Iterator[str]:
    if goals.review_share is not None and goals.offending >= goals.review_share:
        yield (
            f"--review-share and --prevalence contradict each other: {stated(goals.offending)} of all images are "
            f"offending, which is no less than the {stated(goals.review_share)} that may be reviewed or blocked. "
            f"State a review share above {stated(goals.offending)}."
        )


def _missing(asked: Sequence[Demand], confidence: float) -> Iterator[Missing]:
    for demand in asked:
        have, need = len(demand.scores), needed(demand.level, confidence)
        if have < need:
            least = possible(have, confidence, demand.always)
            yield Missing(demand.goal, demand.category, demand.limit, demand.kind, have, need, least)


def _paths(before: Mapping[str, Any], shaping: DrawnGroups | None) -> tuple[ThresholdPath, ThresholdPath]:
    """Return the paths of ``review_at`` and of ``block_at``."""
    if shaping is None:
        same = before.get("tuned_on") is not None  # thresholds in force may come from these images: take none of them
        orders = (("review_at", "block_at"), ("block_at", "review_at"))
        starts = [
            [0.5 if same else next(rule[name] for name in order if rule[name] is not None) for rule in before["rules"]]
            for order in orders
        ]
        low, high = (ThresholdPath.through(_logits(np.array(start)), np.ones(len(start))) for start in starts)
        return low, high
    start = np.quantile(_logits(shaping.harmless), HARMLESS_BELOW, axis=0)
    columns = enumerate(shaping.offending.values())
    middle = np.array([np.median(_logits(scores[:, number])) for number, scores in columns])
    path = ThresholdPath.through(start, middle - start)
    return path, path


def enough_to_shape(apart: DrawnGroups) -> bool:
    """Return whether quantiles of these images say something."""
    least = min(len(scores) for scores in apart.offending.values())
    return len(apart.harmless) >= MIN_HARMLESS and least >= MIN_OFFENDING


def _thresholds(
    goals: Goals,
    asked: Sequence[Demand],
    paths: tuple[ThresholdPath, ThresholdPath],
    before: Mapping[str, Any],
) -> tuple[Floats, Floats, tuple[str, ...]]:
    """Return review_at and block_at [categories], infinity for never, and what contradicts."""
    low, high = paths
    confidence = goals.each_confidence
    review, block = (_present(before, name) for name in ("review_at", "block_at"))
    by_goal = {goal: [demand for demand in asked if demand.goal == goal] for goal in goals.stated}

    def loosest(goal: GoalName, path: ThresholdPath) -> int:
        (demand,) = by_goal[goal]
        row = loosest_row(path.reached(demand.scores), path.last, demand.level, confidence)
        return path.last if row is None else row  # no image reaches the last, whatever the population

    if goals.block_fpr is not None:
        block = high.thresholds[loosest("block_fpr", high)]
    share = loosest("review_share", low) if goals.review_share is not None else None
    catch = None
    if goals.catch is not None:
        catch = strictest_row([low.reached(d.scores) for d in by_goal["catch"]], 1 - goals.catch, confidence) or 0
    if share is not None and catch is not None and share > catch:
        return review, block, (_contradiction(goals, by_goal, low, share, catch),)
    row = catch if share is None else share
    if row is not None:
        review = low.thresholds[row]
    # A rule reviews no later than it blocks. Where a share was promised, blocking gives way, else reviewing does.
    if share is not None:
        block = np.maximum(block, review)
    else:
        review = np.where(np.isfinite(review), np.minimum(review, block), review)
    silent = [rule["category"] for rule, at in zip(before["rules"], np.minimum(review, block), strict=True) if at > 1]
    if silent:
        return review, block, (f"Only a rule that never fires would keep this: {', '.join(silent)}. Ask for less.",)
    return review, block, ()


def _contradiction(
    goals: Goals, by_goal: Mapping[GoalName, Sequence[Demand]], path: ThresholdPath, share: int, catch: int
) -> str:
    """Say what each of the two goals would leave of the other."""
    (reviewed,) = by_goal["review_share"]
    never = np.full(path.thresholds.shape[1], np.inf)
    looked = reviewed.errors(path.thresholds[catch], never) / len(reviewed.scores)
    looked = reviewed.always + (1 - reviewed.always) * looked
    caught = [
        f"{percent(1 - d.errors(path.thresholds[share], never) / len(d.scores))} of “{d.category}”"
        for d in by_goal["catch"]
    ]
    return (
        "--review-share and --catch contradict each other with these scores. Thresholds that keep a review share of "
        f"{stated(goals.review_share or 0)} caught, of the images tuned on, {', '.join(caught)}; thresholds that "
        f"catch {stated(goals.catch or 0)} sent {percent(looked)} to review. Allow more reviews, catch less, or "
        "improve the scores (calibration does not; a trained head may)."
    )


def _notes(before: Mapping[str, Any], tuning: DrawnGroups, block: Floats, *, balanced: bool) -> Iterator[str]:
    yield (
        "How strict the rules are in relation to each other was fitted on an eighth of the images tuned on; the others "
        "test the promise."
        if balanced
        else "There were too few images to fit how strict the rules are in relation to each other: they "
        + (
            "keep the relation of the thresholds in force"
            if before.get("tuned_on") is None
            else "got one threshold, as those in force may come from these images"
        )
        + ", and all images tuned on test the promise."
        if len(before["rules"]) > 1
        else "All images tuned on test the promise."
    )
    yield "Images of one group (one uploader, one video, copies of a file) count once: the promises are about groups."
    if tuning.passed_over:
        yield f"{tuning.passed_over:,} images were passed over: a hash list decided, or no rule has their labels."
    if never := [rule["category"] for rule, at in zip(before["rules"], block, strict=True) if at > 1]:
        yield f"Nothing is blocked as {', '.join(never)}."
    if before.get("review_on") or before.get("audit_share"):
        yield "What review_on and audit_share send to review comes on top; scores do not decide it."


def _effects(test: DrawnGroups, review: Floats, block: Floats) -> Iterator[tuple[str, int, float, float]]:
    for name, scores in {"harmless": test.harmless, **test.offending}.items():
        if len(scores):
            seen, blocked = ((scores >= at).any(axis=1).mean() for at in (np.minimum(review, block), block))
            yield name, len(scores), float(seen), float(blocked)


def _tuned_on(
    judged: JudgedSet, goals: Goals, parts: Sequence[Part], tuning: DrawnGroups, promises: Sequence[Promise]
) -> dict[str, Any]:
    rows = sorted(f"{image.sha256 or image.image.source} {sorted(image.image.labels)}" for image in tuning.images)
    run = judged.run
    policy = run.policy or {}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": len(tuning.images),
        "harmless": len(tuning.harmless),
        "by_category": {name: len(scores) for name, scores in tuning.offending.items()},
        "parts": list(parts),
        "digest": hashlib.sha256("\n".join(rows).encode()).hexdigest(),
        "model": str(run.model.get("id", "")),
        "bundle_id": str(run.model.get("bundle_id", "")),
        "policy": f"{policy.get('name', '')}@{policy.get('version', '')}",
        "goals": dict(goals.stated),
        "prevalence": dict(goals.prevalence or {}),
        "confidence": goals.confidence,
        "promises": [promise.text for promise in promises],
    }


def _present(before: Mapping[str, Any], name: str) -> Floats:
    return np.array([np.inf if rule[name] is None else rule[name] for rule in before["rules"]])


def _threshold(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _logits(scores: Floats) -> Floats:
    clipped = np.clip(scores, 1e-7, 1 - 1e-7)
    return np.log(clipped) - np.log1p(-clipped)
