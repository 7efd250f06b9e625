"""Stored classifiers and policies, bound to the model being served: words as vectors, references as versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from gateway.decoding.views import ViewRule
from gateway.errors import InvalidRequest, PolicyModelMismatch
from gateway.inference.bundle import Manifest
from gateway.inference.heads import Head
from gateway.inference.prompts import Mode
from gateway.inference.scoring import Floats, TextMatrix
from gateway.moderation.calibration import Calibration, GroupCalibration, calibrated
from gateway.moderation.classifiers import split_reference
from gateway.moderation.heads import AnyClassifier, classifier_form
from gateway.moderation.policy import BoundRule, Policy, Rule
from gateway.store.versions import Version


@dataclass(frozen=True, slots=True)
class BoundClassifier:
    """A classifier version with its text side computed, or its head; ``key`` is ``name@version``."""

    key: str
    name: str
    version: int
    description: str
    matrix: TextMatrix | Head
    calibrations: tuple[Calibration | None, ...]
    temperature: float | None = None
    groups: tuple[GroupCalibration, ...] = ()
    none_below: float | None = None

    def calibrated(self, probabilities: Floats) -> Floats:
        """Return probabilities [V, L] after the temperature and each label's calibration."""
        return calibrated(probabilities, self.calibrations, self.matrix.mode, self.temperature)


@dataclass(frozen=True, slots=True)
class BoundPolicy:
    """A policy version with all it pins; ``classifiers`` by key, ``attributes`` are keys of those that inform."""

    name: str
    version: int
    bundle_id: str
    views: ViewRule
    rules: tuple[BoundRule, ...]
    attributes: tuple[str, ...]
    classifiers: Mapping[str, BoundClassifier]
    openai_categories: Mapping[str, tuple[str, ...]]
    uncalibrated: bool
    review_on: frozenset[str] = frozenset()
    audit_share: float = 0.0

    @property
    def key(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def pins(self) -> dict[str, int]:
        """The version of each classifier by its name."""
        return {classifier.name: classifier.version for classifier in self.classifiers.values()}


def bind(
    name: str, number: int, bundle_id: str, body: Policy, classifiers: Mapping[str, BoundClassifier]
) -> BoundPolicy:
    """Return a policy with its classifiers, by name; 0 is the number of one that is not saved.

    Raises:
        InvalidRequest: a rule names a label that its classifier does not have.
    """
    rules = []
    uncalibrated = body.carried_from is not None  # what calibrations there are fit another model
    for index, rule in enumerate(body.rules):
        classifier = classifiers[split_reference(rule.classifier)[0]]
        for position, label in enumerate(rule.labels):
            if label not in classifier.matrix.labels:
                raise InvalidRequest(
                    f"Field “rules.{index}.labels.{position}” names the label “{label}”, which “{classifier.key}” does "
                    "not have."
                )
        made = bound_rule(rule, classifier.key, classifier.matrix.mode, classifier.groups)
        by_label = dict(zip(classifier.matrix.labels, classifier.calibrations, strict=True))
        if made.calibration is None and classifier.temperature is None:
            uncalibrated |= any(by_label[label] is None for label in rule.labels)
        rules.append(made)
    return BoundPolicy(
        name=name,
        version=number,
        bundle_id=bundle_id,
        views=body.views,
        rules=tuple(rules),
        attributes=tuple(classifiers[split_reference(reference)[0]].key for reference in body.attributes),
        classifiers={classifier.key: classifier for classifier in classifiers.values()},
        openai_categories={category: tuple(names) for category, names in body.openai_categories.items()},
        uncalibrated=uncalibrated,
        review_on=frozenset(body.review_on),
        audit_share=body.audit_share,
    )


def bound_rule(rule: Rule, key: str, mode: Mode, groups: Sequence[GroupCalibration]) -> BoundRule:
    """Return a rule with the classifier that it resolved to: its key, its mode, and its calibrations of groups."""
    aggregate = rule.aggregate or ("sum" if mode == "softmax" else "max")
    return BoundRule(
        rule, key, aggregate, next((group for group in groups if group.fits(rule.labels, aggregate)), None)
    )


def stored_classifier(row: Version) -> AnyClassifier:
    """Return the body of a stored classifier.

    Raises:
        InvalidRequest: it was stored by a version of this program that knew other fields.
    """
    try:
        return classifier_form(row.body).model_validate(row.body)
    except ValidationError:
        raise _unreadable(row) from None


def stored_policy(row: Version) -> Policy:
    """Return the body of a stored policy.

    Raises:
        InvalidRequest: as ``stored_classifier``.
    """
    try:
        return Policy.model_validate(row.body)
    except ValidationError:
        raise _unreadable(row) from None


def _unreadable(row: Version) -> InvalidRequest:
    return InvalidRequest(f"The stored {row.kind} is not of a form this version reads; save it again.")


def mismatch(row: Version, manifest: Manifest) -> PolicyModelMismatch:
    """Return the error of a policy that was saved for another bundle."""
    return PolicyModelMismatch(
        f"Policy “{row.name}@{row.number}” was saved for bundle {row.bundle_id}; this service runs "
        f"{manifest.bundle_id} ({manifest.model.id}). Look at its thresholds and save it again for this model."
    )
