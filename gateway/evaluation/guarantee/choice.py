"""Thresholds that were chosen, or why none could be, and what a report says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateway.evaluation.guarantee.promises import Goals, Held, Missing, Promise, percent, stated
from gateway.evaluation.section import Section, Table

GUARANTEE = (
    "This is a guarantee and no average: of all sets of images that could have been drawn like this one, {} at most "
    "lead to thresholds that break it. It is void for images of another kind, for traffic that has changed, against "
    "people who try to get past, and once somebody has tuned on the test part."
)
LABEL_MORE = (
    "Only half of the labelled images are tuned on, a quarter where a head was trained: label two or four times as "
    "many as are missing, or ask for less."
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What came of the goals.

    Attributes:
        goals: what was asked for.
        policy: body of the draft, with ``tuned_on``; None where a goal cannot be kept.
        before: the body that the scores are of.
        promises: what is promised of ``policy``.
        missing: goals that these images are too few for.
        contradictions: goals that do not go together, and what is possible, a sentence each.
        held: the promises on part ``test``; none where it is empty.
        effects: on part ``test``, a row each of harmless images and of every category: name, images, share reviewed or
            blocked, share blocked.
        notes: what else has to be known, a sentence each.
    """

    goals: Goals
    policy: Mapping[str, Any] | None
    before: Mapping[str, Any]
    promises: tuple[Promise, ...] = ()
    missing: tuple[Missing, ...] = ()
    contradictions: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()
    effects: tuple[tuple[str, int, float, float], ...] = ()
    notes: tuple[str, ...] = ()

    def section(self) -> Section:
        """Return what a report says."""
        return Section(
            "thresholds",
            "Thresholds",
            (*self._said(), *self.notes),
            self._tables(),
            values={
                "goals": self.goals.stated,
                "confidence": self.goals.confidence,
                "policy": self.policy,
                "promises": [{**asdict(promise), "text": promise.text} for promise in self.promises],
                "missing": [{**asdict(missing), "text": missing.text} for missing in self.missing],
                "contradictions": list(self.contradictions),
                "held": [
                    {**asdict(found), "text": found.promise.text, "verdict": found.verdict} for found in self.held
                ],
            },
        )

    def _said(self) -> tuple[str, ...]:
        if self.policy is None:
            said = ("No thresholds keep what was asked for.", *self.contradictions, *(m.text for m in self.missing))
            return (*said, LABEL_MORE) if self.missing else said
        promised = "; ".join(promise.text for promise in self.promises)
        together = "all of this holds together" if len(self.promises) > 1 else "this holds"
        return (
            f"With a confidence of {stated(self.goals.confidence)}, {together}, for images like these: {promised}.",
            GUARANTEE.format(stated(1 - self.goals.confidence)),
        )

    def _tables(self) -> tuple[Table, ...]:
        tables: list[Table] = []
        if self.policy is not None:
            changed = [
                (new["category"], *(f"{_shown(old[name])} → {_shown(new[name])}" for name in ("review_at", "block_at")))
                for old, new in zip(self.before["rules"], self.policy["rules"], strict=True)
            ]
            tables.append(Table("Thresholds before and now.", ("category", "review_at", "block_at"), changed))
        if self.held:
            results = [
                (
                    found.promise.text,
                    f"{found.promise.errors:,} of {found.promise.images:,}",
                    f"{percent(found.value)} ({percent(found.low)} to {percent(found.high)})",
                    f"{found.images:,}",
                    found.verdict,
                )
                for found in self.held
            ]
            head = ("promise", "errors, images tuned on", "errors on the test part, 95 % interval", "images", "verdict")
            tables.append(Table("The promises on images that were not used for tuning.", head, results))
        if self.effects:
            done = [(name, f"{n:,}", percent(seen), percent(blocked)) for name, n, seen, blocked in self.effects]
            of = ("images", "number", "reviewed or blocked", "blocked")
            tables.append(Table("What these thresholds do on the test part.", of, done))
        return tuple(tables)


def _shown(threshold: float | None) -> str:
    return "never" if threshold is None else f"{threshold:.7g}"
