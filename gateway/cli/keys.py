"""``clip-gateway keys``: make API keys."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gateway.auth.api_keys import ROLES, ApiKey, KeysInvalid, digest_of, entry_of, new_key, parse_entries


@click.group()
def keys() -> None:
    """Make API keys.

    To exchange a key, make another with the same name, add its entry, change the client, then remove the old entry:
    with GATEWAY_API_KEYS_FILE without a restart.
    """


@keys.command()
@click.option("--name", required=True, help="Who uses it; appears in logs and in the audit.")
@click.option("--roles", required=True, help=f"Comma-separated, of {', '.join(sorted(ROLES))}.")
@click.option("--rate", help="Requests in a time, such as 120/minute. None: no quota.")
@click.option(
    "--append-to",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append the entry to this file and print the key alone.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the key and its entry as JSON.")
def new(*, name: str, roles: str, rate: str | None, append_to: Path | None, as_json: bool) -> None:
    """Print a new key, once, and the entry that configures it, which holds only its SHA-256."""
    key = new_key()
    entry = entry_of(ApiKey(name, digest_of(key), frozenset(role.strip() for role in roles.split(",")), rate))
    try:
        parse_entries(entry)
    except KeysInvalid as fault:
        raise click.UsageError(f"such a key {str(fault).removeprefix('entry 1 ')}") from None
    if append_to:
        try:
            with append_to.open("a", encoding="utf-8") as file:
                file.write(entry + "\n")
        except OSError as fault:
            raise click.UsageError(f"cannot write {append_to}: {fault.strerror}") from None
    if as_json:
        click.echo(json.dumps({"key": key, "entry": entry}))
    elif append_to:
        click.echo(key)
    else:
        click.echo(f"The key, shown this once:   {key}")
        click.echo(f"For GATEWAY_API_KEYS:       {entry}")
