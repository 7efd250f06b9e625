"""A head for each category, learned from the part of the images that is for training.

A category's head replaces its rules: it looks at every view that the policy looks at, and its highest score counts, as
the gateway does it. Its words are the policy's own scores; on images held out it has to be better than those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.evaluation.judged import ClassifierViews, JudgedImage, JudgedSet
from gateway.evaluation.section import Section, Table
from gateway.inference.heads import Head
from gateway.moderation.classifiers import split_reference
from gateway.moderation.heads import form_of
from gateway.moderation.policy import LIST_PREFIX
from gateway.training.examples import LEAST_EXAMPLES, LEAST_GROUPS, Examples, ZeroShot
from gateway.training.held_out import Figures, Trained, ranking, train

REVIEW_AT = 0.5
LEAST, RIDGE = 1e-6, 1e-3
FIGURES = ("recall_at_1_percent_fpr", "roc_auc", "average_precision")
HEAD = ("category", "by", "recall at 1 % false positives", "area under the ROC curve", "average precision")


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one category.

    Attributes:
        category: of the policy.
        name: of the head's classifier.
        trained: the head, or why there is none.
        examples: images that it was trained on: with the category, and without.
        test: figures on the test part, of ``head`` and of ``words``; None without a head, or with too few images.
    """

    category: str
    name: str
    trained: Trained
    examples: tuple[int, int]
    test: Mapping[str, Figures] | None = None


@dataclass(frozen=True, slots=True)
class FittedHeads:
    """Heads, and the images as they judge them.

    Attributes:
        judged: each image with the scores of the heads that are offered.
        classifiers: name → body, of those.
        policy: body whose rules name them, with thresholds still to be chosen; None where a classifier was asked.
        findings: one a category.
    """

    judged: JudgedSet
    classifiers: Mapping[str, dict[str, Any]]
    policy: dict[str, Any] | None
    findings: tuple[Finding, ...]

    def section(self) -> Section:
        """Return what was gained, for the report."""
        held_out = [row for found in self.findings for row in _rows(found, found.trained.figures.get("labels", {}))]
        test = [row for found in self.findings if found.test for row in _rows(found, {found.category: found.test})]
        refused = [f"{found.category}: {found.trained.reason}" for found in self.findings if found.trained.reason]
        offered = [f"{found.category} ({found.name})" for found in self.findings if found.trained.head]
        thresholds = "Their scores are on a scale of their own: choose thresholds before the policy draft goes live; "
        thresholds += f"until then it sends to review from {REVIEW_AT:g} on, and blocks nothing by them."
        tables = (
            Table("On images of the training part that were held out, one view each", HEAD, held_out),
            Table("On the test part, which nothing was trained on, by the highest view", HEAD, test),
        )
        return Section(
            "heads",
            "Heads learned from your images",
            [f"Offered: {', '.join(offered) or 'none'}.", *([thresholds] if offered else []), *refused],
            [table for table in tables if table.rows],
            values={
                found.category: {
                    "classifier": found.name if found.trained.head else None,
                    "reason": found.trained.reason,
                    "examples": {"with": found.examples[0], "without": found.examples[1]},
                    "held_out": found.trained.figures,
                    "test": found.test,
                }
                for found in self.findings
            },
        )


def fit_heads(judged: JudgedSet, categories: Sequence[str] | None = None, confidence: float = 0.95) -> FittedHeads:
    """Train a head a category on the part ``train``, and judge all images anew by those that are offered.

    Args:
        judged: with the vectors and views of the images.
        categories: those that get one; None: all.
        confidence: of the intervals.

    Raises:
        ValueError: no vectors were kept.
    """
    if not any(image.vectors is not None for image in judged.images):
        raise ValueError("the images' vectors were not kept; collect them anew with them")
    wanted = [name for name in judged.categories if not name.startswith(LIST_PREFIX)]
    chosen = wanted if categories is None else categories
    findings = [_fitted(judged, category, confidence) for category in chosen]
    heads = {found.category: found for found in findings if found.trained.head is not None}
    bodies = {found.name: _body(judged, found) for found in heads.values()}
    policy = None if judged.run.policy_body is None else _policy(judged.run.policy_body, heads)
    images = tuple(_judged_anew(image, heads, policy) for image in judged.images)
    kept = {key: body for key, body in judged.run.classifiers.items() if split_reference(key)[0] not in bodies}
    keys = {f"{name}@1": body for name, body in bodies.items()}
    run = replace(judged.run, policy_body=policy, classifiers={**kept, **keys}, draft=True)
    after = replace(judged, run=run, images=images)
    shown = tuple(replace(found, test=_on_test(judged, after, found, confidence)) for found in findings)
    return FittedHeads(after, bodies, policy, shown)


