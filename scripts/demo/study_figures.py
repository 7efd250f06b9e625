"""The study's figures: how well a step's scores rank and what its thresholds block; table and picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss

from gateway.evaluation.intervals import Interval, curve_areas, recall_at, share
from gateway.evaluation.metrics import group_numbers, offending, reliability
from scripts.demo.study_steps import Step

RATE = 0.01
RESAMPLES, SEED = 1000, 11


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What a step came to on part test of one hand's drawings; all but the last two are means over the categories.

    Attributes:
        name, labelled: of the step.
        recall: at RATE false positives, with a bootstrap interval.
        by_category: the same of each category, with the interval of where the true threshold may lie.
        auc, precision: area under the ROC curve, average precision, with bootstrap intervals.
        calibration_error, log_loss: of the scores as probabilities.
        caught: share of offending drawings that any threshold of the step blocks.
        alarms: share of harmless drawings that are.
    """

    name: str
    labelled: tuple[int, int]
    recall: Interval
    by_category: Mapping[str, Interval]
    auc: Interval
    precision: Interval
    calibration_error: float
    log_loss: float
    caught: Interval
    alarms: Interval

    @property
    def json(self) -> dict[str, Any]:
        """As the file of figures has it."""
        return {
            "step": self.name,
            "labelled": dict(zip(("learn", "tune"), self.labelled, strict=True)),
            "recall_at_1_percent": self.recall.json,
            "by_category": {name: found.json for name, found in self.by_category.items()},
            "roc_auc": self.auc.json,
            "average_precision": self.precision.json,
            "calibration_error": self.calibration_error,
            "log_loss": self.log_loss,
            "blocked_of_offending": self.caught.json,
            "blocked_of_harmless": self.alarms.json,
        }


def figures_of(step: Step, resamples: int = RESAMPLES) -> StepFigures:
    """Return a step's figures on the test part of its drawings."""
    test = step.judged.of("test")
    categories = tuple(step.block_at)
    scores = np.column_stack([test.scores(name) for name in categories])
    truth = np.column_stack([test.truth(name) for name in categories])
    at = np.array([np.inf if step.block_at[name] is None else step.block_at[name] for name in categories], float)
    blocked = np.asarray((scores >= at).any(axis=1))
    bad, groups = offending(test), group_numbers(test)
    drawn, ranked = resampled(scores, truth, resamples), ranking(scores, truth, np.arange(len(truth)))
    errors = [reliability(scores[:, k], truth[:, k], groups).error for k in range(len(categories))]
    return StepFigures(
        name=step.name,
        labelled=step.labelled,
        recall=_between(ranked[0], drawn[:, 0]),
        by_category={
            name: recall_at(RATE, scores[:, k], truth[:, k], test.groups()) for k, name in enumerate(categories)
        },
        auc=_between(ranked[1], drawn[:, 1]),
        precision=_between(ranked[2], drawn[:, 2]),
        calibration_error=float(np.mean(errors)),
        log_loss=float(np.mean([log_loss(truth[:, k], scores[:, k]) for k in range(len(categories))])),
        caught=share(blocked[bad], groups[bad]),
        alarms=share(blocked[~bad], groups[~bad]),
    )


def recalls(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return [categories]: the recall at the least threshold with RATE false positives at most.

    Args:
        scores: [n, categories].
        truth: [n, categories]; what another category is true of counts among the negatives.
    """
    found = []
    for column, true in zip(scores.T, truth.T, strict=True):
        negatives = np.sort(column[~true])[::-1]
        found.append((column[true] > negatives[int(RATE * len(negatives) + 1e-9)]).mean())
    return np.array(found)


def resampled(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], resamples: int) -> npt.NDArray[np.float64]:
    """Return [resamples, 3]: mean recall, AUC and average precision of bootstrap draws, stratified by category."""
    rng = np.random.default_rng(SEED)
    strata = np.unique(truth, axis=0, return_inverse=True)[1].reshape(-1)
    rows = [np.flatnonzero(strata == number) for number in range(strata.max() + 1)]
    return np.array(
        [
            ranking(scores, truth, np.concatenate([rng.choice(members, len(members)) for members in rows]))
            for _ in range(resamples)
        ]
    )


def ranking(
    scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], rows: npt.NDArray[np.intp]
) -> tuple[float, float, float]:
    """Return recall, AUC and average precision of some rows, each the mean over the categories."""
    scores, truth = scores[rows], truth[rows]
    one = np.ones((1, len(rows)))
    areas = np.mean([curve_areas(*pair, one) for pair in zip(scores.T, truth.T, strict=True)], axis=0).ravel()
    return float(recalls(scores, truth).mean()), float(areas[0]), float(areas[1])


def _between(value: float, drawn: npt.NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def table(by_hand: Mapping[str, Sequence[StepFigures]]) -> str:
    """Return all figures as a Markdown table."""
    categories = list(next(iter(by_hand.values()))[0].by_category)
    head = ["hand", "step", "labelled: learn + tune", "recall at 1 %", *categories, "AUC", "AP", "ECE", "log loss"]
    head += ["blocked: offending", "harmless"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for hand, rows in by_hand.items():
        for row in rows:
            cells = [hand, row.name, " + ".join(map(str, row.labelled)), f"**{_said(row.recall)}**"]
            cells += [f"{row.by_category[name].value:.3f}" for name in categories]
            cells += [_said(row.auc), _said(row.precision), f"{row.calibration_error:.3f}", f"{row.log_loss:.3f}"]
            cells += [
                f"{row.caught.value:.1%}",
                f"{row.alarms.value:.1%} ({row.alarms.low:.1%} to {row.alarms.high:.1%})",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _said(found: Interval) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def picture(by_hand: Mapping[str, Sequence[StepFigures]], path: Path) -> None:
    """Draw recall at 1 % false positives by step, a panel a hand, as a PNG."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(by_hand), figsize=(3.6 * len(by_hand), 3.9), sharey=True, layout="constrained")
    for axis, (hand, rows) in zip(np.atleast_1d(axes), by_hand.items(), strict=True):
        places = np.arange(len(rows))[::-1]
        values = np.array([[row.recall.value, row.recall.low, row.recall.high] for row in rows], float)
        errors = np.abs(values[:, 1:] - values[:, :1]).T
        axis.barh(places, values[:, 0], xerr=errors, color="#4c78a8", ecolor="#333333", capsize=2, height=0.65)
        axis.axvline(0.95, color="#c0392b", linewidth=1, linestyle="--")
        axis.set_title(hand)
        axis.set_xlim(0, 1)
        axis.set_yticks(places, [f"{row.name} ({sum(row.labelled)})" for row in rows])
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel("recall at 1 % false positives")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})
    plt.close(figure)
