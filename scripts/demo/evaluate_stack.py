"""`make evaluate`: draws a labelled folder and runs `clip-gateway evaluate` on it, through a stack.

The running stack is asked, as `make serve`'s variables say, or one that is started and stopped. What this command does
not know it hands on: `python -m scripts.demo.evaluate_stack --count 3000 --calibrate --block-fpr 0.01`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from loadtests.target import ROOT, NoStack, described, is_running, started
from scripts.demo.labelled import write

FOLDER = ROOT / "reports" / "evaluation"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code of the evaluation."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo.evaluate_stack", description=__doc__)
    parser.add_argument("--count", type=int, default=600, help="drawings (default 600)")
    parser.add_argument("--seed", type=int, default=0, help="another draws others")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="the report is in a folder in it (default reports/evaluation)"
    )
    given, handed_on = parser.parse_known_args(arguments)
    out = given.out / f"{given.count}-{given.seed}"
    drawings = out / "drawings"
    if not drawings.exists():
        part = drawings.with_suffix(".part")
        write(part, given.count, given.seed)
        part.rename(drawings)
    with ExitStack() as exits:
        try:
            target = described(os.environ)
            if not is_running(target):
                print(f"evaluate: no stack at {target.gateway_url}, starting one", flush=True)
                target = exits.enter_context(started(os.environ, ""))
        except NoStack as fault:
            print(f"evaluate: {fault}", file=sys.stderr)
            return 1
        command = [Path(sys.executable).with_name("clip-gateway"), "evaluate", drawings, "--out", out]
        return subprocess.run([*command, "--address", target.gateway_url, *handed_on], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