def _fitted(judged: JudgedSet, category: str, confidence: float) -> Finding:
    kept = [image for image in judged.of("train").images if image.vectors is not None]
    rows = [row for image in kept for row in _examples(judged, image, category)]
    name = _name(judged, category)
    true = sum(counted and truth for _, truth, _, counted, _ in rows)
    counts = (true, sum(counted for _, _, _, counted, _ in rows) - true)
    groups = [{group for _, truth, group, counted, _ in rows if counted and truth == side} for side in (True, False)]
    if min(counts) < LEAST_EXAMPLES or min(map(len, groups)) < LEAST_GROUPS:
        reason = (
            f"The training part has {counts[0]} images with it and {counts[1]} without; {LEAST_EXAMPLES} of "
            f"{LEAST_GROUPS} groups are needed of each."
        )
        return Finding(category, name, Trained(None, reason, {}), counts)
    numbers: dict[str, int] = {}
    vectors = np.stack([vector for vector, *_ in rows]).astype(np.float32)
    logits = np.array([[logit] for *_, logit in rows], np.float32)
    examples = Examples(
        labels=(category,),
        output="sigmoid",
        vectors=vectors,
        truth=np.array([[truth] for _, truth, *_ in rows], np.float32),
        groups=np.array([numbers.setdefault(group, len(numbers)) for _, _, group, *_ in rows], np.int32),
        zero_shot=ZeroShot(logits, _as_linear(vectors, logits)),
        counted=np.array([counted for *_, counted, _ in rows], np.float32),
    )
    return Finding(category, name, train(examples, confidence), counts)


Row = tuple[npt.NDArray[np.float32], bool, str, bool, float]


def _examples(judged: JudgedSet, image: JudgedImage, category: str) -> Iterator[Row]:
    """Yield vector, truth, group, whether it counts in figures, words' logit: of the whole image, then of views.

    What is true of an image need not show in each of its views; what is harmless is so everywhere.
    """
    assert image.vectors is not None  # noqa: S101 - the caller has looked
    by_view = _by_view(judged, image, category)
    truth = category in image.image.labels
    used = 1 if image.image.labels else len(image.vectors)
    for row in range(used):
        said = float(np.clip(by_view[row], LEAST, 1 - LEAST))
        yield image.vectors[row], truth, image.group, row == 0, float(np.log(said) - np.log1p(-said))


def _by_view(judged: JudgedSet, image: JudgedImage, category: str) -> npt.NDArray[np.float64]:
    """Return [V] scores of a category by view, before calibration; where views were not kept, its one score."""
    assert image.vectors is not None  # noqa: S101 - the caller has looked
    scores = [np.full(len(image.vectors), image.scores.get(category, 0.0))]
    rules = (judged.run.policy_body or {}).get("rules", ())
    for rule in (rule for rule in rules if rule["category"] == category):
        name = split_reference(rule["classifier"])[0]
        for key, said in image.views.items():
            if split_reference(key)[0] == name and len(said.probabilities) == len(image.vectors):
                chosen = said.probabilities[:, [said.labels.index(label) for label in rule["labels"]]]
                summed = (rule.get("aggregate") or _usual_aggregate(judged, key)) == "sum"
                scores.append(np.minimum(1.0, chosen.sum(axis=1)) if summed else chosen.max(axis=1))
    return np.asarray(np.max(scores[1:] or scores, axis=0), np.float64)


def _usual_aggregate(judged: JudgedSet, key: str) -> str:
    return "sum" if judged.run.classifiers.get(key, {}).get("mode", "softmax") == "softmax" else "max"


