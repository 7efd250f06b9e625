"""Encoders in process: ONNX Runtime's and ours, each in a process of its own with all cores."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.bench.machine import cores
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
        model = repository_of(plan.model, precision, "cpu") / "clip_image" / "1" / "model.pt"
        found[f"{OURS} {precision}"] = _measured(
            [sys.executable, "-m", "scripts.bench.peer_encoders", str(model), *words]
        )
        python, script = environment("onnx") / "python", SERVICES / "onnx_rate.py"
        found[f"{THEIRS} {precision}"] = _measured([str(python), str(script), str(files / f"{precision}.onnx"), *words])
    return found


def _measured(command: Sequence[str]) -> Callable[[], dict[int, float]]:
    def run() -> dict[int, float]:
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, env={**os.environ, **OFFLINE})
        return {int(batch): rate for batch, rate in json.loads(done.stdout).items()}

    return run


def _ours(path: Path, seconds: float, batches: Sequence[int]) -> dict[int, float]:
    """Measure an exported encoder in this process, as ``onnx_rate.py`` measures the other."""
    import torch

    from gateway.inference.bundle import read_manifest
    from scripts.export.formats.torchscript import load

    torch.set_num_threads(cores())
    torch._C._jit_set_profiling_mode(False)  # noqa: SLF001, FBT003 - as Triton runs it
    manifest = read_manifest(path.parents[2])
    if engine := manifest.exported_with.get("quantized_engine"):
        torch.backends.quantized.engine = engine  # as Triton's backend does
    model = load(str(path), torch.device("cpu"))
    side = manifest.image.size_px
    rates = {}
    with torch.inference_mode():
        for batch in batches:
            pixels = torch.randint(0, 255, (batch, side, side, 3), dtype=torch.uint8)
            model(pixels)
            times: list[float] = []
            end = time.perf_counter() + seconds
            while (start := time.perf_counter()) < end or not times:
                model(pixels)
                times.append(time.perf_counter() - start)
            rates[batch] = batch / statistics.median(times)
    return rates


if __name__ == "__main__":
    json.dump(_ours(Path(sys.argv[1]), float(sys.argv[2]), [int(batch) for batch in sys.argv[3:]]), sys.stdout)
