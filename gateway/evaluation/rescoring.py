"""The scores and decisions of judged images under other calibrations and thresholds, by the gateway's own functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.decoding.views import Place
from gateway.evaluation.judged import ClassifierViews, JudgedImage, JudgedSet, Run
from gateway.moderation.binding import bound_rule
from gateway.moderation.calibration import Aggregate, Doubles, calibrated
from gateway.moderation.classifiers import split_reference
from gateway.moderation.heads import AnyClassifier, classifier_form
from gateway.moderation.policy import BoundRule, ClassifierScores, Decision, Policy, judge, overall
from gateway.moderation.request_model import StrictModel

SAME = 1e-4  # two scores that are one


@dataclass(frozen=True, slots=True)
class Bodies:
    """What judges: a policy (None where a classifier was asked), and classifiers by ``name@version``."""

    policy: Policy | None
    classifiers: Mapping[str, AnyClassifier]

    def key(self, reference: str) -> str:
        """Return the key of the classifier that a rule names.

        Raises:
            ValueError: its views were not kept.
        """
        name = split_reference(reference)[0]
        for key in self.classifiers:
            if split_reference(key)[0] == name:
                return key
        raise ValueError(f"the views of the classifier “{reference}” were not kept; collect the images anew with them")

    def rules(self) -> list[BoundRule]:
        """Return the policy's rules with their calibrations; none without a policy."""
        if self.policy is None:
            return []
        keys = [self.key(rule.classifier) for rule in self.policy.rules]
        return [
            bound_rule(rule, key, self.classifiers[key].mode, self.classifiers[key].calibrations)
            for rule, key in zip(self.policy.rules, keys, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Views:
    """A classifier's probabilities of all views of n images, one image behind the other.

    Attributes:
        body: of the classifier.
        probabilities: [sum of V, L], before calibration, in the order of the body's labels.
        starts: [n] first row of each image.
        rows: [n] which images of the set they are.
    """

    body: AnyClassifier
    probabilities: npt.NDArray[np.float32]
    starts: npt.NDArray[np.intp]
    rows: npt.NDArray[np.intp]

    def scores(self, labels: Sequence[str], aggregate: Aggregate | None, temperature: float | None) -> Doubles:
        """Return [n]: of a rule the maximum over views, before a group's calibration; without aggregate, the mean."""
        names = [entry.label for entry in self.body.labels]
        chosen = label_scores(self.body, self.probabilities, temperature)[:, [names.index(label) for label in labels]]
        if aggregate is None:
            sizes = np.diff([*self.starts, len(chosen)])
            return np.add.reduceat(chosen[:, 0].astype(float), self.starts) / sizes
        by_view = chosen.sum(axis=1) if aggregate == "sum" else chosen.max(axis=1)
        return np.minimum(np.maximum.reduceat(by_view, self.starts), 1).astype(float)


def bodies_of(run: Run) -> Bodies:
    """Return what judged a run.

    Raises:
        ValueError: a body is of no form that this version reads.
    """
    policy = None if run.policy_body is None else Policy.model_validate(_written(run.policy_body, Policy))
    forms = {key: classifier_form(body) for key, body in run.classifiers.items()}
    found = {key: form.model_validate(_written(run.classifiers[key], form)) for key, form in forms.items()}
    return Bodies(policy, found)


def views_of(judged: JudgedSet, key: str, body: AnyClassifier) -> Views:
    """Return the kept views of a classifier; images without any, which a hash list decided, are left out."""
    rows = [row for row, image in enumerate(judged.images) if key in image.views]
    kept = [_in_order(judged.images[row].views[key], body) for row in rows]
    starts = np.cumsum([0, *(len(views) for views in kept)])[:-1]
    stacked = np.concatenate(kept) if kept else np.zeros((0, len(body.labels)), np.float32)
    return Views(body, stacked, starts.astype(np.intp), np.array(rows, np.intp))


def label_scores(
    body: AnyClassifier, probabilities: npt.NDArray[np.float32], temperature: float | None
) -> npt.NDArray[np.float32]:
    """Return a classifier's probabilities [V, L] with a temperature and its labels' calibrations."""
    return calibrated(probabilities, [entry.calibration for entry in body.labels], body.mode, temperature)


def rescored(judged: JudgedSet, before: Bodies, after: Bodies) -> JudgedSet:
    """Return the images as other bodies judge them.

    A decision that the rules alone do not explain (a hash list, a warning that asks for review) stays as it was.

    Raises:
        ValueError: the kept views do not have the scores that were answered: they are of something else.
    """
    made = tuple(_image(image, before, after, judged.run.classifier) for image in judged.images)
    run = replace(
        judged.run,
        policy_body=None if after.policy is None else after.policy.model_dump(mode="json"),
        classifiers={key: body.model_dump(mode="json") for key, body in after.classifiers.items()},
        draft=True,
    )
    return replace(judged, run=run, images=made)


def _image(image: JudgedImage, before: Bodies, after: Bodies, classifier: str | None) -> JudgedImage:
    if not image.views:
        return image
    old, decision = answered(image, before, classifier)
    if any(abs(image.scores.get(name, score) - score) > SAME for name, score in old.items()):
        raise ValueError(f"{image.image.source}: the kept views do not have the scores that the gateway answered")
    new, decided = answered(image, after, classifier)
    return replace(image, scores=new, decision=decided if image.decision == decision else image.decision)


def answered(image: JudgedImage, bodies: Bodies, classifier: str | None) -> tuple[dict[str, float], Decision | None]:
    """Return an image's scores and decision by what judges; of a classifier alone, its labels' scores."""
    scores = {
        key: ClassifierScores(
            tuple(entry.label for entry in body.labels), label_scores(body, _in_order(said, body), body.temperature)
        )
        for key, body in bodies.classifiers.items()
        if (said := image.views.get(key)) is not None
    }
    if bodies.policy is None:
        if classifier is None:
            raise ValueError("neither a policy nor a classifier was asked")
        means = scores[classifier].probabilities.mean(axis=0)
        return dict(zip(scores[classifier].labels, means.tolist(), strict=True)), None
    rules = bodies.rules()
    nowhere = Place("full", (0, 0, 0, 0), None)  # where a score was found changes nothing
    verdicts = judge(rules, scores, [nowhere] * max(len(said.probabilities) for said in scores.values()))
    return {verdict.category: verdict.score for verdict in verdicts}, overall(verdicts)


def _in_order(said: ClassifierViews, body: AnyClassifier) -> npt.NDArray[np.float32]:
    """Return the probabilities [V, L] of a classifier's views in the order of its labels."""
    return said.probabilities[:, [said.labels.index(entry.label) for entry in body.labels]]


def _written(body: Mapping[str, Any], form: type[StrictModel]) -> dict[str, Any]:
    """Return a body without what the gateway adds to one when it is read."""
    return {name: value for name, value in body.items() if name in form.model_fields}
