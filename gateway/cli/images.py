"""What `moderate` and `classify` share: their options, their run over all images, their exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import httpx2
from tqdm import tqdm

from gateway.cli.connection import Connection, connection_options
from gateway.cli.judging import Line, Query, judge
from gateway.cli.lines import Form, OutputUnusable, decided_before, opened_output, write_line
from gateway.cli.sources import find_sources

DECIDED, BLOCKED, USAGE, UNDECIDED, BLOCKED_AND_UNDECIDED, INTERRUPTED = 0, 1, 2, 3, 4, 130
STRICTNESS = {"allow": 0, "review": 1, "block": 2}
SKIPPED_SHOWN = 10

FailOn = Literal["review", "block", "never"]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Options:
    """Of a run, as the command line gives them.

    Attributes:
        paths, urls: what is judged.
        connection: the gateway.
        out, form, resume: where lines go; ``resume`` goes on with what ``out`` holds.
        concurrency, timeout_s: of requests.
        fail_on: from which decision on the exit code says blocked.
    """

    paths: tuple[Path, ...]
    urls: Path | None
    connection: Connection
    out: Path | None
    form: Form
    resume: bool
    concurrency: int
    timeout_s: float
    fail_on: FailOn = "never"


def image_options(command: F) -> F:
    """Add the arguments and options that say which images, which gateway, and where the lines go."""
    path = click.Path(path_type=Path)
    decorators = [
        click.argument("paths", nargs=-1, type=path),
        click.option("--urls", type=path, help="A file with a URL a line."),
        connection_options,
        click.option("--out", type=path, help="Write lines to this file rather than to standard output."),
        click.option(
            "--format",
            "form",
            type=click.Choice(["text", "jsonl", "csv"]),
            help="Of lines. Standard output: text; a file: csv if it is named *.csv, else jsonl.",
        ),
        click.option("--json", "as_json", is_flag=True, help="The same as --format jsonl."),
        click.option("--resume", is_flag=True, help="Leave out images that --out already holds an answer for."),
        click.option(
            "--concurrency", type=click.IntRange(1, 256), default=8, show_default=True, help="Requests at once."
        ),
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(0.1),
            default=60.0,
            show_default=True,
            help="Seconds of one.",
        ),
    ]
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def options_of(given: dict[str, Any]) -> Options:
    """Take the options of ``image_options`` out of a command's keyword arguments."""
    connection = Connection(given.pop("address"), given.pop("key"))
    if given.pop("as_json"):
        given["form"] = "jsonl"
    out: Path | None = given["out"]
    if given["form"] is None:
        given["form"] = "text" if out is None else "csv" if out.suffix.lower() == ".csv" else "jsonl"
    if not given["paths"] and not given["urls"]:
        raise click.UsageError("Name files or folders, or give --urls.")
    if given["resume"] and out is None:
        raise click.UsageError("--resume needs --out.")
    if given["resume"] and given["form"] == "text":
        raise click.UsageError("--resume needs jsonl or csv.")
    names = ("paths", "urls", "out", "form", "resume", "concurrency", "timeout_s")
    return Options(connection=connection, **{name: given.pop(name) for name in names})


def run(options: Options, asked: Query) -> int:
    """Judge every image and write every line; return the exit code.

    Raises:
        click.UsageError: files or the output cannot be used.
    """
    try:
        found = find_sources(options.paths, options.urls)
        report_skipped(found.skipped)
        before = decided_before(options.out, options.form) if options.resume and options.out else {}
        wanted = [source for source in found.images if source.location not in before]
        blocked = any(is_blocked(before.get(source.location), options.fail_on) for source in found.images)
        with ExitStack() as exits:
            file = exits.enter_context(opened_output(options.out, options.form, append=options.resume))
            outcome = _Outcome(blocked=blocked)
            bar = exits.enter_context(tqdm(total=len(wanted), unit="image", disable=None))

            def take(line: Line) -> None:
                write_line(line, options.form, file)
                outcome.undecided += bool(line.get("error"))
                outcome.blocked |= is_blocked(line.get("decision"), options.fail_on)
                bar.update()

            try:
                asyncio.run(judge(options.connection, asked, wanted, take))
            except httpx2.TransportError as fault:
                outcome.undecided += 1
                click.echo(
                    f"The gateway at {options.connection.address} cannot be reached ({type(fault).__name__}).", err=True
                )
            except KeyboardInterrupt:
                click.echo("Interrupted; go on with --resume.", err=True)
                return INTERRUPTED
    except (OSError, UnicodeDecodeError) as fault:
        raise click.UsageError(f"Cannot read or write {getattr(fault, 'filename', None) or fault}.") from None
    except OutputUnusable as fault:
        raise click.UsageError(f"{fault}.") from None
    if outcome.undecided:
        click.echo(f"{outcome.undecided} of {len(wanted)} images could not be decided; their lines say why.", err=True)
        return BLOCKED_AND_UNDECIDED if outcome.blocked else UNDECIDED
    return BLOCKED if outcome.blocked else DECIDED


@dataclass(slots=True)
class _Outcome:
    blocked: bool
    undecided: int = 0


def is_blocked(decision: str | None, fail_on: FailOn) -> bool:
    """Return whether a decision is at or above --fail-on."""
    return fail_on != "never" and STRICTNESS.get(decision or "", -1) >= STRICTNESS[fail_on]


def report_skipped(skipped: list[str]) -> None:
    """Say on standard error which files of folders are no images."""
    if skipped:
        shown = ", ".join(skipped[:SKIPPED_SHOWN]) + (", …" if len(skipped) > SKIPPED_SHOWN else "")
        printable = shown.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        click.echo(f"Skipped {len(skipped)} that are no image by content or name: {printable}", err=True)