def _as_linear(vectors: npt.NDArray[np.float32], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the linear function [1, D] of the vectors that is next to the words' logits, by ridge regression."""
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    square = centred.T @ centred
    damped = square + np.eye(len(square)) * (RIDGE * np.trace(square) / len(square) + 1e-12)
    return np.asarray(np.linalg.solve(damped, centred.T @ (logits - logits.mean())).T, np.float32)


def _judged_anew(image: JudgedImage, heads: Mapping[str, Finding], policy: Mapping[str, Any] | None) -> JudgedImage:
    if image.vectors is None or not heads:
        return image  # a hash list decided about it
    scores, views = dict(image.scores), dict(image.views)
    for category, found in heads.items():
        head: Head | None = found.trained.head
        if head is None:
            continue
        said = head.probabilities(image.vectors)
        views[f"{found.name}@1"] = ClassifierViews((category,), said)
        scores[category] = float(said.max())
    return replace(image, scores=scores, views=views, decision=_decided(scores, policy) or image.decision)


def _decided(scores: Mapping[str, float], policy: Mapping[str, Any] | None) -> str | None:
    """Return the strictest decision of the rules by their categories' scores; None without a policy."""
    if policy is None:
        return None
    reached = {
        decision
        for rule in policy["rules"]
        for decision, least in (("block", rule.get("block_at")), ("review", rule.get("review_at")))
        if least is not None and scores.get(rule["category"], 0.0) >= least
    }
    return next((decision for decision in ("block", "review") if decision in reached), "allow")


def _policy(body: Mapping[str, Any], heads: Mapping[str, Finding]) -> dict[str, Any]:
    """Return a policy whose rules of some categories are their heads'."""
    made = [
        {"category": category, "classifier": found.name, "labels": [category], "review_at": REVIEW_AT, "block_at": None}
        for category, found in heads.items()
    ]
    kept = [rule for rule in body["rules"] if rule["category"] not in heads]
    drafted = {**body, "rules": [*made, *kept]}
    if heads:
        drafted.pop("tuned_on", None)  # it is about other thresholds
    return drafted


def _body(judged: JudgedSet, found: Finding) -> dict[str, Any]:
    assert found.trained.head is not None  # noqa: S101 - of those that are offered
    model = judged.run.model
    return form_of(found.trained.head) | {
        "model": {name: model[name] for name in ("id", "embedding_dim", "bundle_id")},
        "training": {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": 0,
            "examples": {"used": sum(found.examples), "by_label": {found.category: found.examples[0]}},
            "figures": found.trained.figures,
        },
    }


def _name(judged: JudgedSet, category: str) -> str:
    """Return a classifier's name for a category's head: the policy's, and the category's in letters that names have."""
    asked = (judged.run.policy or {}).get("name") or split_reference(judged.run.classifier or "images")[0]
    plain = re.sub(r"[^a-z0-9]+", "-", category.lower()).strip("-") or "category"
    return f"{asked[:30]}-{plain[:28]}-head"


def _on_test(before: JudgedSet, after: JudgedSet, found: Finding, confidence: float) -> Mapping[str, Figures] | None:
    """Return figures of head and words on the test part; None without a head, or with images of one kind alone."""
    test = before.of("test")
    truth = test.truth(found.category).astype(np.float32)[:, np.newaxis]
    if found.trained.head is None or not 0 < truth.sum() < len(truth):
        return None
    numbers: dict[str, int] = {}
    groups = np.array([numbers.setdefault(group, len(numbers)) for group in test.groups()], np.int32)
    nothing, ones = np.zeros((len(truth), 1), np.float32), np.ones(len(truth), np.float32)
    examples = Examples((found.category,), "sigmoid", nothing, truth, groups, None, ones)
    return {
        who: ranking(judged.of("test").scores(found.category)[:, np.newaxis], examples, 0, confidence)
        for who, judged in (("words", before), ("head", after))
    }


def _rows(found: Finding, figures: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    for label, by in figures.items():
        for who in ("words", "head"):
            cells = [by[who][name] for name in FIGURES] if by.get(who) else []
            if cells:
                texts = [f"{cell['value']:.3f} ({cell['low']:.3f} to {cell['high']:.3f})" for cell in cells]
                yield [label, f"{who}{'' if found.trained.head or who == 'words' else ', not offered'}", *texts]
