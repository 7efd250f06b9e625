"""Reviewers' verdicts as a labelled set: what they are worth, what they cannot tell, and when they change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from gateway.evaluation.intervals import Interval
from gateway.evaluation.judged import Run
from gateway.evaluation.reviews.agreement import agreement_section, missed, missed_section, pairs
from gateway.evaluation.reviews.drift import by_week, drift, drift_section
from gateway.evaluation.reviews.reviewed import (
    BY_A_LIST,
    NO_CATEGORY,
    OTHER_POLICY,
    ReviewedDecision,
    ReviewsUnreadable,
    reviewed_set,
)
from tests.support.in_process_app import Web, png
from tests.support.saved_policies import ALWAYS, NEVER, moderate, put

pytest_plugins = ["tests.support.saved_policies_fixtures"]

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
POLICY = {"name": "strict", "version": 2, "classifiers": {"scene": 1}}
RULES = [{"category": "gore"}, {"category": "nudity"}]
RUN = Run({}, POLICY, None, {"rules": RULES}, {}, BEGIN.isoformat())


def line(number: int, decision: str, said: str, **changes: Any) -> dict[str, Any]:
    """A line of the log: file ``number``, decided an hour after the one before, with one verdict."""
    at = (BEGIN + timedelta(hours=number)).isoformat()
    audited = bool(changes.pop("audited", False))
    fired = [] if decision == "allow" or audited else [{"category": "gore", "decision": decision}]
    return {
        "id": f"{number:032x}",
        "at": at,
        "image": {"id": None, "sha256": f"{number:064x}", "pdq": None},
        "policy": POLICY,
        "decision": decision,
        "outcome": said,
        "audit_share": 0.1,
        "scores": {"gore": 0.9 if fired else 0.1, "nudity": 0.0},
        "categories": fired,
        "warnings": ["audit"] if audited else [],
        "feedback": [feedback(said)],
        **changes,
    }


def feedback(said: str, reviewer: str | None = "ann", categories: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "at": BEGIN.isoformat(),
        "decision": said,
        "categories": list(categories),
        "note": "",
        "key": "desk",
        "reviewer": reviewer,
        "list": None,
    }


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def width(interval: Interval) -> float:
    low, high = ends(interval)
    return high - low


def decisions(rows: Sequence[dict[str, Any]]) -> tuple[ReviewedDecision, ...]:
    return reviewed_set(rows, RUN).decisions


def test_verdicts_are_labels_and_what_was_audited_was_allowed() -> None:
    rows = [
        line(1, "block", "block"),
        line(2, "review", "allow"),
        line(3, "review", "block", audited=True, feedback=[feedback("block", categories=["nudity", "spam"])]),
        line(4, "review", "allow", feedback=[feedback("block"), feedback("allow")]),
    ]
    reviews = reviewed_set(reversed(rows), RUN)
    judged = reviews.judged
    assert [sorted(image.image.labels) for image in judged.images] == [["gore"], [], ["nudity"], []]
    assert [image.decision for image in judged.images] == ["block", "review", "allow", "review"]
    assert [image.scores["gore"] for image in judged.images] == [0.9, 0.9, 0.1, 0.9]
    assert [one.why for one in reviews.decisions] == ["flagged", "flagged", "audited", "flagged"]


def test_what_cannot_be_compared_is_left_out_and_told() -> None:
    listed = [{"category": "list:known", "decision": "block"}]
    rows = [
        line(1, "block", "block"),
        line(2, "block", "block", categories=listed),
        line(3, "block", "block", policy={**POLICY, "classifiers": {"scene": 2}}),
        line(4, "review", "block", audited=True),
        line(1, "block", "allow", at=(BEGIN - timedelta(days=1)).isoformat()),
    ]
    found = reviewed_set(rows, RUN)
    assert found.skipped == {BY_A_LIST: 1, OTHER_POLICY: 1, NO_CATEGORY: 1}
    (one,) = found.decisions
    assert one.offending, "the latest decision about the file counts"
    assert "Left out: 1 decided by a list" in " ".join(found.caveats)


@pytest.mark.parametrize("wrong", ["{", "[]", "{}", '{"warnings": [], "feedback": []}'])
def test_another_line_is_refused(wrong: str) -> None:
    with pytest.raises(ReviewsUnreadable):
        reviewed_set([wrong], RUN)


def test_the_share_of_misses_is_found_from_audited_files() -> None:
    """Clopper and Pearson's interval of 3 in 60, and 1 : 9 weights where the share was raised."""
    rows = [line(number, "review", "block" if number < 3 else "allow", audited=True) for number in range(60)]
    for row in rows[:3]:
        row["feedback"] = [feedback("block", categories=["gore"])]
    found = missed(decisions(rows))
    assert found is not None
    assert (found.audited, found.found) == (60, 3)
    assert [*found.share.json.values()] == pytest.approx([0.05, 0.01043, 0.13922], abs=1e-4)
    for row in rows[30:]:
        row["audit_share"] = 0.9
    weighted = missed(decisions(rows))
    assert weighted is not None
    assert weighted.share.value == pytest.approx(3 * 10 / (30 * 10 + 30 / 0.9))
    assert width(weighted.share) > width(found.share), "unequal weights are worth less"


def test_the_interval_holds_what_it_promises() -> None:
    """200 audits of a policy that misses 4 %: 10 at most should be wrong at 95 %, and 19 with bad luck of 3 sigmas."""
    dice = np.random.default_rng(14)
    fine, bad = (
        decisions([line(1, "review", said, audited=True, feedback=[feedback(said, categories=["gore"])])])[0]
        for said in ("allow", "block")
    )
    wrong = 0
    for _ in range(200):
        found = missed([bad if drawn else fine for drawn in dice.random(120) < 0.04])
        assert found is not None
        low, high = ends(found.share)
        wrong += not low <= 0.04 <= high
    assert wrong <= 19


