"""``clip-gateway``: one command, its subcommands loaded when they are named."""

from __future__ import annotations

import importlib

import click
from click.shell_completion import get_completion_class

PROGRAM = "clip-gateway"
COMPLETION_VARIABLE = "_CLIP_GATEWAY_COMPLETE"
SUBCOMMANDS = {
    "serve": "gateway.cli.main:serve",
    "moderate": "gateway.cli.moderate:moderate",
    "classify": "gateway.cli.classify:classify",
    "evaluate": "gateway.cli.evaluate:evaluate",
    "thresholds": "gateway.cli.thresholds:thresholds",
    "train": "gateway.cli.train:train",
    "policies": "gateway.cli.carry:policies",
    "library": "gateway.cli.library:library",
    "keys": "gateway.cli.keys:keys",
    "completion": "gateway.cli.main:completion",
}


class LazyGroup(click.Group):
    """A group that imports a subcommand's module only when the subcommand is used or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the subcommands in the order of ``SUBCOMMANDS``."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return one subcommand; None where there is none of that name."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module, _, name = SUBCOMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="clip-moderation-gateway")
def cli() -> None:
    """Judge images against words: run the gateway, or ask one that runs.

    Commands that judge images end with 0 when every image was decided and none blocked, 1 when one was blocked, 3 when
    one could not be decided, 4 when both happened, and 2 when the command was used wrongly.
    """


@click.command()
@click.pass_context
def serve(ctx: click.Context) -> None:
    """Run the gateway; the environment configures it.

    Triton has to serve the bundle in MODEL_REPOSITORY already; `make serve` starts both.
    """
    from gateway.__main__ import main as serve_gateway  # noqa: PLC0415 - loads all libraries of the server

    ctx.exit(serve_gateway(arguments=()))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: eval "$(clip-gateway completion bash)"."""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    click.echo(found(cli, {}, PROGRAM, COMPLETION_VARIABLE).source())


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    cli(prog_name=PROGRAM, complete_var=COMPLETION_VARIABLE)
