"""``clip-gateway train``: labelled images → a classifier learned from them; or a head from a file."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import httpx2
from tqdm import tqdm

from gateway.cli.connection import Connection, connection_options
from gateway.cli.head_file import HeadUnusable, Stated, read_head
from gateway.cli.judging import Line, Query, judge
from gateway.cli.policies import TIMEOUT_S, Refused, answered
from gateway.cli.sources import Source
from gateway.errors import InvalidRequest
from gateway.evaluation.judged import LabelledImage
from gateway.evaluation.sources import HARMLESS, JOINED_BY, read_source
from gateway.evaluation.tables import SourceUnusable
from gateway.moderation.classifiers import check_name
from gateway.moderation.heads import packed

DONE, NOT_OFFERED, SOME_FAILED, USAGE = 0, 1, 3, 2
EMBEDDED = {"labels": ["a", "b"], "views": "full", "include": ["embedding"]}


@click.command()
@click.argument("name")
@click.argument("source", type=click.Path(path_type=Path, exists=True), required=False)
@connection_options
@click.option("--import", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A head's file.")
@click.option("--model", help="With --import: whose vectors it takes, as /v1/models names it.")
@click.option("--output", type=click.Choice(["sigmoid", "softmax"]), help="Of the head; of a training sigmoid.")
@click.option(
    "-l",
    "--label",
    "labels",
    multiple=True,
    help="A label of SOURCE; or of a file, in the order of its outputs.",
)
@click.option("--prompt", "prompts", multiple=True, metavar="LABEL=TEXT", help="A text that means a label.")
@click.option("--from-classifier", help="Start from a saved classifier's labels and words: name or name@version.")
@click.option("--activate", is_flag=True, help="Put the version in force rather than make a draft.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split into folds.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=8, show_default=True, help="Requests at once.")
@click.option("--json", "as_json", is_flag=True, help="Print the gateway's answer as JSON.")
@click.pass_context
def train(
    ctx: click.Context, /, *, name: str, source: Path | None, address: str, key: str | None, **given: Any
) -> None:
    """Learn the classifier NAME from the images in SOURCE, or take a head from a file.

    SOURCE holds a folder for each class (its name is a label, several joined by +, or harmless), or is a table as
    `evaluate` takes it. The head is saved as a draft, and only if it is better than words on images held out.

    Exit code: 0 saved; 1 not offered, the figures say why; 3 saved, but some images failed; 2 wrong usage or an error.
    """
    if (source is None) == (given["file"] is None):
        raise click.UsageError("Give SOURCE or --import.")
    connection = Connection(address, key)
    try:
        check_name(name)
        with httpx2.Client(base_url=address, headers=connection.headers, timeout=TIMEOUT_S) as client:
            code = learned(client, connection, name, source, given) if source else imported(client, name, given)
    except InvalidRequest as fault:
        raise click.UsageError(fault.detail) from None
    except (Refused, HeadUnusable, SourceUnusable) as fault:
        raise click.UsageError(f"{fault}.") from None
    except OSError as fault:
        raise click.UsageError(f"Cannot read {fault.filename or fault}: {fault.strerror}.") from None
    except httpx2.HTTPError as fault:
        raise click.UsageError(f"{address} cannot be reached ({type(fault).__name__}).") from None
    ctx.exit(code)


def imported(client: httpx2.Client, name: str, given: Mapping[str, Any]) -> int:
    """Save the head of a file; return the exit code."""
    head = read_head(given["file"], Stated(given["model"], given["output"], given["labels"]))
    parameters = {"activate": str(given["activate"]).lower()}
    path = f"/v1/classifiers/{name}"
    saved = answered(client.put(path, json=head.model_dump(mode="json"), params=parameters)).json()
    if given["as_json"]:
        click.echo(json.dumps({field: value for field, value in saved.items() if field not in {"layers", "norm"}}))
    else:
        click.echo(f"Saved {name}@{saved['version']}: {', '.join(head.names)}, a head of {head.model.id}.")
        click.echo(next_command(name, saved))
    return DONE


def learned(client: httpx2.Client, connection: Connection, name: str, source: Path, given: Mapping[str, Any]) -> int:
    """Embed the images, train, and print what came of it; return the exit code."""
    prompts = prompts_of(given["prompts"])
    if source.is_file() and not given["labels"]:
        raise Refused("A table needs its labels: --label, once for each")
    images = labelled(source, given["labels"])
    names = sorted({label for image in images.values() for label in image.labels} | set(prompts))
    vectors, failed = embedded(connection, list(images), given["concurrency"])
    examples = [
        {
            "labels": sorted(images[image].labels),
            "embedding": packed(vector),
            "group": images[image].group or sha256,
        }
        for image, (vector, sha256) in vectors
    ]
    body: dict[str, Any] = {"examples": examples, "seed": given["seed"]}
    if given["from_classifier"]:
        body["from_classifier"] = given["from_classifier"]
    else:
        body["labels"] = [{"label": label, "prompts": prompts.get(label, [])} for label in names]
        body["output"] = given["output"] or "sigmoid"
    parameters = {"activate": str(given["activate"]).lower()}
    made = answered(client.post(f"/v1/classifiers/{name}/train", json=body, params=parameters)).json()
    if given["as_json"]:
        click.echo(json.dumps(made | {"failed": failed}, ensure_ascii=False))
    else:
        for line in told(name, made, failed):
            click.echo(line)
    return (SOME_FAILED if failed else DONE) if made["offered"] else NOT_OFFERED


def labelled(path: Path, labels: Sequence[str]) -> dict[Source, LabelledImage]:
    """Return the images of a folder for each class, or of a table.

    Args:
        path: of it.
        labels: those that there are; none: whatever the folders are named.

    Raises:
        Refused: it names logged decisions, which need no vectors from here.
        SourceUnusable: it cannot be used.
    """
    known = labels or [label for folder in path.iterdir() if folder.is_dir() for label in folder.name.split(JOINED_BY)]
    found = read_source(path, sorted(set(known) - {HARMLESS}))
    if found.kind == "decisions":
        raise Refused("Decisions are named in the request itself: POST /v1/classifiers/{name}/train")
    return {Source(image.source, Path(image.source).name): image for image in found.images}


def prompts_of(given: Sequence[str]) -> dict[str, list[str]]:
    """Return the texts of each label.

    Raises:
        Refused: one is not of the form LABEL=TEXT.
    """
    made: dict[str, list[str]] = {}
    for entry in given:
        label, equals, text = entry.partition("=")
        if not (equals and label and text):
            raise Refused(f"--prompt {entry} is not LABEL=TEXT")
        made.setdefault(label, []).append(text)
    return made


def embedded(
    connection: Connection, images: Sequence[Source], concurrency: int
) -> tuple[list[tuple[Source, tuple[list[float], str]]], dict[str, int]]:
    """Return vector and SHA-256 of each image that the gateway could embed, in their order; of the others, counts."""
    lines: dict[str, Line] = {}
    with tqdm(total=len(images), unit="image", disable=None) as bar:

        def take(line: Line) -> None:
            lines[line["source"]] = line
            bar.update()

        query = Query("/v1/classify", EMBEDDED, None, concurrency, TIMEOUT_S)
        asyncio.run(judge(connection, query, images, take))
    failed = Counter(str(line["error"].get("code")) for line in lines.values() if line.get("error"))
    good = [
        (image, (line["embedding"], line["image"]["sha256"]))
        for image in images
        if not (line := lines[image.location]).get("error")
    ]
    return good, dict(failed)


def told(name: str, made: Mapping[str, Any], failed: Mapping[str, int]) -> Iterator[str]:
    """Yield what came of a training, for people."""
    counts = made["examples"]
    by_label = ", ".join(f"{count} {label}" for label, count in counts["by_label"].items())
    skipped = Counter(made["skipped_because"]) + Counter(failed)
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
    yield f"{counts['used']} examples ({by_label}){f'; left out: {left_out}' if left_out else ''}."
    figures = made["figures"]
    for label, found in (figures or {"labels": {}})["labels"].items():
        rows = [f"{who} {shown(found[who])}" for who in ("words", "head") if found[who]]
        yield f"{label}, on images held out: {'; '.join(rows)}."
    if not made["offered"]:
        yield f"Not offered. {made['reason']}"
        return
    row = made["classifier"]
    yield f"Saved {name}@{row['version']}{'' if row['active'] else ', a draft'}, by {figures['method']}."
    yield next_command(name, row)


def shown(figures: Mapping[str, Any]) -> str:
    """Return a label's figures with their intervals."""
    recall, area = figures["recall_at_1_percent_fpr"], figures["roc_auc"]
    return (
        f"recall {recall['value']:.2f} ({recall['low']:.2f} to {recall['high']:.2f}) at 1 % false positives, "
        f"area {area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
    )


def next_command(name: str, row: Mapping[str, Any]) -> str:
    """Return what to do with a version that was saved."""
    if row["active"]:
        return f"Next: name it in a policy's rule, classifier: {name}"
    return f"Next: name it in a policy's rule, classifier: {name}@{row['version']}; or activate that version"
