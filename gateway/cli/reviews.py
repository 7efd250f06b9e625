"""Reviewers' verdicts, read from a gateway's decision log, as the source of an evaluation."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import httpx2

from gateway.cli.collecting import Question, pinned
from gateway.cli.policies import Refused
from gateway.cli.policies import answered as good
from gateway.evaluation.reviews.reviewed import Reviews, ReviewsUnreadable, reviewed_set

TABLE = "reviewed.csv"


class Moment(click.ParamType[Any]):
    """A date, or a time with its zone, in ISO 8601."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the moment as the API reads it; a date begins at midnight, UTC."""
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value} is no date or time: 2026-05-01, 2026-05-01T12:00:00Z", param, ctx)
        return moment.isoformat() if moment.tzinfo else f"{moment.isoformat()}+00:00"


def check_source(source: Path | None, given: Mapping[str, Any]) -> None:
    """Check that there is one source, and nothing that does not go with it.

    Raises:
        click.UsageError: the text is for people.
    """
    if (source is None) != given["reviewed"]:
        raise click.UsageError("Give SOURCE or --reviewed.")
    if source is not None and (given["since"] or given["until"]):
        raise click.UsageError("--since and --until go with --reviewed.")
    if source is None and (given["head"] or given["calibrate"]):
        raise click.UsageError(
            f"--head and --calibrate need what the log keeps of each image (DECISION_VECTORS): give the {TABLE} that "
            "--reviewed writes as SOURCE."
        )


def reviews_of(question: Question, since: str | None, until: str | None) -> Reviews:
    """Read the reviewed decisions of a policy, and count as labelled what reviewers said.

    Raises:
        Refused: the gateway says no, or there are none.
        httpx2.HTTPError: it cannot be reached.
    """
    if question.classifier is not None or question.body is not None:
        raise Refused("--reviewed is about the decisions of a policy: give --policy alone")
    run = pinned(question)
    assert run.policy is not None  # noqa: S101 - a policy was asked for
    asked = {"policy": run.policy["name"], "since": since, "until": until}
    params = {"format": "jsonl", "reviewed": "true"} | {name: value for name, value in asked.items() if value}
    try:
        reviews = reviewed_set(_lines(question, params), run)
    except ReviewsUnreadable as fault:
        raise Refused(f"{question.connection.address}: {fault}") from None
    if not reviews.decisions:
        why = ", ".join(f"{count} {reason}" for reason, count in reviews.skipped.items())
        raise Refused(f"No reviewed decision of {run.policy['name']} can be used{f': {why}' if why else ''}")
    return reviews


def write_table(reviews: Reviews, out: Path) -> Path:
    """Write the labels as a table of decision ids, which ``evaluate`` reads too, and return its path."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / TABLE
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("decision_id", "labels", "reviewed because"))
        for one in reviews.decisions:
            rows.writerow((one.id, "|".join(sorted(one.labels)), one.why))
    return path


def _lines(question: Question, params: dict[str, str]) -> Iterator[str]:
    connection = question.connection
    with (
        httpx2.Client(base_url=connection.address, headers=connection.headers, timeout=question.timeout_s) as client,
        client.stream("GET", "/v1/decisions", params=params) as answer,
    ):
        if not answer.is_success:
            answer.read()
        good(answer)
        yield from answer.iter_lines()
