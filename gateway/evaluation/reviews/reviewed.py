"""Reviewers' verdicts as labelled images: lines of ``/v1/decisions?format=jsonl&reviewed=true`` as a judged set.

What a reviewer blocked has those of the policy's categories that the reviewer named, or else those that had fired; what
a reviewer allowed is harmless. Where several verdicts were given the latest counts. Scores are those of the log. Only
what was reviewed is labelled: which files those are follows from the policy's own scores, but for the audited ones.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.evaluation.judged import JudgedImage, JudgedSet, LabelledImage, Run, judged_set
from gateway.evaluation.section import Section, Table
from gateway.moderation.policy import LIST_PREFIX
from gateway.moderation.verdicts import AUDIT

FIRED = ("review", "block")
UNNAMED = "somebody"  # a verdict by neither reviewer nor key
OTHER_POLICY, BY_A_LIST, NO_CATEGORY = "another policy or classifier version", "decided by a list", "no category known"
BIAS = (
    "These images are labelled by the verdicts of reviewers on logged decisions. Only what was reviewed is labelled. "
    "Nearly all of it was flagged by the policy that is judged here, so recall on it is too high and false-positive "
    "rates are those among doubtful images, not among all."
)
_LOTS = 1 << 256


class ReviewsUnreadable(ValueError):
    """A line is no decision of the log with its reviewers' verdicts."""


@dataclass(frozen=True, slots=True)
class Review:
    """One reviewer's verdict on a decision."""

    at: datetime
    offending: bool
    categories: frozenset[str]
    reviewer: str


@dataclass(frozen=True, slots=True)
class ReviewedDecision:
    """A decision of the log with the verdicts on it.

    Attributes:
        id: of the decision.
        at: when it was made, UTC.
        sha256: of the file.
        policy: name, version and versions of the classifiers.
        decision: what the policy said: ``allow`` of one that was sent to review for the audit alone.
        audited: whether it was.
        audit_share: with what probability an allowed file was sent to review by this policy then; 0: none was.
        scores: category → score.
        fired: categories that reached review or block.
        reviews: oldest first, at least one.
    """

    id: str
    at: datetime
    sha256: str
    policy: Mapping[str, Any]
    decision: str
    audited: bool
    audit_share: float
    scores: Mapping[str, float]
    fired: frozenset[str]
    reviews: tuple[Review, ...]

    @property
    def flagged(self) -> bool:
        """Whether the policy itself sent it to review or blocked it."""
        return self.decision != "allow"

    @property
    def offending(self) -> bool:
        """What holds: the latest reviewer's verdict."""
        return self.reviews[-1].offending

    @property
    def why(self) -> str:
        """Why it was looked at."""
        return "audited" if self.audited else "flagged" if self.flagged else "other"

    @property
    def labels(self) -> frozenset[str]:
        """Categories that are true of it; none of what was allowed."""
        if not self.offending:
            return frozenset()
        return self.reviews[-1].categories or self.fired


