"""``clip-gateway moderate``: decide about many images by a policy."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.images import FailOn, image_options, options_of, run
from gateway.cli.judging import Query
from gateway.cli.sources import check_template


def checked_template(_: click.Context, __: click.Parameter, value: str) -> str:
    """Return a template that can be filled in."""
    try:
        return check_template(value)
    except ValueError as fault:
        raise click.BadParameter(str(fault)) from None


@click.command()
@image_options
@click.option("--policy", default="default", show_default=True, help="name or name@version.")
@click.option("--shadow", help="A second policy, evaluated and reported, never decisive.")
@click.option(
    "--external-id",
    default="{path}",
    show_default=True,
    callback=checked_template,
    help="Kept in the decision log: text with {path} (within the folder), {name}, {stem}, {folder}. Empty: none.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["review", "block", "never"]),
    default="block",
    show_default=True,
    help="From which decision on the exit code is 1.",
)
@click.pass_context
def moderate(
    ctx: click.Context, /, *, policy: str, shadow: str | None, external_id: str, fail_on: FailOn, **given: Any
) -> None:
    """Decide about images: files, folders that are searched through, and URLs.

    Each image is one request, several at a time; busy answers are tried again after the pause they ask for. An
    interrupted run goes on with --resume; its exit code counts all images all the same.

    Exit code: 0 all decided and none blocked; 1 one blocked; 3 one could not be decided; 4 both; 2 wrong usage.
    """
    options = options_of(given)
    options.fail_on = fail_on
    fields = {"policy": policy, **({"shadow": shadow} if shadow else {})}
    ctx.exit(run(options, Query("/v1/moderate", fields, external_id or None, options.concurrency, options.timeout_s)))
