"""Chooses the demo policy's review band on drawings by several hands: `python -m scripts.demo.thresholds`.

`review_at` is the same in every rule: the least threshold, in hundredths, at which REVIEW_SHARE of harmless drawings at
most are sent to review, while `block_at` stays where `measure_policy --thresholds` put it. It is chosen on the drawn
world and on the hands in CHOOSING, each hand counting alike; HELD_OUT is only looked at. Three in five of a hand's
harmless drawings come close to what offends (splashes of other colours, writing, dressed figures), half of the world's
do, so that fewer of everyday drawings are reviewed.

Printed are the choice and the shipped policy's figures on other drawings. Exit status 1 if another choice is shipped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.moderation.binding import BoundPolicy
from gateway.moderation.verdicts import Verdict
from scripts.demo.evaluate import auc
from scripts.demo.hands import HARMLESS, OFFENDING, drawings
from scripts.demo.measure_policy import MEASURING_SEED, THRESHOLDS_SEED, Case, bound, judged, looked_at, seen_of
from scripts.demo.model import WEIGHTS, Demo

CHOOSING, HELD_OUT = ("world", "flat", "crayon"), "ink"
REVIEW_SHARE = 0.02
"""Of harmless drawings, sent to review at most."""


@dataclass(frozen=True)
class Judged:
    """Drawings by one hand and the policy's verdicts on them.

    Attributes:
        categories: of each drawing, those that it offends.
        verdicts: one a drawing.
    """

    categories: Sequence[frozenset[str]]
    verdicts: Sequence[Verdict]

    def scores(self, category: str, *, harmless: bool) -> NDArray[np.float64]:
        """Return [n] scores of a category, 0 to 1: of the harmless drawings, or of those that offend it."""
        return np.array(
            [
                next(found.score for found in verdict.categories if found.category == category)
                for offends, verdict in zip(self.categories, self.verdicts, strict=True)
                if (not offends if harmless else category in offends)
            ]
        )

    def share(self, decisions: Sequence[str], category: str | None) -> float:
        """Return the share of drawings with one of these decisions, of those that offend a category, or nothing."""
        found = [
            verdict.decision in decisions
            for offends, verdict in zip(self.categories, self.verdicts, strict=True)
            if (category in offends if category else not offends)
        ]
        return float(np.mean(found))


def judged_by_hand(demo: Demo, policy: BoundPolicy, hand: str, count: int, seed: int) -> Judged:
    """Return verdicts on `count` drawings of each thing that a hand draws; of the world, on four times as many scenes.

    Args:
        demo: the model.
        policy: judges.
        hand: one of HANDS, or ``world``.
        count: drawings.
        seed: the same gives the same drawings.
    """
    if hand == "world":
        seen = seen_of(demo, "drawings", 4 * count, seed, policy.views)
    else:
        cases = [
            Case((picture,), frozenset({OFFENDING[what]} if what in OFFENDING else ()), 1)
            for what in (*OFFENDING, *HARMLESS)
            for picture in drawings(hand, what, count, seed)
        ]
        seen = looked_at(demo, cases, policy.views)
    return Judged([entry.case.categories for entry in seen], judged(policy, seen, demo.scale))


def review_share(found: Judged, block_at: Mapping[str, float], review_at: float) -> float:
    """Return the share of harmless drawings that are sent to review at a threshold: that reach it and no block."""
    scores = {category: found.scores(category, harmless=True) for category in block_at}
    blocked = np.any([scores[category] >= least for category, least in block_at.items()], axis=0)
    reached = np.any([row >= review_at for row in scores.values()], axis=0)
    return float(np.mean(reached & ~blocked))


def chosen(by_hand: Mapping[str, Judged], block_at: Mapping[str, float]) -> float:
    """Return the least of 0.01, 0.02 … 0.99 that keeps to REVIEW_SHARE, the mean over all hands."""
    for step in range(1, 100):
        if np.mean([review_share(found, block_at, step / 100) for found in by_hand.values()]) <= REVIEW_SHARE:
            return step / 100
    raise ValueError("no threshold keeps to the share")


def table(by_hand: Mapping[str, Judged]) -> str:
    """Return the shares by hand as a Markdown table."""
    lines = [
        "| hand | harmless reviewed | harmless blocked |"
        + "".join(f" {name}: AUC | blocked | blocked or reviewed |" for name in OFFENDING.values()),
        "|---|" + "---|" * (2 + 3 * len(OFFENDING)),
    ]
    for hand, found in by_hand.items():
        cells = [f"{hand}", f"{found.share(['review'], None):.1%}", f"{found.share(['block'], None):.1%}"]
        for name in OFFENDING.values():
            cells += [
                f"{auc(found.scores(name, harmless=False), found.scores(name, harmless=True)):.3f}",
                f"{found.share(['block'], name):.1%}",
                f"{found.share(['block', 'review'], name):.1%}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Draw, judge, choose, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS, help="folder in Hugging Face format")
    parser.add_argument("--count", type=int, default=60, help="drawings of each thing by each hand")
    parser.add_argument("--figures", action="store_true", help="print the shipped policy's figures and choose nothing")
    options = parser.parse_args()
    demo = Demo.load(options.model)
    policy = bound(demo)
    hands = (*CHOOSING, HELD_OUT)
    print(f"The shipped policy on new drawings; {HELD_OUT} was not used for choosing:\n")
    print(table({hand: judged_by_hand(demo, policy, hand, options.count, MEASURING_SEED) for hand in hands}))
    if options.figures:
        return
    review_at = {rule.rule.review_at for rule in policy.rules}
    block_at = {rule.rule.category: rule.rule.block_at for rule in policy.rules if rule.rule.block_at is not None}
    drawn = {hand: judged_by_hand(demo, policy, hand, options.count, THRESHOLDS_SEED) for hand in CHOOSING}
    choice = chosen(drawn, block_at)
    print(f"\nChosen: review_at {choice:.2f}; shipped: {review_at}")
    if review_at != {choice}:
        sys.exit(1)


if __name__ == "__main__":
    main()
