"""How far reviewers agree with the policy and with each other, and what the policy misses.

Agreement of two reviewers is Cohen's kappa (1960), by scikit-learn. The share of allowed files that should not have
been is estimated from the audited ones, each weighted by one over its chance to be drawn (Horvitz and Thompson 1952;
the ratio of Hájek 1971), with the exact interval of Clopper and Pearson (1934) at the effective number of files (Kish
1965, Korn and Graubard 1998): at one audit_share that is the plain exact interval.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
from sklearn.metrics import cohen_kappa_score

from gateway.evaluation.intervals import Interval, proportion
from gateway.evaluation.reporting.wording import percent, percent_range
from gateway.evaluation.reviews.reviewed import ReviewedDecision, Reviews
from gateway.evaluation.section import Section, Table

CONFIRMED = ("confirmed", "share")
MIN_SHARED = 2  # images that two reviewers both judged
NOT_AUDITED = (
    "Not known. Reviewers saw only what the policy flagged, and no allowed image was drawn at random. Set audit_share "
    "in the policy, 0.01 for one file in a hundred that is allowed: after 368 audited files without a miss, less than "
    "1 % of what is allowed should have been caught, at 95 %."
)


@dataclass(frozen=True, slots=True)
class Missed:
    """Of the files that the policy allowed, the share that reviewers would have blocked.

    Attributes:
        share: 0 to 1, with its interval at 95 %.
        audited: files that it is estimated from.
        found: offending ones among them.
    """

    share: Interval
    audited: int
    found: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two reviewers who judged the same files.

    Attributes:
        files: that both judged.
        agreement: share of these on which they agree.
        kappa: Cohen's: 1 perfect, 0 as chance would have it; None where both gave one and the same verdict to all.
    """

    first: str
    second: str
    files: int
    agreement: float
    kappa: float | None


def missed(decisions: Sequence[ReviewedDecision]) -> Missed | None:
    """Return the share of allowed files that should not have been; None where nothing was audited."""
    audited = [one for one in decisions if one.audited and one.audit_share > 0]
    if not audited:
        return None
    weights = np.array([1 / one.audit_share for one in audited])
    offending = np.array([one.offending for one in audited])
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    share = proportion(float(weights[offending].sum()), float(weights.sum()), effective)
    return Missed(share, len(audited), int(offending.sum()))


def pairs(decisions: Sequence[ReviewedDecision]) -> list[Pair]:
    """Return every two reviewers who judged at least two of the same files, by their last verdict on each."""
    by_reviewer: dict[str, dict[str, bool]] = defaultdict(dict)
    for one in decisions:
        for review in one.reviews:
            by_reviewer[review.reviewer][one.sha256] = review.offending
    found = []
    for first, second in combinations(sorted(by_reviewer), 2):
        both = sorted(by_reviewer[first].keys() & by_reviewer[second].keys())
        if len(both) < MIN_SHARED:
            continue
        theirs = [[by_reviewer[name][file] for file in both] for name in (first, second)]
        same = float(np.mean(np.array(theirs[0]) == np.array(theirs[1])))
        one_kind = len({verdict for verdicts in theirs for verdict in verdicts}) == 1
        kappa = None if one_kind else float(cohen_kappa_score(*theirs))
        found.append(Pair(first, second, len(both), same, kappa))
    return found


def agreement_section(reviews: Reviews) -> Section:
    """Return how often reviewers confirm what the policy decided: by decision, by category, and each other."""
    decisions = reviews.decisions
    by_decision = [
        (decision, *_confirmed([one for one in decisions if one.decision == decision], allowed=decision == "allow"))
        for decision in ("block", "review", "allow")
    ]
    fired = Counter(category for one in decisions for category in one.fired)
    confirmed = Counter(category for one in decisions for category in one.fired & one.labels)
    by_category = [
        (name, str(count), str(confirmed[name]), percent(confirmed[name] / count))
        for name, count in sorted(fired.items())
    ]
    between = pairs(decisions)
    told = ["A reviewer's verdict is block or allow. What the policy sent to review is confirmed by a block."]
    if not between:
        told.append(
            "No two reviewers judged the same images, so how far they agree with each other is not known: send some "
            "decisions to two of them, and name the reviewer in the verdict."
        )
    tables = [
        Table(
            "Decisions that reviewers confirm.",
            ("decision", "reviewed", *CONFIRMED),
            [row for row in by_decision if row[1] != "0"],
        ),
        Table("Categories that fired and that reviewers confirm.", ("category", "fired", *CONFIRMED), by_category),
    ]
    if between:
        rows = [
            (pair.first, pair.second, str(pair.files), percent(pair.agreement), _kappa(pair.kappa)) for pair in between
        ]
        head = ("reviewer", "reviewer", "both judged", "agree on", "Cohen's kappa")
        tables.append(Table("Two reviewers on the same files: 1 is perfect, 0 as chance would have it.", head, rows))
    values = {
        "decisions": {row[0]: {"reviewed": int(row[1]), "confirmed": int(row[2])} for row in by_decision},
        "categories": {name: {"fired": count, "confirmed": confirmed[name]} for name, count in sorted(fired.items())},
        "reviewers": [asdict(pair) for pair in between],
    }
    return Section("agreement", "Reviewers and the policy", told, tables, values=values)


def missed_section(reviews: Reviews) -> Section:
    """Return what the policy misses, as far as that can be known."""
    found = missed(reviews.decisions)
    if found is None:
        return Section("missed", "What the policy misses", [NOT_AUDITED], values={"known": False})
    estimate = (
        f"{found.found} of {found.audited} audited files should not have been allowed. Weighted by their chance to be "
        f"drawn, that is {percent_range(found.share)} of the allowed files, with the interval at 95 %."
    )
    told = [estimate, "This holds if every audited image was reviewed. Each file counts once."]
    values = {"known": True, "share": found.share.json, "audited": found.audited, "found": found.found}
    return Section("missed", "What the policy misses", told, values=values)


def _confirmed(decisions: Sequence[ReviewedDecision], *, allowed: bool) -> tuple[str, str, str]:
    right = sum(one.offending != allowed for one in decisions)
    return str(len(decisions)), str(right), percent(right / len(decisions) if decisions else None)


def _kappa(value: float | None) -> str:
    return "not defined: one verdict for all" if value is None else f"{value:.2f}"
