"""The image encoder alone: as exported, at each precision, beside the eager model it was made from."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.bench.alternate import alternate, medians, ratio
from scripts.bench.machine import cores
from scripts.bench.plan import Plan
from scripts.bench.report import ROOT, Section, Table, Target
from scripts.bench.stack import repository_of

BATCHES = (1, 2, 4, 8, 16, 32)
EAGER_BATCHES = (1, 16)
FP32_AT_LEAST, INT8_AT_LEAST = 1.3, 2.2


def measure(plan: Plan) -> Section:
    """Measure eager, fp32 and int8 in turns in one process with all cores, by batch."""
    for precision in ("fp32", "int8"):
        exported(plan.model, precision, plan.device)
    command = [sys.executable, "-m", "scripts.bench.encoder", plan.model, plan.device, str(plan.seconds / 3)]
    run = subprocess.run([*command, str(plan.rounds)], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, list[float]] = json.loads(run.stdout)
    middle = medians(found)
    rows = []
    for batch in BATCHES:
        cells = [f"{middle[side]:.1f}" if (side := f"{kind} {batch}") in middle else "" for kind in SIDES]
        rows.append((str(batch), *cells))
    targets = []
    for kind, least in (("fp32", FP32_AT_LEAST), ("int8", INT8_AT_LEAST)):
        for batch in EAGER_BATCHES:
            times = ratio(found, f"{kind} {batch}", f"eager {batch}")
            targets.append(
                Target(f"{kind} of eager fp32, batch {batch}", f"at least {least}", f"{times:.2f}", times >= least)
            )
    return Section(
        "Encoder",
        tuple(targets),
        (Table(("batch", *(f"{kind}, pictures/s" for kind in SIDES)), tuple(rows)),),
        (f"One process, {cores()} threads. Eager is transformers' CLIPModel, fed pixels that are normalised already.",),
        {f"encoder {kind} {batch}": middle[f"{kind} {batch}"] for kind in ("fp32", "int8") for batch in BATCHES},
    )


SIDES = ("eager", "fp32", "int8")


def exported(model: str, precision: str, device: str) -> Path:
    """Export a model for measuring unless it is there; return its repository."""
    repository = repository_of(model, precision, device)
    command = [sys.executable, "-m", "scripts.export", "--model", model, "--precision", precision, "--device", device]
    subprocess.run([*command, "--repository", str(repository)], cwd=ROOT, check=True, stdout=sys.stderr)
    return repository


def _in_this_process(model: str, device: str, seconds: float, rounds: int) -> dict[str, list[float]]:
    import torch

    from gateway.inference.bundle import read_manifest
    from scripts.export.device import resolve_device
    from scripts.export.formats.torchscript import load as load_script
    from scripts.export.pipeline import load
    from scripts.export.source import parse_source

    torch.set_num_threads(cores())
    torch._C._jit_set_profiling_mode(False)  # noqa: SLF001, FBT003 - as Triton runs it
    where = torch.device(resolve_device(device))
    eager = load(parse_source(model)).eager.to(where)
    scripts: dict[str, Any] = {}
    for precision in ("fp32", "int8"):
        repository = repository_of(model, precision, device)
        if engine := read_manifest(repository).exported_with.get("quantized_engine"):
            torch.backends.quantized.engine = engine
        scripts[precision] = load_script(str(repository / "clip_image" / "1" / "model.pt"), where)
    side = read_manifest(repository_of(model, "fp32", device)).image.size_px
    pixels = torch.randint(0, 255, (max(BATCHES), side, side, 3), dtype=torch.uint8, device=where)
    plain = torch.randn(max(EAGER_BATCHES), 3, side, side, device=where)
    sides: dict[str, Callable[[], float]] = {}
    for batch in BATCHES:
        if batch in EAGER_BATCHES:
            sides[f"eager {batch}"] = _rate(
                lambda given: eager.get_image_features(pixel_values=given).pooler_output, plain[:batch], seconds
            )
        for precision, script in scripts.items():
            sides[f"{precision} {batch}"] = _rate(script, pixels[:batch], seconds)
    with torch.inference_mode():
        return alternate(sides, rounds)


def _rate(model: Callable[[Any], Any], given: Any, seconds: float) -> Callable[[], float]:  # noqa: ANN401 - tensors
    def measured() -> float:
        model(given).cpu()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end or not times:
            model(given).cpu()
            times.append(time.perf_counter() - start)
        return len(given) / statistics.median(times)

    return measured


if __name__ == "__main__":
    json.dump(_in_this_process(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])), sys.stdout)
