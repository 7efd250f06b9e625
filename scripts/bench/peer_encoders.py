"""Encoders in process: ONNX Runtime's and ours, each in a process of its own with all cores."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence

from scripts.bench.formats import in_process
from scripts.bench.peer_setup import OFFLINE, SERVICES, environment, onnx
from scripts.bench.plan import Plan
from scripts.bench.report import ROOT
from scripts.bench.stack import repository_of

BATCHES = (1, 16)
PRECISIONS = ("fp32", "int8")
OURS, THEIRS = "this", "ONNX Runtime"


def encoders(plan: Plan) -> dict[str, Callable[[], dict[int, float]]]:
    """Return what measures each encoder: pictures a second by batch. Our bundles must have been exported."""
    files = onnx(plan.model)
    words = [str(plan.seconds / 2), *map(str, BATCHES)]
    found = {}
    for precision in PRECISIONS:
        bundle = repository_of(plan.model, precision, "cpu")
        found[f"{OURS} {precision}"] = _measured(in_process(bundle, plan.seconds / 2, BATCHES))
        python, script = environment("onnx") / "python", SERVICES / "onnx_rate.py"
        found[f"{THEIRS} {precision}"] = _measured([str(python), str(script), str(files / f"{precision}.onnx"), *words])
    return found


def _measured(command: Sequence[str]) -> Callable[[], dict[int, float]]:
    def run() -> dict[int, float]:
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, env={**os.environ, **OFFLINE})
        return {int(batch): rate for batch, rate in json.loads(done.stdout).items()}

    return run
