"""Whether reviewers take back more of what a policy flags than they used to.

The risk is the share of flagged files (reviewed or blocked by the policy) that reviewers allow. The first third is the
reference; a monitor that may be looked at after every verdict (MAPIE's ``RiskMonitoring``; Podkopaev and Ramdas 2022)
tells when the rest is worse by more than a tolerance. The chance that it ever alarms without cause is 5 % at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from mapie.exchangeability_testing import RiskMonitoring
from matplotlib.figure import Figure as Drawing

from gateway.evaluation.reporting.plots import FIRST, MUTED, SECOND, drawn
from gateway.evaluation.reporting.wording import percent, rate
from gateway.evaluation.reviews.reviewed import ReviewedDecision, Reviews
from gateway.evaluation.section import Figure, Section, Table

LEVEL, TOLERANCE = 0.05, 0.05
REFERENCE_SHARE = 1 / 3
LEAST_REFERENCE, LEAST_AFTER = 50, 20  # flagged files; with fewer the bounds say nothing
TOO_FEW = (
    f"Too few verdicts to tell: {LEAST_REFERENCE} files that the policy flagged are needed as a reference and "
    f"{LEAST_AFTER} after them."
)
SIZE = (6.4, 2.6)  # inches


@dataclass(frozen=True, slots=True)
class Drift:
    """What the monitor says.

    Attributes:
        reference, after: flagged files before and after the end of the reference.
        until: when the reference ends.
        before, since: share of false alarms in each, 0 to 1.
        threshold: the share above which the rest must be, beyond doubt.
        alarmed_at: time of the decision at which that was so; None: never.
    """

    reference: int
    after: int
    until: datetime
    before: float
    since: float
    threshold: float
    alarmed_at: datetime | None


def drift(decisions: Sequence[ReviewedDecision]) -> Drift | None:
    """Return whether false alarms became more frequent; None where there are too few verdicts to tell."""
    flagged = sorted((one for one in decisions if one.flagged), key=lambda one: (one.at, one.id))
    first = max(LEAST_REFERENCE, round(len(flagged) * REFERENCE_SHARE))
    reference, rest = flagged[:first], flagged[first:]
    if len(rest) < LEAST_AFTER:
        return None
    truths = [np.array([one.offending for one in part], int) for part in (reference, rest)]
    claims = [np.ones(len(part), int) for part in truths]
    # Precision as a risk is 1 - precision: the share of what was flagged that is harmless.
    monitor = RiskMonitoring("precision", LEVEL, TOLERANCE, warn=False)
    monitor.compute_threshold(truths[0], claims[0])
    monitor.update(truths[1], claims[1])
    over = np.flatnonzero(monitor.online_risk_lower_bound_sequence_history > monitor.threshold)
    return Drift(
        len(reference),
        len(rest),
        reference[-1].at,
        float(1 - truths[0].mean()),
        float(1 - truths[1].mean()),
        float(monitor.threshold or 0.0),
        rest[int(over[0])].at if len(over) else None,
    )


def drift_section(reviews: Reviews) -> Section:
    """Return the monitor's finding and the weeks behind it."""
    found = drift(reviews.decisions)
    weeks = by_week(reviews.decisions)
    head = ("week from", "flagged and reviewed", "false alarms", "share", "audited", "missed")
    tables = [Table("By week of the decision.", head, [week.row for week in weeks])] if weeks else []
    figures = [_drawn(weeks, found)] if len(weeks) > 1 else []
    if found is None:
        return Section("drift", "Drift", [TOO_FEW], tables, figures, {"known": False})
    shares = (
        f"Of the first {found.reference} files that the policy flagged (until {found.until:%Y-%m-%d}) reviewers "
        f"allowed {percent(found.before)}, of the {found.after} since then {percent(found.since)}."
    )
    rule = (
        f"The monitor alarms once the later share is above {percent(found.threshold)} beyond doubt: the most that the "
        f"reference may truly have been, and {rate(TOLERANCE)} on top. The chance that it ever alarms without cause is "
        f"{rate(LEVEL)} at most."
    )
    alarm = "It did not alarm."
    if found.alarmed_at is not None:
        alarm = (
            f"It alarmed at the decision of {found.alarmed_at:%Y-%m-%d %H:%M} UTC. Look at what came in then, and at "
            "changes of the policy (/v1/audit) and of the reviewers."
        )
    told = [shares, rule, alarm]
    values = {
        "known": True,
        "reference": {"files": found.reference, "until": found.until.isoformat(), "false_alarms": found.before},
        "after": {"files": found.after, "false_alarms": found.since},
        "threshold": found.threshold,
        "alarmed_at": found.alarmed_at and found.alarmed_at.isoformat(),
    }
    return Section("drift", "Drift", told, tables, figures, values)


@dataclass(frozen=True, slots=True)
class Week:
    """Reviewed decisions of one ISO week, which begins on a Monday; misses are those among its audited files."""

    monday: datetime
    flagged: int
    false_alarms: int
    audited: int
    missed: int

    @property
    def share(self) -> float | None:
        """False alarms among the flagged; None without any."""
        return self.false_alarms / self.flagged if self.flagged else None

    @property
    def row(self) -> tuple[str, ...]:
        """As people read it."""
        counts = (str(count) for count in (self.audited, self.missed))
        return (f"{self.monday:%Y-%m-%d}", str(self.flagged), str(self.false_alarms), percent(self.share), *counts)


def by_week(decisions: Sequence[ReviewedDecision]) -> list[Week]:
    """Return the weeks that have reviewed decisions, in order."""
    weeks: dict[datetime, list[ReviewedDecision]] = defaultdict(list)
    for one in decisions:
        year, week, _ = one.at.isocalendar()
        weeks[datetime.fromisocalendar(year, week, 1)].append(one)
    return [
        Week(
            monday,
            sum(one.flagged for one in found),
            sum(one.flagged and not one.offending for one in found),
            sum(one.audited for one in found),
            sum(one.audited and one.offending for one in found),
        )
        for monday, found in sorted(weeks.items())
    ]


def _drawn(weeks: Sequence[Week], found: Drift | None) -> Figure:
    drawing = Drawing(SIZE, layout="constrained")
    axes = drawing.subplots()
    shown = [(week.monday, week.share) for week in weeks if week.share is not None]
    mondays = np.array([monday for monday, _ in shown], "datetime64[s]")
    axes.plot(mondays, [share for _, share in shown], color=FIRST, marker="o")
    axes.set_ylim(0, 1)
    axes.set_ylabel("false alarms")
    if found is not None:
        axes.axhline(found.threshold, color=MUTED, linestyle="--", linewidth=1)
        if found.alarmed_at is not None:
            moment = np.array([found.alarmed_at.replace(tzinfo=None)] * 2, "datetime64[s]")
            axes.plot(moment, [0, 1], color=SECOND, linestyle=":", linewidth=1.5)
    drawing.autofmt_xdate()
    caption = "Share of flagged files that reviewers allowed, by week; dashed: the threshold; dotted: the alarm."
    return drawn("drift", caption, drawing)
