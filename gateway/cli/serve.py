"""``clip-gateway serve``: the gateway process."""

from __future__ import annotations

import click

from gateway.__main__ import main


@click.command()
@click.pass_context
def serve(ctx: click.Context) -> None:
    """Run the gateway; the environment configures it.

    Triton has to serve the bundle in MODEL_REPOSITORY already; `make serve` starts both.
    """
    ctx.exit(main(arguments=()))
