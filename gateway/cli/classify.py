"""``clip-gateway classify``: score many images against words."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.images import image_options, options_of, run
from gateway.cli.judging import Query


@click.command()
@image_options
@click.option("-l", "--label", "labels", multiple=True, help="A label; give it once for each of two or more.")
@click.option("--classifier", help="A saved classifier instead of labels: name or name@version.")
@click.option("--mode", type=click.Choice(["softmax", "independent"]), help="Of labels. softmax by default.")
@click.option("--template", "templates", multiple=True, help="A prompt with {} for the label; several are averaged.")
@click.option("--views", type=click.Choice(["center", "full", "tiles"]), default="center", show_default=True)
@click.option("--top-k", type=click.IntRange(1), help="The best labels alone.")
@click.pass_context
def classify(ctx: click.Context, /, *, labels: tuple[str, ...], classifier: str | None, **given: Any) -> None:
    """Score images against labels: files, folders that are searched through, and URLs.

    Exit code: 0 all scored; 3 one could not be; 2 wrong usage.
    """
    options = options_of(given)
    if bool(labels) == bool(classifier):
        raise click.UsageError("Give --label, several times, or --classifier.")
    asked: dict[str, Any] = {"labels": list(labels)} if labels else {"classifier": classifier}
    more = {name: list(value) if name == "templates" else value for name, value in given.items() if value}
    ctx.exit(run(options, Query("/v1/classify", asked | more, None, options.concurrency, options.timeout_s)))
