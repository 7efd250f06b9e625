"""Figures of a classifier whose labels exclude each other: a confusion matrix and figures by label."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from gateway.evaluation.intervals import share
from gateway.evaluation.judged import JudgedSet
from gateway.evaluation.metrics import group_numbers, scored
from gateway.evaluation.reporting import plots
from gateway.evaluation.reporting.wording import percent, percent_range, plural
from gateway.evaluation.section import Section, Table

OTHER = "none of these"
MOST_LABELS = 30  # of a matrix that can be read


def section(judged: JudgedSet) -> Section | None:
    """Return the confusion matrix; None where a policy was asked, or more than one label is true of every image."""
    labels = list(scored(judged))
    if judged.run.policy is not None or not labels:
        return None
    known = [entry.image.labels & set(labels) for entry in judged.images]
    single = np.array([len(true) <= 1 for true in known], bool)
    if not single.any():
        return None
    truth = np.array([next(iter(true), OTHER) for true, one in zip(known, single, strict=True) if one], dtype=object)
    scores = np.stack([judged.scores(label) for label in labels], axis=1)[single]
    answers = np.array(labels, dtype=object)[scores.argmax(axis=1)]
    rows = [*labels, OTHER] if OTHER in truth and OTHER not in labels else labels
    counts = confusion_matrix(truth, answers, labels=rows)
    precision, _, f1, support = precision_recall_fscore_support(truth, answers, labels=labels, zero_division=0)
    groups = group_numbers(judged)[single]
    recalls = [share(answers[truth == label] == label, groups[truth == label]) for label in labels]
    table = Table(
        "By label, of images with one true label at most",
        ["label", "images", "precision", "recall", "F1"],
        [
            [label, f"{support[i]:,}", percent(precision[i]), percent_range(recalls[i]), f"{f1[i]:.3f}"]
            for i, label in enumerate(labels)
        ],
    )
    left_out = int((~single).sum())
    note = [f"{plural(left_out, 'image')} with several true labels are not in the matrix."] if left_out else []
    drawings = []
    if len(rows) <= MOST_LABELS:
        drawings = [plots.confusion("confusion", rows, labels, counts[:, : len(labels)])]
    values: dict[str, Any] = {
        "labels": rows,
        "matrix": counts.tolist(),
        "by_label": [
            {"label": label, "precision": float(precision[i]), "recall": recalls[i].json, "f1": float(f1[i])}
            for i, label in enumerate(labels)
        ],
    }
    return Section("confusion", "Which label is taken for which", note, [table], drawings, values)
