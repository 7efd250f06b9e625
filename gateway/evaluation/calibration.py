"""Makes the scores of categories mean what they say, by Platt scaling, isotonic regression or a temperature.

A category's map rises, so that its thresholds move with its scores and every decision stays as it was. A temperature
can change the order of images: its thresholds let as many through as before, and decisions that change are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.evaluation.fitting.classifier_fit import ClassifierFit, Outcome
from gateway.evaluation.fitting.section import section_of
from gateway.evaluation.judged import JudgedSet, Part
from gateway.evaluation.rescoring import Bodies, bodies_of, rescored
from gateway.evaluation.section import Section
from gateway.moderation.calibration import Doubles
from gateway.moderation.heads import AnyClassifier
from gateway.moderation.policy import BoundRule, Rule


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Images as the calibrated classifiers score them, and drafts of what scores them so.

    Attributes:
        judged: the images, rescored.
        policy: draft body whose thresholds moved with the scores; it names classifiers without a version: save theirs
            first. None where a classifier was asked.
        classifiers: draft bodies by name, of those that changed.
        outcomes: one a category.
        changed: how many decisions are others than before.
        thresholds: every rule before and after.
        parts: that it was fitted on.
        prevalence: as it was stated.
    """

    judged: JudgedSet
    policy: dict[str, Any] | None
    classifiers: Mapping[str, dict[str, Any]]
    outcomes: tuple[Outcome, ...]
    changed: int
    thresholds: tuple[tuple[Rule, Rule], ...]
    parts: tuple[Part, ...]
    prevalence: Mapping[str, float] | None

    def section(self) -> Section:
        """Return what was chosen and what it brought on the test part, with a reliability diagram."""
        return section_of(self.outcomes, self.thresholds, self.changed, self.parts, self.prevalence)


def calibrate(
    judged: JudgedSet,
    prevalence: Mapping[str, float] | None = None,
    parts: tuple[Part, ...] | None = None,
) -> Calibrated:
    """Fit on some parts, and rescore all images; a category with too few examples stays as it is.

    Where the thresholds keep a promise no temperature is fitted, so that every decision stays and with it the promise.

    Args:
        judged: with the views of every classifier that a rule names.
        prevalence: category → the share of images that it is true of where the policy will be used; of one that is not
            named, the probabilities hold at the share of the images given.
        parts: to fit on, None: those that no head was trained on; the test part only reports.

    Raises:
        ValueError: views are missing or do not fit the scores, or a prevalence is not between 0 and 1.
    """
    if any(not 0 < share < 1 for share in (prevalence or {}).values()):
        raise ValueError("a prevalence lies between 0 and 1")
    if not any(image.views for image in judged.images):
        raise ValueError(
            "no views from before calibration were kept: a classifier is to be uncalibrated, or a policy's"
        )
    parts = judged.run.untouched if parts is None else parts
    before = bodies_of(judged.run)
    fits = [ClassifierFit(judged, key, before, parts, dict(prevalence or {})) for key in before.classifiers]
    classifiers = {fit.key: fit.body() for fit in fits}
    rules = _moved(before, classifiers, fits)
    policy = before.policy and before.policy.model_copy(update={"rules": list(rules)})
    after = rescored(judged, before, Bodies(policy, classifiers))
    pairs = zip(judged.images, after.images, strict=True)
    return Calibrated(
        judged=after,
        policy=None if policy is None else policy.model_dump(mode="json"),
        classifiers={
            key.partition("@")[0]: body.model_dump(mode="json")
            for key, body in classifiers.items()
            if body != before.classifiers[key]
        },
        outcomes=tuple(outcome for fit in fits for outcome in fit.outcomes()),
        changed=sum(one.decision != other.decision for one, other in pairs),
        thresholds=tuple(zip(before.policy.rules, rules, strict=True)) if before.policy else (),
        parts=parts,
        prevalence=prevalence,
    )


def _moved(before: Bodies, classifiers: Mapping[str, AnyClassifier], fits: Sequence[ClassifierFit]) -> tuple[Rule, ...]:
    """Return the policy's rules with thresholds that move with the scores."""
    by_key = {fit.key: fit for fit in fits}
    rules = []
    for old, new in zip(before.rules(), Bodies(before.policy, classifiers).rules(), strict=True):
        key = old.classifier
        changes: dict[str, Any] = (
            {} if before.classifiers[key] == classifiers[key] else {"classifier": key.partition("@")[0]}
        )
        for name in ("review_at", "block_at"):
            at = getattr(old.rule, name)
            if at:  # 0 fires whatever the score
                changes[name] = _moved_threshold(at, old, new, by_key[key], before.classifiers[key].temperature)
        rules.append(old.rule.model_copy(update=changes))
    return tuple(rules)


def _moved_threshold(at: float, old: BoundRule, new: BoundRule, fit: ClassifierFit, temperature: float | None) -> float:
    if fit.temperature != temperature:
        return _as_many(at, fit.scores(old, temperature), fit.scores(new, fit.temperature))
    if old.calibration == new.calibration:
        return at
    base = np.float64(at) if old.calibration is None else old.calibration.inverse(at)
    return float(base if new.calibration is None else new.calibration.of(base))


def _as_many(at: float, before: Doubles, after: Doubles) -> float:
    """Return the threshold that as many images reach after as reach ``at`` before, in the middle of the gap."""
    count = int((before >= at).sum())
    ends = np.concatenate([[1.0], np.sort(after)[::-1], [0.0]])
    return float((ends[count] + ends[count + 1]) / 2)
