"""``clip-gateway evaluate``: labelled images → a report, and on request a calibrated policy draft and heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import httpx2
import yaml
from pydantic import ValidationError

from gateway.cli.collecting import Question, collect, known_labels, pinned
from gateway.cli.connection import Connection, connection_options
from gateway.cli.goals import SHARE, goal_options
from gateway.cli.policies import Refused, written
from gateway.cli.reviews import Moment, check_source, reviews_of, write_table
from gateway.evaluation.collect import OtherRun, contradictions, truths
from gateway.evaluation.installed import is_installed
from gateway.evaluation.judged import JudgedSet
from gateway.evaluation.sources import read_source
from gateway.evaluation.steps import Evaluation, Steps, fit, reported, sections_of
from gateway.evaluation.tables import SourceUnusable

DONE, SOME_FAILED, NOT_PROMISED, INTERRUPTED = 0, 3, 5, 130
DRAFT = "draft"
MISSING = "This needs the extra “evaluate”: pip install 'clip-moderation-gateway[evaluate]'"


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True), required=False)
@connection_options
@click.option("--policy", help="name or name@version; default: default.")
@click.option(
    "--policy-file", type=click.Path(path_type=Path, dir_okay=False), help="A body that is not saved, in YAML."
)
@click.option("--classifier", help="Ask a classifier instead: name or name@version.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the report.")
@click.option("--reviewed", is_flag=True, help="No SOURCE: the policy's decisions that reviewers gave a verdict on.")
@click.option("--since", type=Moment(), help="Of these, made at this time or later: 2026-05-01.")
@click.option("--until", type=Moment(), help="Of these, made before this time.")
@click.option("--fresh", is_flag=True, help="Begin anew rather than go on with what --out holds.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=8, show_default=True, help="Requests at once.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.1), default=60.0, show_default=True, help="Seconds of one."
)
@click.option("--head", is_flag=True, help="Train a head a category on the part `train`.")
@click.option("--calibrate", is_flag=True, help="Fit calibrations.")
@click.option("--none-of-these", type=SHARE, help="With --classifier: lose this share at most to “none of these”.")
@goal_options
@click.option("--thumbnails", is_flag=True, help="Show the worst mistakes as small images, blurred.")
@click.option(
    "--compare", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Folder of another report."
)
@click.option("--traffic", type=click.IntRange(1), help="Images a day, for the load on reviewers.")
@click.option("--price-per-hour", type=click.FloatRange(0), help="Of the machine, for the price of a million images.")
@click.pass_context
def evaluate(
    ctx: click.Context, /, *, source: Path | None, address: str, key: str | None, out: Path, fresh: bool, **given: Any
) -> None:
    """Tell how good a policy or classifier is on labelled images, and what to change.

    SOURCE is a folder for each class (its name is a category of the policy, several joined by +, or harmless), or a
    table: *.csv, *.jsonl or *.parquet with a column path, url or decision_id, a column labels, and if you like group;
    all other columns are slices. The run goes on where it was cut off.

    Exit code: 0 done; 3 some images failed (the report is written without them); 5 a goal cannot be promised (the
    report says what is missing); 2 wrong usage.
    """
    if given["classifier"] and (given["policy"] or given["policy_file"]):
        raise click.UsageError("Give --policy or --classifier.")
    check_source(source, given)
    question = Question(
        Connection(address, key),
        given["policy"] or "default",
        body_of(given["policy_file"]),
        given["classifier"],
        given["concurrency"],
        given["timeout_s"],
    )
    try:
        check_extra()
        done = (
            reviewed(question, out, given)
            if source is None
            else Evaluation(collected(question, source, out, fresh=fresh))
        )
        try:
            steps = Steps(**{step.name: given[step.name] for step in fields(Steps)})
            fit(done, steps)
            report = reported(done, out, steps)
        except ValidationError:
            raise Refused("The gateway's classifiers or policy are of another form than this version reads") from None
        except ValueError as fault:  # a step that cannot work with these images; it says why
            raise Refused(str(fault)) from None
        write_draft(done, out)
    except (Refused, SourceUnusable, OtherRun) as fault:
        raise click.UsageError(f"{fault}.") from None
    except OSError as fault:
        raise click.UsageError(f"Cannot read or write {fault.filename or fault}: {fault.strerror}.") from None
    except httpx2.TransportError as fault:
        click.echo(f"{address} cannot be reached ({type(fault).__name__}); the same command goes on.", err=True)
        ctx.exit(SOME_FAILED)
    except KeyboardInterrupt:
        click.echo("Interrupted; the same command goes on.", err=True)
        ctx.exit(INTERRUPTED)
    for line in summary(done, report, out, address, given):
        click.echo(line)
    ctx.exit(NOT_PROMISED if done.missing else SOME_FAILED if done.judged.failed else DONE)


def reviewed(question: Question, out: Path, given: Mapping[str, Any]) -> Evaluation:
    """Return the reviewed decisions of the policy, with what the report says of them."""
    reviews = reviews_of(question, given["since"], given["until"])
    write_table(reviews, out)
    return Evaluation(reviews.judged, sections_of(reviews), reviews=reviews)


def check_extra() -> None:
    """Check that what draws reports and chooses thresholds is installed, before anything is asked.

    Raises:
        Refused: it is not.
    """
    if not is_installed():
        raise Refused(MISSING)


def body_of(path: Path | None) -> dict[str, Any] | None:
    """Read a policy's body.

    Raises:
        click.UsageError: it cannot be read, or is none.
    """
    if path is None:
        return None
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise click.UsageError(f"{path} cannot be read: {fault.strerror}.") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise click.UsageError(f"{path} is no YAML in UTF-8.") from None
    if not isinstance(body, dict):
        raise click.UsageError(f"{path} holds no policy.")
    return body


def collected(question: Question, path: Path, out: Path, *, fresh: bool) -> JudgedSet:
    """Return the images of the source as the gateway judged them.

    Raises:
        Refused, SourceUnusable, OtherRun: the text is for people.
        httpx2.TransportError: the gateway cannot be reached.
    """
    run = pinned(question)
    source = read_source(path, known_labels(run))
    if question.body is not None and source.kind == "images":
        raise Refused(
            "--policy-file is for logged decisions; for images save it as a draft and give --policy NAME@VERSION"
        )
    if source.skipped:
        click.echo(f"Skipped {len(source.skipped)} files that are no images: {source.skipped[0]} …", err=True)
    judged = collect(question, run, source.kind, source.images, out, fresh=fresh)
    for same in contradictions(judged):
        click.echo(f"One file with labels that contradict each other: {truths(same)}", err=True)
    return judged


def write_draft(done: Evaluation, out: Path) -> None:
    """Write the drafts in the form that ``clip-gateway policies import`` reads; those of a run before are removed."""
    for path in (out / DRAFT).glob("*/*.yaml"):
        path.unlink()
    files = {f"classifiers/{name}.yaml": dict(classifier) for name, classifier in done.classifiers.items()}
    body = done.draft()
    if body is not None and done.judged.run.policy is not None:
        files[f"policies/{done.judged.run.policy['name']}.yaml"] = body
    for name, value in files.items():
        path = out / DRAFT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written(value), encoding="utf-8")


def summary(
    done: Evaluation, report: Mapping[str, Any], out: Path, address: str, given: Mapping[str, Any]
) -> list[str]:
    """Return five lines for people, the last of which is the next command."""
    judged = done.judged
    codes = Counter(image.error for image in judged.failed)
    failed = ", ".join(f"{count} {code}" for code, count in codes.most_common())
    run = judged.run
    asked = f"{run.policy['name']}@{run.policy['version']}" if run.policy else run.classifier
    recalls = [
        f"{entry['category']} {found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
        for entry in report["categories"]
        if (found := entry["recall_at_fpr"].get("0.01")) and found["value"] is not None
    ]
    draft = done.policy is not None or bool(done.classifiers)
    promised = (
        [f"Promised, at {given['confidence']:.0%} confidence: {'; '.join(done.promises)}."] if done.promises else []
    )
    refused = [f"Not promised: {' '.join(done.missing)}"] if done.missing else []
    if done.missing:
        following = "label more images, as said above, or ask for less, and run the same command"
    elif draft:
        following = f"clip-gateway policies import --folder {out / DRAFT} --address {address} --dry-run"
    elif done.reviews is not None:
        audited = next(section for section in done.sections if section.key == "missed").values["known"]
        following = (
            "the same command with --block-fpr 0.01 proposes thresholds"
            if audited
            else "set audit_share in the policy; thresholds can be proposed once audited files are reviewed"
        )
    elif run.policy:
        following = f"clip-gateway thresholds --report {out} --block-fpr 0.01 --out policy.yaml"
    else:
        following = "open the report"
    told = f"Recall at 1 % false positives: {', '.join(recalls) or 'cannot be told from these images'}."
    if done.reviews is not None:
        told = next(section for section in done.sections if section.key == "missed").paragraphs[0]
    files = [str(out / "report.html")]
    files += [f"comparison: {out / 'compare.html'}"] if given["compare"] else []
    files += [f"draft: {out / DRAFT}"] if draft else []
    return [
        f"{len(judged.images)} images judged by {asked}, {len(judged.failed)} failed{f': {failed}' if failed else ''}.",
        told,
        " ".join([*promised, *refused]) or "No thresholds were asked for.",
        f"Report: {'; '.join(files)}",
        f"Next: {following}",
    ]
