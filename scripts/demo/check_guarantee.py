"""Checks that promised thresholds keep their promise: `python -m scripts.demo.check_guarantee`.

On each of many fresh draws of drawings, thresholds are chosen that block a stated share of harmless drawings at most
(``--block-fpr``, at 95 %). What they truly block is then counted on a large set that no draw has anything of. A
promise at 95 % may be broken by one draw in twenty; exit status 1 if it is broken more often than chance explains.

Scores are kept in a folder, so that a run that was cut off goes on. 200 draws of 2,000 take about half an hour on two
cores.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, binomtest

from gateway.evaluation.judged import JudgedSet, Part
from gateway.evaluation.risk_control import Goals, choose
from scripts.demo.fresh_draws import CATEGORIES, judged_set_of, score_all, scored

TRUTH_CHUNK = 1000
EVERY: tuple[Part, ...] = ("train", "calibration", "test")
TUNED: tuple[Part, ...] = ("train", "calibration")  # what thresholds are chosen on


@dataclass(frozen=True, slots=True)
class Truth:
    """Scores of a large independent set: [n, categories] of harmless drawings, and of each category's."""

    harmless: npt.NDArray[np.float64]
    offending: dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the thresholds of each draw.

    Attributes:
        refused: draws on which no thresholds could be promised.
        alarms: of the others, the true share of harmless drawings that the thresholds block.
        caught: the true share of offending drawings that they block.
    """

    refused: int
    alarms: npt.NDArray[np.float64]
    caught: npt.NDArray[np.float64]


def truth_of(sets: list[JudgedSet]) -> Truth:
    """Return the scores of all drawings of some sets."""
    scores = np.concatenate([np.column_stack([found.scores(name) for name in CATEGORIES]) for found in sets])
    labels = np.concatenate([np.column_stack([found.truth(name) for name in CATEGORIES]) for found in sets])
    return Truth(scores[~labels.any(axis=1)], {name: scores[labels[:, k]] for k, name in enumerate(CATEGORIES)})


def outcome_of(draws: list[JudgedSet], truth: Truth, goals: Goals) -> Outcome:
    """Choose thresholds on each draw, and count what they truly block."""
    refused, alarms, caught = 0, [], []
    offending = np.concatenate(list(truth.offending.values()))
    for drawn in draws:
        policy = choose(drawn, goals).policy
        if policy is None:
            refused += 1
            continue
        block_at = {rule["category"]: rule["block_at"] for rule in policy["rules"]}
        at = np.array([np.inf if block_at[name] is None else block_at[name] for name in CATEGORIES])
        alarms.append((truth.harmless >= at).any(axis=1).mean())
        caught.append((offending >= at).any(axis=1).mean())
    return Outcome(refused, np.array(alarms), np.array(caught))


def report(outcome: Outcome, truth: Truth, goals: Goals) -> str:
    """Return what came of it, as lines of text."""
    limit, alarms = goals.block_fpr or 0.0, outcome.alarms
    made, broken = len(alarms), int((alarms > limit).sum())
    chance = 1 - goals.confidence
    unsure = np.sqrt(limit * (1 - limit) / len(truth.harmless))
    doubtful = int((np.abs(alarms - limit) < 2 * unsure).sum())
    middle, high = np.quantile(alarms, [0.5, 0.95])
    ends = binomtest(broken, made).proportion_ci(0.95, method="exact")
    return "\n".join(
        [
            f"promise: at most {limit:.2%} of harmless drawings are blocked, at {goals.confidence:.0%}",
            f"draws: {made + outcome.refused}, of which {outcome.refused} were too small for the promise",
            f"broken: {broken} of {made}, {broken / made:.1%} (exact 95 % interval {ends.low:.1%} to {ends.high:.1%})",
            f"allowed: {chance:.0%}, so {chance * made:.0f} in the mean, {binom.ppf(0.95, made, chance):.0f} by chance",
            f"truth: {len(truth.harmless):,} others, +- {unsure:.3%}; within twice that: {doubtful} draws",
            f"truly blocked of harmless: median {middle:.2%}, 95th percentile {high:.2%}, most {alarms.max():.2%}",
            f"blocked of offending: median {np.median(outcome.caught):.1%}, least {outcome.caught.min():.1%}",
        ]
    )


def kept(outcome: Outcome, goals: Goals) -> bool:
    """Return whether the promise was broken no more often than chance explains, at 95 %."""
    broken = int((outcome.alarms > (goals.block_fpr or 0.0)).sum())
    return bool(broken <= binom.ppf(0.95, len(outcome.alarms), 1 - goals.confidence))


def main() -> None:
    """Draw, judge, choose, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--drawings", type=int, default=2000, help="of each draw, all parts")
    parser.add_argument("--truth", type=int, default=50, help="thousands of drawings that count what is true")
    parser.add_argument("--block-fpr", type=float, nargs="+", default=[0.01], help="promises, each by itself")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--scores", type=Path, default=Path("reports/fresh-draws"), help="folder of the scores")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    folder, names = options.scores, [str(number) for number in range(options.draws)]
    truths = [f"truth {number}" for number in range(options.truth)]
    score_all(folder, truths, TRUTH_CHUNK, EVERY, options.workers)
    score_all(folder, names, options.drawings, TUNED, options.workers)
    truth = truth_of([judged_set_of(scored(folder, name, TRUTH_CHUNK, EVERY), name) for name in truths])
    draws = [judged_set_of(scored(folder, name, options.drawings, TUNED), name) for name in names]
    all_kept = True
    for limit in options.block_fpr:
        goals = Goals(block_fpr=limit, confidence=options.confidence)
        outcome = outcome_of(draws, truth, goals)
        print(report(outcome, truth, goals), end="\n\n")
        all_kept &= kept(outcome, goals)
    if not all_kept:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