@dataclass(frozen=True, slots=True)
class Reviews:
    """What reviewers said of a policy's decisions.

    Attributes:
        run: the policy.
        decisions: usable ones, oldest first, each file once: its latest decision.
        skipped: why others are not usable → how many.
    """

    run: Run
    decisions: tuple[ReviewedDecision, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def judged(self) -> JudgedSet:
        """As a set of labelled images, with the bias that the section tells of."""
        return judged_set(self.run, [judged_of_review(one) for one in self.decisions])

    @property
    def fair(self) -> JudgedSet | None:
        """Those that any file of the traffic had the same chance to be among; None where nothing was audited.

        An allowed file is here where the audit drew it. A flagged one, which is always reviewed, is kept with the same
        probability, by its hash. That holds as far as everything that was to be reviewed has been.
        """
        if not any(one.audited for one in self.decisions):
            return None
        kept = [one for one in self.decisions if one.audited or _lot(one.sha256) < one.audit_share]
        return judged_set(self.run, [judged_of_review(one) for one in kept])

    def section(self) -> Section:
        """Return what was reviewed, and what cannot be known from it."""
        flagged = [one for one in self.decisions if one.flagged]
        audited = [one for one in self.decisions if one.audited]
        rows = [
            ("sent to review or blocked by the policy", str(len(flagged)), _offending(flagged)),
            ("allowed, and drawn by the audit", str(len(audited)), _offending(audited)),
        ]
        others = [one for one in self.decisions if not one.flagged and not one.audited]
        if others:
            rows.append(("allowed, and looked at for another reason", str(len(others)), _offending(others)))
        values = {"flagged": len(flagged), "audited": len(audited), "other": len(others), "skipped": dict(self.skipped)}
        head = ("why it was looked at", "files", "offending by the reviewers")
        tables = [Table("Reviewed files.", head, rows)]
        return Section("reviewed", "What was reviewed", self.caveats, tables, values=values)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What cannot be known from these, in plain words."""
        audited = any(one.audited for one in self.decisions)
        known = (
            "The audited images are a random sample of what the policy allows (audit_share). They tell what it misses."
            if audited
            else "Nothing was audited: the policy has no audit_share. How much it misses cannot be known from these, "
            "nor how often harmless images in general are flagged, however many verdicts there are."
        )
        left = ", ".join(f"{count} {why}" for why, count in self.skipped.items())
        return (BIAS, known, f"Left out: {left}.") if left else (BIAS, known)


def reviewed_set(lines: Iterable[str | bytes | Mapping[str, Any]], run: Run) -> Reviews:
    """Return the reviewed decisions of a run's policy, made with the same versions of its classifiers.

    Args:
        lines: of ``/v1/decisions?format=jsonl&reviewed=true``, in any order.
        run: a policy's.

    Raises:
        ReviewsUnreadable: a line is none of those.
    """
    known = frozenset(rule["category"] for rule in (run.policy_body or {}).get("rules", ()))
    skipped: Counter[str] = Counter()
    latest: dict[str, ReviewedDecision] = {}
    for line in lines:
        try:
            row = line if isinstance(line, Mapping) else json.loads(line)
            why = _unfit(row, run)
            found = decision_of(row, known)
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise ReviewsUnreadable("a line is no reviewed decision of /v1/decisions") from fault
        if why is None and found.offending and not found.labels:
            why = NO_CATEGORY
        if why is not None:
            skipped[why] += 1
        elif found.sha256 not in latest or latest[found.sha256].at < found.at:
            latest[found.sha256] = found
    return Reviews(run, tuple(sorted(latest.values(), key=lambda one: (one.at, one.id))), dict(skipped))


def decision_of(row: Mapping[str, Any], known: frozenset[str]) -> ReviewedDecision:
    """Return a line of the log as a reviewed decision; reviewers' categories count as far as the policy knows them.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    audited = AUDIT in row["warnings"]
    reviews = tuple(
        Review(
            datetime.fromisoformat(given["at"]),
            given["decision"] == "block",
            known & set(given["categories"]),
            given["reviewer"] or given["key"] or UNNAMED,
        )
        for given in row["feedback"]
        if given.get("kind", "verdict") == "verdict" and not given.get("undone")
    )
    if not reviews:
        raise ValueError("nobody reviewed it")
    return ReviewedDecision(
        id=row["id"],
        at=datetime.fromisoformat(row["at"]),
        sha256=row["image"]["sha256"],
        policy=row["policy"],
        decision="allow" if audited else row["decision"],
        audited=audited,
        audit_share=row.get("audit_share") or 0.0,
        scores=row["scores"],
        fired=frozenset(entry["category"] for entry in row["categories"] if entry["decision"] in FIRED),
        reviews=reviews,
    )


def judged_of_review(one: ReviewedDecision) -> JudgedImage:
    """Return a reviewed decision as a judged image."""
    return JudgedImage(
        LabelledImage(one.id, one.labels), sha256=one.sha256, decision=one.decision, scores=dict(one.scores)
    )


def _unfit(row: Mapping[str, Any], run: Run) -> str | None:
    if any(entry["category"].startswith(LIST_PREFIX) for entry in row["categories"]):
        return BY_A_LIST
    asked = run.policy or {}
    same = all(row["policy"][name] == asked.get(name) for name in ("name", "classifiers"))
    return None if same else OTHER_POLICY


def _lot(sha256: str) -> float:
    """Return a number 0 to 1 that is the same for the same file."""
    return int.from_bytes(hashlib.sha256(f"{AUDIT}:{sha256}".encode()).digest()) / _LOTS


def _offending(decisions: Sequence[ReviewedDecision]) -> str:
    return str(sum(one.offending for one in decisions))