def test_without_an_audit_the_report_says_what_it_cannot_know() -> None:
    reviews = reviewed_set([line(number, "block", "block") for number in range(20)], RUN)
    assert missed(reviews.decisions) is None
    assert reviews.fair is None
    assert missed_section(reviews).values == {"known": False}
    assert "cannot be known" in " ".join(reviews.section().paragraphs)


def test_the_fair_part_keeps_flagged_files_as_rarely_as_allowed_ones() -> None:
    """Of 2,000 flagged files at a share of 0.1: 200, give or take 4 standard deviations of 13."""
    rows = [line(number, "block", "block") for number in range(2000)]
    rows += [line(number, "review", "allow", audited=True) for number in range(2000, 2100)]
    reviews = reviewed_set(rows, RUN)
    assert reviews.fair is not None
    kept = [image.decision for image in reviews.fair.images]
    assert kept.count("allow") == 100
    assert 146 <= kept.count("block") <= 254
    assert [image.sha256 for image in reviews.fair.images] == [
        image.sha256 for image in (reviewed_set(rows, RUN).fair or reviews.judged).images
    ]


def test_reviewers_are_compared_with_the_policy_and_with_each_other() -> None:
    said = {"ann": "block block allow allow", "bob": "block allow allow allow", "cid": "block block block block"}
    rows = []
    for number in range(4):
        given = [feedback(words.split()[number], name) for name, words in said.items()]
        rows.append(line(number, "block" if number < 3 else "review", "block", feedback=given))
    reviews = reviewed_set(rows, RUN)
    ann_and_bob = pairs(reviews.decisions)[0]
    assert (ann_and_bob.first, ann_and_bob.second, ann_and_bob.files) == ("ann", "bob", 4)
    assert [ann_and_bob.agreement, ann_and_bob.kappa] == pytest.approx([0.75, 0.5])
    section = agreement_section(reviews)
    assert section.values["decisions"]["block"] == {"reviewed": 3, "confirmed": 3}
    assert section.values["categories"] == {"gore": {"fired": 4, "confirmed": 4}}
    same = pairs(decisions([{**row, "feedback": [feedback("block", "ann"), feedback("block", "cid")]} for row in rows]))
    assert [pair.kappa for pair in same] == [None], "not defined where all verdicts are one"


def stream(dice: np.random.Generator, *shares: tuple[int, float]) -> Iterator[dict[str, Any]]:
    """Flagged files of which reviewers allow a share, one after another."""
    number = 0
    for count, share in shares:
        for _ in range(count):
            yield line(number, "review", "allow" if dice.random() < share else "block")
            number += 1


def test_a_drift_is_alarmed_and_the_absence_of_one_is_not() -> None:
    """False alarms go from 10 to 50 % in every run; of 100 without a change 5 at most may alarm."""
    for seed in range(10):
        found = drift(decisions(list(stream(np.random.default_rng(seed), (300, 0.1), (400, 0.5)))))
        assert found is not None
        assert found.alarmed_at is not None
        assert found.alarmed_at > BEGIN + timedelta(hours=300), "not before the change"
    quiet = [drift(decisions(list(stream(np.random.default_rng(seed), (300, 0.2))))) for seed in range(100, 200)]
    assert sum(found is not None and found.alarmed_at is not None for found in quiet) <= 5


def test_too_few_verdicts_say_nothing_about_drift() -> None:
    reviews = reviewed_set(list(stream(np.random.default_rng(1), (60, 0.1))), RUN)
    assert drift(reviews.decisions) is None
    assert drift_section(reviews).values == {"known": False}


def test_the_weeks_are_counted_and_drawn() -> None:
    rows = list(stream(np.random.default_rng(2), (500, 0.2)))
    rows.append(line(500, "review", "block", audited=True, feedback=[feedback("block", categories=["gore"])]))
    reviews = reviewed_set(rows, RUN)
    weeks = by_week(reviews.decisions)
    assert [week.monday.date().isoformat() for week in weeks] == ["2026-01-05", "2026-01-12", "2026-01-19"]
    assert sum(week.flagged for week in weeks) == 500
    assert sum(week.false_alarms for week in weeks) == sum(not one.offending for one in reviews.decisions)
    assert (weeks[-1].audited, weeks[-1].missed) == (1, 1)
    section = drift_section(reviews)
    assert section.figures[0].svg.count("<svg") == 1
    assert len(section.tables[0].rows) == 3


def test_lines_of_the_gateway_are_read(made: Web) -> None:
    """Blocked, then allowed by a policy that audits everything; each with a reviewer's verdict."""
    moderate(made, png("red"))
    put(made, "/v1/policies/strict", {**NEVER, "audit_share": 1.0})
    moderate(made, png("blue"))
    for row in made.client.get("/v1/decisions").json()["data"]:
        body = {"decision": "block", "categories": ["bad"], "reviewer": "ann"}
        assert made.client.post(f"/v1/decisions/{row['id']}/feedback", json=body).status_code == 201
    moderate(made, png("green"))
    lines = made.client.get("/v1/decisions?format=jsonl&reviewed=true").text.splitlines()
    assert len(lines) == 2
    run = Run({}, {**POLICY, "version": 2}, None, ALWAYS, {}, "")
    found = reviewed_set(lines, run).decisions
    assert [(one.decision, one.audited, one.audit_share, sorted(one.labels)) for one in found] == [
        ("block", False, 0.0, ["bad"]),
        ("allow", True, 1.0, ["bad"]),
    ]
    assert [review.reviewer for one in found for review in one.reviews] == ["ann", "ann"]
