"""``clip-gateway library``: scenarios that come with the program and are active nowhere until a team adds one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
import httpx2

from gateway.cli.connection import Connection, connection_options
from gateway.cli.policies import (
    DONE,
    Entry,
    Refused,
    answered,
    connected,
    difference,
    filled,
    from_gateway,
    put,
    written,
)
from gateway.moderation.builtin_scenarios import BuiltinScenario, shipped


def described(scenarios: BuiltinScenario) -> Mapping[str, str]:
    """Return what each scenario looks for, in one sentence, by its name."""
    return {name: body.description.split(". ")[0] + "." for name, body in scenarios.classifiers.items()}


def suggestion(scenarios: BuiltinScenario, names: Sequence[str]) -> dict[str, Any]:
    """Return what a policy needs for scenarios: their rules, and as attributes the names of those that inform."""
    policy = scenarios.policies["library"]
    rules = [rule.model_dump(mode="json") for rule in policy.rules if rule.classifier in names]
    attributes = [name for name in policy.attributes if name in names]
    return {key: found for key, found in (("rules", rules), ("attributes", attributes)) if found}


def add(client: httpx2.Client, scenarios: BuiltinScenario, names: Sequence[str]) -> int:
    """Save scenarios as classifiers and print what a policy needs to use them; return the exit code.

    Raises:
        Refused: a classifier of that name says something else; nothing was written.
    """
    demo = answered(client.get("/v1/models")).json()["data"][0]["demo"]
    entries = [Entry("classifiers", name, scenarios.classifiers[name].model_dump(mode="json")) for name in names]
    there = from_gateway(client)
    known = {name: there.get(("classifiers", name)) for name in names}
    for entry in entries:
        same = known[entry.name]
        if same and difference(same.body, filled(entry.body, same.body), entry.path):
            raise Refused(f"{entry.path} is there already and says something else: edit it, or save it by another name")
    if demo:
        click.echo("The gateway runs the demo model, which knows drawings: the library is for photographs.", err=True)
    for entry in entries:
        if known[entry.name]:
            click.echo(f"classifiers/{entry.name} is there already", err=True)
        else:
            click.echo(f"saved classifiers/{entry.name} as version {put(client, entry, None)}", err=True)
    click.echo("Nothing decides by it yet. Put this into a policy, and save the policy:", err=True)
    click.echo(written(suggestion(scenarios, names)), nl=False)
    return DONE


@click.group(invoke_without_command=True)
@click.pass_context
def library(ctx: click.Context) -> None:
    """List the scenarios that come along, or add some to a gateway.

    They are for CLIPs of photographs, not calibrated, and decide nothing until a policy names them.
    """
    if ctx.invoked_subcommand is None:
        for name, sentence in described(shipped("library")).items():
            click.echo(f"{name:<22} {sentence}")


@library.command("add")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@connection_options
@click.pass_context
def add_command(ctx: click.Context, *, names: tuple[str, ...], address: str, key: str | None) -> None:
    """Save scenarios as classifiers, and print the rules that a policy needs for them (on standard output)."""
    scenarios = shipped("library")
    for name in names:
        if name not in scenarios.classifiers:
            raise click.BadParameter(f"{name} is none of {', '.join(scenarios.classifiers)}", param_hint="NAME")
    ctx.exit(connected(Connection(address, key), lambda client: add(client, scenarios, names)))
