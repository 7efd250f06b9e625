"""One classifier's calibration: which method for which category, and the maps.

A simpler method stays unless the next is better by more than a standard error of the cross-validated log loss: the
scores as they are, then Platt scaling (two numbers), then isotonic regression; instead of these, one temperature for
the whole classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from gateway.evaluation.fitting.score_maps import (
    Truth,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    folds,
    is_lower,
    log_losses,
    moved,
    soft_log_loss,
)
from gateway.evaluation.judged import JudgedSet, Part
from gateway.evaluation.rescoring import Bodies, views_of
from gateway.moderation.calibration import Aggregate, Calibration, Doubles, GroupCalibration
from gateway.moderation.heads import AnyClassifier
from gateway.moderation.policy import BoundRule

Method = Literal["as it is", "platt", "isotonic", "temperature"]
METHODS: tuple[Method, ...] = ("as it is", "platt", "isotonic", "temperature")
MIN_EACH = 25
"""Least groups with and without the category: below, the offset alone is unsure by more than sqrt(2 / 25) = 0.28."""

MIN_ISOTONIC = 500
"""Least images for isotonic regression, which overfits few (Niculescu-Mizil and Caruana, 2005: below about 1,000)."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What is calibrated: a category, the rule's part that scores it, and which images it is true of.

    Attributes:
        category: or, where a classifier was asked, the label.
        labels: that are added up.
        aggregate: how; None where a classifier was asked, whose score is the mean over views.
        truth: [n] of the images with views.
        old: its calibration so far.
    """

    category: str
    labels: tuple[str, ...]
    aggregate: Aggregate | None
    truth: Truth
    old: Calibration | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one category.

    Attributes:
        category: its name.
        classifier: ``name@version``.
        images: how many it was fitted on.
        positives: how many of them the category is true of.
        method: chosen; None where it was refused and stays as it was.
        losses: cross-validated log loss by method, nats.
        refused: why, in a sentence.
        before, after: [t] scores of the test part, before and after.
        truth: [t].
        weights: [t] of the images, so that they have the stated prevalence.
    """

    category: str
    classifier: str
    images: int
    positives: int
    method: Method | None
    losses: Mapping[Method, float]
    refused: str | None
    before: Doubles = field(default_factory=lambda: np.zeros(0))
    after: Doubles = field(default_factory=lambda: np.zeros(0))
    truth: Truth = field(default_factory=lambda: np.zeros(0, bool))
    weights: Doubles = field(default_factory=lambda: np.zeros(0))


