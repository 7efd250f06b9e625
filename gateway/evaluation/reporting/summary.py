"""The first lines of a report: what the figures come to, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.evaluation.intervals import CONFIDENCE
from gateway.evaluation.judged import JudgedSet
from gateway.evaluation.metrics import CategoryFigures, group_numbers, measures, offending, right, told
from gateway.evaluation.reporting.wording import listed, percent, percent_range, plural, rate


def sentences(judged: JudgedSet, figures: Sequence[CategoryFigures], slices: str) -> list[str]:
    """Return the summary, a paragraph an entry.

    Args:
        judged: images that the figures are of.
        figures: of its categories.
        slices: which of them differ, in a sentence; empty where the table of images names none.
    """
    if not judged.images:
        return ["No image is in this part: there is nothing to tell."]
    found = [_whole(judged, figures), *(_category(entry) for entry in figures if entry.positives)]
    found += _missing(figures)
    unknown = sorted({label for entry in judged.images for label in entry.image.labels} - {f.category for f in figures})
    if unknown:
        found.append(f"No rule is about {listed(unknown[:5])}: images that are labelled so alone count as harmless.")
    empty = [entry.category for entry in figures if not entry.positives]
    if empty:
        found.append(f"No image of {listed(empty[:5])} is here: nothing can be said of what is missed there.")
    return [*found, slices] if slices else found


def asked(judged: JudgedSet) -> str:
    """Return the name and version of what was asked, or of what the draft that the figures are of was made from."""
    policy: dict[str, Any] = dict(judged.run.policy or {})
    made_from = "the draft made from " if judged.run.draft else ""
    if not policy:
        return f"{made_from}classifier {judged.run.classifier}"
    return f"{made_from}policy {policy.get('name')}, version {policy.get('version')}"


def _whole(judged: JudgedSet, figures: Sequence[CategoryFigures]) -> str:
    groups, bad = group_numbers(judged), offending(judged)
    mix = [f"{entry.positives:,} {entry.category}" for entry in figures[:6] if entry.positives]
    harmless = int((~bad).sum())
    counted = f"On {plural(len(judged.images), 'image')} ({listed([*mix, f'{harmless:,} harmless'])})"
    correct = percent_range(told(right(judged), groups))
    if judged.run.policy is None:
        return f"{counted} the best label of {asked(judged)} is right for {correct} of those that have one."
    shares = {measure.key: told(measure, groups) for measure in measures(judged)}
    parts = [f"{counted} {asked(judged)} is right about {correct} of them."]
    if shares["caught"].value is not None:
        parts.append(
            f"It blocks {percent_range(shares['blocked'])} of offending images, and blocks or sends to review "
            f"{percent_range(shares['caught'])}."
        )
    if shares["harmless_flagged"].value is not None:
        parts.append(
            f"It blocks {percent_range(shares['harmless_blocked'])} of harmless images, and blocks or sends to review "
            f"{percent_range(shares['harmless_flagged'])}."
        )
    return " ".join(parts)


def _category(entry: CategoryFigures) -> str:
    if entry.review is None:
        at = entry.recall_at[0.01]
        return f"{entry.category}: finds {percent_range(at)} at a false-positive rate of 1 %."
    parts = []
    if entry.block is not None:
        parts.append(f"blocks {percent_range(entry.block.recall)} of {entry.category}")
        if entry.block.harmless.value is not None:
            parts[-1] += f" and {percent_range(entry.block.harmless)} of harmless images"
    if entry.block is None or entry.review.at != entry.block.at:
        parts.append(f"blocks or reviews {percent_range(entry.review.recall)} of {entry.category}")
        if entry.review.harmless.value is not None:
            parts[-1] += f" and {percent_range(entry.review.harmless)} of harmless images"
    return f"{entry.category}: its rule {'; it '.join(parts)}."


def _missing(figures: Sequence[CategoryFigures]) -> list[str]:
    """Return what the fewest negatives of any category cannot promise."""
    if not figures:
        return []
    short = min(figures, key=lambda entry: entry.enough[0].here)
    lacking = [entry for entry in short.enough if entry.missing]
    if not lacking:
        return []
    needs = listed([f"{rate(entry.rate)} ({entry.needed:,} needed, {entry.missing:,} missing)" for entry in lacking])
    here = lacking[0].here
    possible = 1 - (1 - CONFIDENCE) ** (1 / here) if here else 1.0
    return [
        (
            f"Too few images to promise a false-positive rate of {needs} for {short.category}: {here:,} here are not "
            f"of it. With no false alarm among them {percent(possible)} could be promised, at 95 % confidence."
        )
    ]
