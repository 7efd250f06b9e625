"""What a report says of a calibration."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas

from gateway.evaluation.fitting.classifier_fit import METHODS, Outcome
from gateway.evaluation.fitting.score_maps import ERROR_BINS, Truth, calibration_error, log_losses
from gateway.evaluation.section import Figure, Section, Table
from gateway.moderation.calibration import Doubles
from gateway.moderation.policy import Rule

PANEL_INCHES = 2.6
MOST_COLUMNS = 3


def section_of(
    outcomes: Sequence[Outcome],
    thresholds: Sequence[tuple[Rule, Rule]],
    changed: int,
    parts: Sequence[str],
    prevalence: Mapping[str, float] | None,
) -> Section:
    """Return the report's part; arguments as of ``Calibrated``."""
    fitted = [outcome for outcome in outcomes if outcome.method is not None]
    tested = [outcome for outcome in fitted if len(outcome.truth)]
    how = (
        f"Fitted on the parts {' and '.join(parts)}, reported on the test part. Log loss is cross-validated in five "
        "folds; a simpler method stays unless the next is better by more than a standard error."
    )
    paragraphs = [
        how,
        _of_prevalence(fitted, prevalence),
        f"Thresholds moved with the scores: {changed} decisions are others than before.",
    ]
    paragraphs += [
        f"{outcome.category}: not calibrated. {_sentence(outcome.refused)}" for outcome in outcomes if outcome.refused
    ]
    figures = [Figure("calibration", _CAPTION, reliability_diagram(tested))] if tested else []
    tables = [_choices(fitted), _effects(tested), _thresholds(thresholds)]
    return Section(
        key="calibration",
        title="Calibration",
        paragraphs=paragraphs,
        tables=[table for table in tables if table.rows],
        figures=figures,
        values={
            "parts": list(parts),
            "prevalence": None if prevalence is None else dict(prevalence),
            "changed_decisions": changed,
            "categories": {outcome.category: _values(outcome) for outcome in outcomes},
        },
    )


_CAPTION = (
    "Share of images that the category is true of, by score, on the test part: before (grey) and after (blue). On the "
    "diagonal a score is a probability."
)


def reliability_diagram(outcomes: Sequence[Outcome]) -> str:
    """Return an SVG with one panel a category."""
    columns = min(MOST_COLUMNS, len(outcomes))
    rows = -(-len(outcomes) // columns)
    canvas = Canvas(figsize=(PANEL_INCHES * columns, PANEL_INCHES * rows), layout="constrained")
    panels = canvas.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(outcomes) :]:
        panel.set_axis_off()
    for panel, outcome in zip(panels, outcomes, strict=False):
        panel.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
        for scores, color in ((outcome.before, "#888888"), (outcome.after, "#1f6feb")):
            panel.plot(*_curve(scores, outcome.truth, outcome.weights), color=color, marker="o", markersize=3)
        panel.set(title=outcome.category, xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="share true")
    written = io.StringIO()
    canvas.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    return written.getvalue()[written.getvalue().index("<svg") :]


def _curve(scores: Doubles, truth: Truth, weights: Doubles) -> tuple[Doubles, Doubles]:
    """Return mean score and share true of the bins that hold images."""
    place = np.minimum((scores * ERROR_BINS).astype(int), ERROR_BINS - 1)
    totals = np.bincount(place, weights, minlength=ERROR_BINS)
    there = totals > 0
    means = [np.bincount(place, weights * values, minlength=ERROR_BINS)[there] for values in (scores, truth)]
    return means[0] / totals[there], means[1] / totals[there]


def _of_prevalence(fitted: Sequence[Outcome], prevalence: Mapping[str, float] | None) -> str:
    stated = (
        {outcome.category: prevalence[outcome.category] for outcome in fitted if outcome.category in (prevalence or {})}
        if prevalence
        else {}
    )
    if not stated:
        return (
            "Probabilities hold where a category is as common as among these images. Folders do not say how common "
            "it is elsewhere: state a prevalence for that."
        )
    named = ", ".join(f"{category} {share:.3g}" for category, share in stated.items())
    return (
        f"Probabilities hold at the stated prevalence ({named}): the log odds were moved by the difference of the "
        "priors, and images of the test part are weighted to that prevalence here."
    )


def _choices(fitted: Sequence[Outcome]) -> Table:
    rows = [
        [
            outcome.category,
            str(outcome.images),
            str(outcome.positives),
            *(f"{outcome.losses[method]:.4f}" if method in outcome.losses else "-" for method in METHODS),
            str(outcome.method),
        ]
        for outcome in fitted
    ]
    return Table("Cross-validated log loss by method.", ["category", "images", "of it", *METHODS, "chosen"], rows)


def _effects(tested: Sequence[Outcome]) -> Table:
    rows = []
    for outcome in tested:
        made = _quality(outcome)
        rows.append([outcome.category, str(len(outcome.truth)), *(f"{value:.4f}" for value in made.values())])
    head = ["category", "images", "error before", "error after", "log loss before", "log loss after"]
    return Table("Expected calibration error (ten bins) and log loss on the test part.", head, rows)


def _thresholds(thresholds: Sequence[tuple[Rule, Rule]]) -> Table:
    rows = [
        [old.category, name, f"{was:.4g}", f"{getattr(new, name):.4g}"]
        for old, new in thresholds
        for name in ("review_at", "block_at")
        if (was := getattr(old, name)) is not None
    ]
    return Table(
        "Thresholds on the scores before, and on the calibrated ones.", ["category", "", "before", "after"], rows
    )


def _quality(outcome: Outcome) -> dict[str, float]:
    made = {}
    for name, scores in (("before", outcome.before), ("after", outcome.after)):
        made[f"calibration_error_{name}"] = calibration_error(scores, outcome.truth, outcome.weights)
    for name, scores in (("before", outcome.before), ("after", outcome.after)):
        made[f"log_loss_{name}"] = float(np.average(log_losses(scores, outcome.truth), weights=outcome.weights))
    return made


def _values(outcome: Outcome) -> dict[str, object]:
    return {
        "classifier": outcome.classifier,
        "method": outcome.method,
        "images": outcome.images,
        "positives": outcome.positives,
        "cross_validated_log_loss": dict(outcome.losses),
        "refused": outcome.refused,
        "test": {"images": len(outcome.truth), **_quality(outcome)} if len(outcome.truth) else None,
    }


def _sentence(text: str | None) -> str:
    return "" if text is None else f"{text[:1].upper()}{text[1:]}."