class ClassifierFit:
    """One classifier's fit.

    Args:
        judged: all images.
        key: of the classifier.
        before: what judged them.
        parts: to fit on.
        prevalence: by category.
    """

    def __init__(
        self, judged: JudgedSet, key: str, before: Bodies, parts: tuple[Part, ...], prevalence: dict[str, float]
    ) -> None:
        self.key = key
        self._old = before.classifiers[key]
        self._views = views_of(judged, key, self._old)
        self._prevalence = prevalence
        images = [judged.images[row] for row in self._views.rows]
        self._source = f"{', '.join(parts)} part of images judged at {judged.run.at}"[:500]
        self._groups = np.array([image.group for image in images], object)
        self._fitting = np.array([image.part in parts for image in images], bool)
        self._testing = np.array([image.part == "test" for image in images], bool)
        self._promised = before.policy is not None and before.policy.tuned_on is not None
        known = {entry.label for entry in self._old.labels}
        if before.policy is None:  # of a closed set: an image of something else belongs to none
            inside = np.array([not known.isdisjoint(image.image.labels) for image in images], bool)
            self._fitting &= inside
            self._testing &= inside
        scored = _scored(before, key, self._old)
        parts_of_rules = [rest for _, *rest in scored]
        self.refused: list[tuple[Scored, str]] = []
        self.fitted: list[Scored] = []
        for category, labels, aggregate in scored:
            truth = np.array([category in image.image.labels for image in images], bool)
            made = Scored(category, labels, aggregate, truth, _group_of(self._old, labels, aggregate))
            twice = parts_of_rules.count([labels, aggregate]) > 1
            reason = "two categories have the same labels" if twice else self._too_few(truth)
            if reason is None:
                self.fitted.append(made)
            else:
                self.refused.append((made, reason))
        self._losses: dict[Scored, dict[Method, float]] = {}
        self.methods: dict[Scored, Method] = self._chosen() if self.fitted else {}
        self.temperature = self._old.temperature
        if "temperature" in self.methods.values():
            self.temperature = self._fitted_temperature(np.flatnonzero(self._fitting))

    def body(self) -> AnyClassifier:
        """Return the classifier with what was fitted; calibrations of refused categories stay unless scores moved."""
        kept = [
            group
            for group in self._old.calibrations
            if self.temperature == self._old.temperature and all(group is not made.old for made in self.fitted)
        ]
        made = [group for scored in self.fitted if (group := self._group(scored)) is not None]
        return self._old.model_copy(update={"temperature": self.temperature, "calibrations": [*kept, *made]})

    def scores(self, bound: BoundRule, temperature: float | None) -> Doubles:
        """Return the fitting images' scores of a rule, calibrated as it says."""
        base = self._views.scores(bound.rule.labels, bound.aggregate, temperature)
        return np.asarray(_mapped(base, bound.calibration)[self._fitting])

    def outcomes(self) -> list[Outcome]:
        """Return what came of each category, with its scores of the test part."""
        count = int(self._fitting.sum())
        found = []
        for made, reason in self.refused:
            positives = int(made.truth[self._fitting].sum())
            found.append(Outcome(made.category, self.key, count, positives, None, {}, reason))
        for made in self.fitted:
            truth = made.truth[self._testing]
            share = self._prevalence.get(made.category, truth.mean() if len(truth) else 0.5)
            found.append(
                Outcome(
                    category=made.category,
                    classifier=self.key,
                    images=count,
                    positives=int(made.truth[self._fitting].sum()),
                    method=self.methods[made],
                    losses=self._losses[made],
                    refused=None,
                    before=_mapped(self._base(made, self._old.temperature), made.old)[self._testing],
                    after=_mapped(self._base(made, self.temperature), self._group(made))[self._testing],
                    truth=truth,
                    weights=_weights(truth, share),
                )
            )
        return found

    def _base(self, made: Scored, temperature: float | None) -> Doubles:
        return self._views.scores(made.labels, made.aggregate, temperature)

    def _too_few(self, truth: Truth) -> str | None:
        counts = [len(set(self._groups[self._fitting & (truth == side)])) for side in (True, False)]
        missing = [max(0, MIN_EACH - count) for count in counts]
        if not any(missing):
            return None
        return (
            f"{counts[0]} images (or groups of them) show it and {counts[1]} do not, at least {MIN_EACH} each are "
            f"needed: {missing[0]} with and {missing[1]} without it are missing"
        )

    def _fitted_temperature(self, rows: npt.NDArray[np.int_]) -> float:
        def loss(temperature: float) -> float:
            scores = [self._base(made, temperature)[rows] for made in self.fitted]
            truths = [made.truth[rows] for made in self.fitted]
            return float(np.mean([soft_log_loss(*pair) for pair in zip(scores, truths, strict=True)]))

        return fit_temperature(loss)

    def _chosen(self) -> dict[Scored, Method]:
        """Return the method of each category, by cross-validated log loss."""
        fitting = np.flatnonzero(self._fitting)
        groups: list[str] = self._groups[fitting].tolist()
        kinds = np.zeros(len(fitting), int)
        for number, made in enumerate(self.fitted):
            kinds[made.truth[fitting]] = number + 1
        losses: dict[Scored, dict[Method, Doubles]] = {
            made: {method: np.full(len(fitting), np.nan) for method in METHODS} for made in self.fitted
        }
        for train, held in folds(kinds, groups):
            temperature = self._fitted_temperature(fitting[train])
            for made in self.fitted:
                truth, scores = made.truth[fitting], self._base(made, self._old.temperature)[fitting]
                predicted: dict[Method, Doubles | None] = {"as it is": _mapped(scores[held], made.old)}
                if made.aggregate is not None:
                    predicted |= _predicted(scores[train], truth[train], scores[held], len(fitting))
                if not self._promised:  # it may change the order of images, and so what thresholds let through
                    predicted["temperature"] = self._base(made, temperature)[fitting][held]
                for method, probabilities in predicted.items():
                    if probabilities is not None:
                        losses[made][method][held] = log_losses(probabilities, truth[held])
        found = {
            made: {method: loss for method, loss in by_method.items() if not np.isnan(loss).any()}
            for made, by_method in losses.items()
        }
        self._losses = {
            made: {method: float(loss.mean()) for method, loss in row.items()} for made, row in found.items()
        }
        return _simplest(found, groups)

    def _group(self, made: Scored) -> GroupCalibration | None:
        """Return a category's calibration, fitted to all fitting images, at its prevalence."""
        if made.aggregate is None:
            return None
        truth, method = made.truth[self._fitting], self.methods[made]
        if method == "temperature" and made.category not in self._prevalence:
            return None
        base = self._base(made, self._old.temperature)[self._fitting]
        fitted = (made.old if method == "as it is" else None) or Calibration()
        if method in {"platt", "isotonic"}:
            fitted = (fit_platt if method == "platt" else fit_isotonic)(base, truth) or fitted
        share = float(truth.mean())
        stated = self._prevalence.get(made.category, share)
        fitted = fitted if stated == share else moved(fitted, share, stated)
        return GroupCalibration(
            **fitted.model_dump(include={"kind", "scale", "offset", "knots"}),
            labels=list(made.labels),
            aggregate=made.aggregate,
            source=self._source,
            images=len(truth),
            prevalence=stated,
        )


