"""``make mutate``: change the code that decides, one place at a time, and see that a test notices.

mutmut makes the mutants and runs the tests (``[tool.mutmut]`` in pyproject.toml). A mutant that no test notices has to
stand in ``tests/mutants_allowed.yaml`` with the reason why it changes no behaviour. An entry holds as long as the line
that it changes stays as it is, however many mutants come before it.

Exit codes: 0 every mutant is noticed or listed, 1 some are not, 2 mutmut could not do its work.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import yaml
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

ROOT = Path(__file__).parent.parent
ALLOWED = ROOT / "tests" / "mutants_allowed.yaml"
REPORT = ROOT / "reports" / "mutants.txt"
NOTICED = {"killed", "timeout", "segfault"}

Change = tuple[str, str, str]
"""A module's path, the lines that a mutant takes out of it and those that it puts in, without indentation."""


def change_of(path: str, diff: str) -> Change:
    """Return what a mutant changes, from its unified diff."""
    lines = [line for line in diff.splitlines() if not line.startswith(("+++", "---"))]
    was, now = ("\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return path, was, now


def allowed(text: str) -> dict[Change, str]:
    """Return the reasons of the mutants that may live.

    Args:
        text: YAML: by module's path, a list of ``was``, ``now`` and ``why``.

    Raises:
        ValueError: an entry without a reason.
    """
    reasons = {}
    for path, entries in (yaml.safe_load(text) or {}).items():
        for entry in entries:
            if not entry["why"]:
                raise ValueError(f"{path}: {entry['now']}: why?")
            reasons[path, entry["was"].strip(), entry["now"].strip()] = entry["why"]
    return reasons


def report(found: dict[str, list[tuple[str, Change]]], reasons: dict[Change, str]) -> tuple[str, int]:
    """Return the report and how many mutants live without being listed.

    Args:
        found: by module's path, the status and change of each mutant that was tried.
        reasons: of those that may live.
    """
    rows, living = [f"{'module':40} {'mutants':>8} {'noticed':>8} {'listed':>8} {'living':>8}"], []
    for path, mutants in sorted(found.items()):
        alive = [(status, change) for status, change in mutants if status not in NOTICED]
        unlisted = [(status, change) for status, change in alive if change not in reasons]
        noticed = len(mutants) - len(alive)
        rows.append(f"{path:40} {len(mutants):8} {noticed:8} {len(alive) - len(unlisted):8} {len(unlisted):8}")
        living += [f"{path} ({status})\n- {was}\n+ {now}\n" for status, (_, was, now) in unlisted]
    return "\n".join([*rows, "", *living]), len(living)


def main(options: Sequence[str]) -> int:
    """Run mutmut anew, with options of ``mutmut run``: ``gateway.moderation.policy*``, ``--max-children 1``."""
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)
    run = subprocess.run([sys.executable, "-m", "mutmut", "run", *options], cwd=ROOT, check=False)
    if run.returncode != 0:
        return 2
    return summarise()


def summarise() -> int:
    """Write the report of what mutmut left behind."""
    found: defaultdict[str, list[tuple[str, Change]]] = defaultdict(list)
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            status = status_by_exit_code[code]
            if status != "not checked":
                diff = "" if status in NOTICED else get_diff_for_mutant(name, path=path)
                found[str(path)].append((status, change_of(str(path), diff)))
    text, living = report(found, allowed(ALLOWED.read_text(encoding="utf-8")))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 1 if living or not found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
