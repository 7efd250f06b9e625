"""``clip-gateway thresholds``: thresholds that keep stated risks, from judged images, as a policy draft."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import httpx2
import yaml

from gateway.cli.collecting import of_evaluation
from gateway.cli.connection import Connection, connection_options
from gateway.cli.goals import goal_options
from gateway.cli.policies import DONE, TIMEOUT_S, Refused, answered, told

if TYPE_CHECKING:
    from gateway.evaluation.judged import Run

NOT_PROMISED = 5
JUDGED = "judged.jsonl"
MOST_DECISIONS = 20_000
NEXT = (
    "Next: look at it. The same command with --save puts it into the gateway, where it decides nothing yet, and tells "
    "what it would change."
)


@click.command()
@click.option(
    "--report",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="What `evaluate` wrote: judged images.",
)
@goal_options
@click.option("--from-decisions", is_flag=True, help="For --review-share: the gateway's log instead of a prevalence.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The draft, YAML.")
@click.option("--save", is_flag=True, help="Also put it into the gateway as a version that is not active.")
@click.option("--json", "as_json", is_flag=True, help="Print promises and what is missing as JSON.")
@connection_options
@click.pass_context
def thresholds(
    ctx: click.Context,
    /,
    *,
    report: Path,
    out: Path,
    prevalence: Mapping[str, float],
    from_decisions: bool,
    save: bool,
    as_json: bool,
    address: str,
    key: str | None,
    **goals: float | None,
) -> None:
    """Choose thresholds that keep what you state, with a guarantee, and write them as a policy draft.

    Exit code: 0 a draft was written; 2 wrong usage, or the gateway says no; 5 no thresholds keep it: what is missing,
    and what can be promised with these images, is told.
    """
    if importlib.util.find_spec("mapie") is None:
        raise click.UsageError("This needs the extra “evaluate”: pip install 'clip-moderation-gateway[evaluate]'")
    from gateway.evaluation.draft import draft_text  # noqa: PLC0415 - of an extra
    from gateway.evaluation.judged import read_judged  # noqa: PLC0415
    from gateway.evaluation.risk_control import Goals, choose  # noqa: PLC0415

    def work(client: httpx2.Client) -> int:
        stated = {name: value for name, value in goals.items() if value is not None}
        try:
            judged = read_judged(report / JUDGED)
            wanted = Goals(**stated, prevalence=prevalence or None)
            choice = choose(judged, wanted, traffic=stored(client, judged.run) if from_decisions else None)
        except ValueError as error:
            raise Refused(f"{error}.") from None
        section = choice.section()
        if as_json:
            click.echo(json.dumps(section.values, ensure_ascii=False, indent=2))
        else:
            click.echo("\n".join(section.paragraphs))
            for table in section.tables:
                click.echo("\n" + "\n".join([table.caption, *lines_of([table.head, *table.rows])]))
        if choice.policy is None:
            return NOT_PROMISED
        text = draft_text(choice, judged.run)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
        click.echo(f"\nWritten: {out}", err=as_json)
        if save:
            saved(client, judged.run, text, as_json=as_json)
        else:
            click.echo(NEXT, err=as_json)
        return DONE

    connection = Connection(address, key)
    with httpx2.Client(base_url=connection.address, headers=connection.headers, timeout=TIMEOUT_S) as client:
        ctx.exit(told(client, work))


def stored(client: httpx2.Client, run: Run) -> list[Mapping[str, float]]:
    """Return the scores of the newest logged decisions of the version that judged the images, once an image.

    Decisions of an evaluation are no traffic: whoever labelled the images chose how common things are among them.

    Raises:
        Refused: the gateway says no, or it logged none.
    """
    asked = run.policy or {}
    policy = f"{asked.get('name')}@{asked.get('version')}"
    wanted: dict[str, str | int] = {"policy": policy, "format": "jsonl", "limit": MOST_DECISIONS}
    rows = [json.loads(line) for line in answered(client.get("/v1/decisions", params=wanted)).text.splitlines()]
    found = {
        row["image"]["sha256"]: row["scores"]
        for row in rows
        if row["bundle_id"] == run.model.get("bundle_id") and row["scores"] and not of_evaluation(row["external_id"])
    }
    if not found:
        raise Refused(f"The gateway has no logged decisions of {policy}: state --prevalence instead")
    return list(found.values())


def saved(client: httpx2.Client, run: Run, text: str, *, as_json: bool) -> None:
    """Save a draft's text as a version that is not active, and tell what it would change and how it becomes active.

    Raises:
        Refused: the gateway says no.
    """
    name = (run.policy or {})["name"]
    place = f"/v1/policies/{name}"
    body = yaml.safe_load(text)
    version = answered(client.put(place, params={"activate": "false"}, json=body)).json()["version"]
    found = answered(client.post(f"{place}/dry-run", json={"version": version})).json()
    changes = [f"{row['count']:,} {row['before']} → {row['after']}" for row in found["counts"] if differs(row)]
    address = f"{client.base_url}".rstrip("/")
    activate = (
        f"curl -X POST {address}{place}/activate -H 'Content-Type: application/json' -d '{{\"version\": {version}}}'"
    )
    compared = f"Over {found['compared']:,} logged decisions it would change {found['changed']:,}"
    lines = [
        f"Saved as {name}@{version}, not active.",
        f"{compared}{': ' if changes else ''}{', '.join(changes)}."
        if found["compared"]
        else f"What it would change is not known. {found['hint'] or ''}".rstrip(),
        f"Activate it: {activate}",
        f"Roll back later: the same with {(run.policy or {})['version']}, the version that was judged.",
    ]
    click.echo("\n".join(lines), err=as_json)


def differs(row: Mapping[str, Any]) -> bool:
    """Return whether a row of a dry run's counts is of a change."""
    return bool(row["before"] != row["after"])


def lines_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
