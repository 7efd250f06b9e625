"""``make lock``: write ``requirements/*.txt``, exact versions with the hashes of every file the index has of them.

The versions are those of ``constraints.txt``; what it does not name (the tools' own needs) is chosen anew. Locked is
what is one and the same artefact everywhere: the gateway, its extras ``evaluate``, ``heic``, ``oidc``, ``pdq`` (as
source, and what compiles it), ``redis``, ``review`` and ``traces``, the build backend, and the tools of the supply
chain. Not locked: torch, whose build depends on the machine, and what is installed with it for export, tests and load
tests (exact versions in ``constraints.txt`` all the same). ``uv`` asks the index that UV_DEFAULT_INDEX names, else the
public one; no index is named in the files.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"
PYTHON = "3.11"
HEADER = "# {purpose} Written by `make lock`; install with pip's --require-hashes.\n"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Lock:
    """One file.

    Attributes:
        file: its name.
        purpose: one sentence for its first line.
        extra: of pyproject.toml, beside the gateway's own dependencies; empty for those alone.
        besides: a file whose packages are left out here, since both are installed together.
    """

    file: str
    purpose: str
    extra: str = ""
    besides: str = ""


GATEWAY = Lock("gateway.txt", "What the gateway needs to run.")
LOCKS = (
    GATEWAY,
    Lock("evaluate.txt", "What the extra evaluate needs beside gateway.txt.", "evaluate", GATEWAY.file),
    Lock("heic.txt", "What the extra heic needs beside gateway.txt.", "heic", GATEWAY.file),
    Lock("oidc.txt", "What the extra oidc needs beside gateway.txt.", "oidc", GATEWAY.file),
    Lock(
        "pdq.txt", "What the extra pdq needs beside gateway.txt; no wheel for Linux is published.", "pdq", GATEWAY.file
    ),
    Lock("redis.txt", "What the extra redis needs beside gateway.txt.", "redis", GATEWAY.file),
    Lock("review.txt", "What the extra review needs beside gateway.txt.", "review", GATEWAY.file),
    Lock("traces.txt", "What the extra traces needs beside gateway.txt.", "traces", GATEWAY.file),
)
BUILD = Lock("build.txt", "What builds the gateway's own wheel.")
COMPILE = Lock("compile.txt", "What compiles the extra pdq, beside a C++ compiler.")
COMPILER = ("cython", "numpy>=2", "setuptools")  # of pdqhash's own build-system, but wheel, which setuptools has inside
TOOLS = Lock("tools.txt", "What locks, audits and lists the dependencies.")


class LockFailed(Exception):
    """uv could not resolve; the text is its own."""


def entries(text: str) -> dict[str, str]:
    """Return each pinned requirement of a requirements file, with its hashes, by normalised name."""
    found: dict[str, str] = {}
    blocks = re.split(r"\n(?=\S)", text)
    for block in blocks:
        pin = PIN.match(block)
        if pin is not None:
            found[normalised(pin["name"])] = block.rstrip() + "\n"
    return found


def normalised(name: str) -> str:
    """Return a distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def compiled(requirements: str, uv: Path) -> dict[str, str]:
    """Return what uv makes of requirements, one a line, by name.

    Raises:
        LockFailed: they cannot be met, or no index can be reached.
    """
    command = [
        *(str(uv), "pip", "compile", "-", "--universal", "--python-version", PYTHON, "--generate-hashes"),
        *("--constraint", "constraints.txt", "--no-header", "--no-annotate", "--quiet", "--no-progress"),
    ]
    run = subprocess.run(command, input=requirements, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise LockFailed(run.stderr.strip())
    return entries(run.stdout)


def wanted() -> dict[str, list[str]]:
    """Return requirements as pyproject.toml has them, by file name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    own: list[str] = project["project"]["dependencies"]
    extras: dict[str, list[str]] = project["project"]["optional-dependencies"]
    found = {lock.file: own + (extras[lock.extra] if lock.extra else []) for lock in LOCKS}
    found[BUILD.file] = project["build-system"]["requires"]
    found[COMPILE.file] = list(COMPILER)
    found[TOOLS.file] = extras["supply"]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.lock", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--uv", type=Path, required=True, help="the uv program")
    given = parser.parse_args(arguments)
    FOLDER.mkdir(exist_ok=True)
    made: dict[str, dict[str, str]] = {}
    try:
        for file, requirements in wanted().items():
            made[file] = compiled("\n".join(requirements), given.uv)
    except LockFailed as failed:
        print(f"lock: {failed}", file=sys.stderr)
        return 1
    for lock in (*LOCKS, BUILD, COMPILE, TOOLS):
        there = made[lock.besides] if lock.besides else {}
        kept = [entry for name, entry in sorted(made[lock.file].items()) if name not in there]
        (FOLDER / lock.file).write_text(HEADER.format(purpose=lock.purpose) + "".join(kept), encoding="utf-8")
        print(f"lock: requirements/{lock.file}: {len(kept)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