def _scored(before: Bodies, key: str, body: AnyClassifier) -> list[tuple[str, tuple[str, ...], Aggregate | None]]:
    """Return category, sorted labels and aggregate of what the rules score by a classifier, once; or every label."""
    if before.policy is None:
        return [(entry.label, (entry.label,), None) for entry in body.labels]
    return list(
        dict.fromkeys(
            (bound.rule.category, tuple(sorted(bound.rule.labels)), bound.aggregate if bound.rule.labels[1:] else "sum")
            for bound in before.rules()
            if bound.classifier == key
        )
    )


def _group_of(body: AnyClassifier, labels: Sequence[str], aggregate: Aggregate | None) -> GroupCalibration | None:
    if aggregate is None:
        return None
    return next((group for group in body.calibrations if group.fits(labels, aggregate)), None)


def _mapped(scores: Doubles, calibration: Calibration | None) -> Doubles:
    return scores if calibration is None else calibration.of(scores)


def _predicted(scores: Doubles, truth: Truth, held: Doubles, images: int) -> dict[Method, Doubles | None]:
    platt = fit_platt(scores, truth)
    knots = fit_isotonic(scores, truth) if images >= MIN_ISOTONIC else None
    return {"platt": None if platt is None else platt.of(held), "isotonic": None if knots is None else knots.of(held)}


def _simplest(losses: Mapping[Scored, Mapping[Method, Doubles]], groups: Sequence[str]) -> dict[Scored, Method]:
    chosen: dict[Scored, Method] = {}
    for made, found in losses.items():
        best: Method = "as it is"
        for method in METHODS[1:3]:
            if method in found and is_lower(found[method], found[best], groups):
                best = method
        chosen[made] = best
    if not all("temperature" in found for found in losses.values()):
        return chosen
    together = np.sum([losses[made][method] for made, method in chosen.items()], axis=0)
    tempered = np.sum([found["temperature"] for found in losses.values()], axis=0)
    return dict.fromkeys(chosen, "temperature") if is_lower(tempered, together, groups) else chosen


def _weights(truth: Truth, share: float) -> Doubles:
    """Return weights with which the category is true of a share of images; 1 each where one side is absent."""
    if truth.all() or not truth.any():
        return np.ones(len(truth))
    return np.asarray(np.where(truth, share / truth.mean(), (1 - share) / (1 - truth.mean())))
