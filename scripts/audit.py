"""``make audit``: look all pinned versions up for known vulnerabilities with pip-audit, and say which could not be.

pip-audit alone ends with 0 when the index it asks knows nothing about advisories: each package is "skipped", and
nothing was audited. Here that is a failure of its own.

Exit codes: 0 all were looked up and nothing is known, 1 something is known, 2 some could not be looked up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.lock import BUILD, LOCKS, ROOT, TOOLS

# What has no hashes is pinned in constraints.txt: torch, the exporter, Triton's server, tests.
FILES = (*(f"requirements/{lock.file}" for lock in (*LOCKS, BUILD, TOOLS)), "constraints.txt")
TIMEOUT_S = 600.0


@dataclass(slots=True)
class Findings:
    """Of one file: how many packages were looked up, those that were not, and what is known of the others."""

    audited: int = 0
    skipped: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)


def findings(report: dict[str, Any]) -> Findings:
    """Return what pip-audit's JSON says."""
    found = Findings()
    for package in report["dependencies"]:
        if "skip_reason" in package:
            found.skipped.append(package["name"])
            continue
        found.audited += 1
        for flaw in package["vulns"]:
            fixed = ", ".join(flaw.get("fix_versions", [])) or "no version"
            names = " ".join([flaw["id"], *flaw.get("aliases", [])])
            found.known.append(f"{package['name']} {package['version']}: {names}, fixed in {fixed}")
    return found


def audited(file: str, program: Path, service: str) -> Findings | None:
    """Return what is known about a file's packages, None when the service cannot be asked."""
    command = [
        *(str(program), "--requirement", file, "--no-deps", "--disable-pip", "--progress-spinner", "off"),
        *("--format", "json", "--vulnerability-service", service),
    ]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        return findings(json.loads(run.stdout))
    except (subprocess.TimeoutExpired, ValueError):
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.audit", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pip-audit", type=Path, required=True, help="the pip-audit program")
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="who is asked")
    given = parser.parse_args(arguments)
    incomplete = known = False
    for file in FILES:
        found = audited(file, given.pip_audit, given.service)
        if found is None:
            print(f"audit: {file}: NOT AUDITED, the advisory service “{given.service}” cannot be reached")
            incomplete = True
            continue
        skipped = f", {len(found.skipped)} NOT AUDITED: the service does not know them" if found.skipped else ""
        print(f"audit: {file}: {found.audited} looked up, {len(found.known)} advisories{skipped}")
        for line in found.known:
            print(f"  {line}")
        incomplete |= bool(found.skipped)
        known |= bool(found.known)
    if incomplete:
        print("audit: incomplete; run it where the advisory service can be reached", file=sys.stderr)
    elif not known:
        print("audit: nothing is known against these versions")
    return 1 if known else 2 if incomplete else 0


if __name__ == "__main__":
    sys.exit(main())
