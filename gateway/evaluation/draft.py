"""Chosen thresholds as a policy's YAML file, in the form of ``clip-gateway policies export``, with what is promised."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from gateway.evaluation.guarantee.choice import Choice
from gateway.evaluation.guarantee.promises import percent, stated
from gateway.evaluation.judged import Run

WIDTH = 110


def draft_body(policy: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """Return a policy's body whose rules name the classifier versions that gave the scores.

    A promise is about these versions' scores: with a bare name the saved policy would pin the newest ones.
    """
    versions = (run.policy or {}).get("classifiers", {})
    rules = [
        {**rule, "classifier": f"{name}@{versions[name]}"} if (name := rule["classifier"]) in versions else dict(rule)
        for rule in policy["rules"]
    ]
    return {**policy, "rules": rules}


def draft_text(choice: Choice, run: Run) -> str:
    """Return the file; of a choice that has a policy.

    Raises:
        ValueError: it has none.
    """
    if choice.policy is None:
        raise ValueError("no thresholds keep what was asked for")
    asked = run.policy or {}
    lines = [
        f"Draft of {asked.get('name')}: thresholds chosen from the scores of version {asked.get('version')}.",
        f"With a confidence of {stated(choice.goals.confidence)}, for images like those it was tuned on:",
    ]
    results = {found.promise: found for found in choice.held}
    for promise in choice.promises:
        said = f"- {promise.text}; {promise.errors:,} errors among {promise.images:,} images tuned on"
        if (found := results.get(promise)) is not None:
            said += (
                f"; on the test part {percent(found.value)}, {percent(found.low)} to {percent(found.high)}: "
                f"{found.verdict}"
            )
        lines.append(said)
    lines += choice.notes
    lines.append("Look at it before it decides: save it with ?activate=false, then dry-run (docs/thresholds.md).")
    plain = [" ".join(line.split()) for line in lines]  # a category's name may hold what YAML takes for a line's end
    wrapped = [row for line in plain for row in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]
    body = draft_body(choice.policy, run)
    comments = "".join(f"# {row}\n" for row in wrapped)
    return comments + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=WIDTH + 10)
