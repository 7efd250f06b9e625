"""Make an API key: ``python -m scripts.keys new --name ci --roles infer,read --rate 120/minute``.

Prints the key, once, and the entry that configures it, which holds only its SHA-256. Needs nothing but Python.

To exchange a key, make another with the same name, add its entry, change the client, then remove the old entry: with
GATEWAY_API_KEYS_FILE without a restart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.keys import ROLES, ApiKey, KeysInvalid, digest_of, entry_of, new_key, parse_entries

DONE, USAGE = 0, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="make a key and the entry that configures it")
    new.add_argument("--name", required=True, help="who uses it; appears in logs and in the audit")
    new.add_argument("--roles", required=True, help=f"comma-separated, of {', '.join(sorted(ROLES))}")
    new.add_argument("--rate", help="requests, such as 120/minute; none: no quota")
    new.add_argument("--append-to", type=Path, metavar="FILE", help="append the entry to FILE and print the key alone")
    given = parser.parse_args(arguments)
    key = new_key()
    roles = frozenset(role.strip() for role in given.roles.split(","))
    entry = entry_of(ApiKey(given.name, digest_of(key), roles, given.rate))
    try:
        parse_entries(entry)
    except KeysInvalid as fault:
        print(f"such a key {str(fault).removeprefix('entry 1 ')}", file=sys.stderr)
        return USAGE
    if given.append_to:
        with given.append_to.open("a", encoding="utf-8") as file:
            file.write(entry + "\n")
        print(key)
        return DONE
    print(f"The key, shown this once:   {key}")
    print(f"For GATEWAY_API_KEYS:       {entry}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
