"""The formats of a bundle side by side: the image encoder as TorchScript and as OpenVINO, a process each."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.bench.alternate import alternate, ratio
from scripts.bench.machine import cores
from scripts.bench.plan import Plan
from scripts.bench.report import ROOT, Section, Table
from scripts.bench.stack import repository_of

FORMATS = ("torchscript", "openvino")
PRECISIONS = ("fp32", "int8")
BATCHES = (1, 8, 16)


def measure(plan: Plan) -> Section:
    """Measure each format at each precision in turns, with all cores."""
    sides = {
        f"{name} {precision}": _side(_exported(plan.model, precision, name), plan.seconds / 3)
        for precision in PRECISIONS
        for name in FORMATS
    }
    rounds = alternate(sides, plan.rounds)
    found = {f"{side} {batch}": [one[batch] for one in ones] for side, ones in rounds.items() for batch in BATCHES}
    rows = []
    for precision in PRECISIONS:
        for batch in BATCHES:
            ours, theirs = (f"{name} {precision} {batch}" for name in FORMATS)
            rates = (f"{statistics.median(found[side]):.1f}" for side in (ours, theirs))
            rows.append((precision, str(batch), *rates, f"{ratio(found, theirs, ours):.2f}"))
    header = ("precision", "batch", *(f"{name}, pictures/s" for name in FORMATS), "times")
    return Section("Formats", (), (Table(header, tuple(rows)),), (f"A process each, {cores()} threads.",), {})


def _exported(model: str, precision: str, name: str) -> Path:
    repository = repository_of(model, precision, "cpu")
    repository = repository.with_name(f"{repository.name}-{name}")
    command = [sys.executable, "-m", "scripts.export", "--model", model, "--precision", precision, "--device", "cpu"]
    command += ["--format", name, "--repository", str(repository)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    return repository


def in_process(repository: Path, seconds: float, batches: Sequence[int]) -> list[str]:
    """Return the command that measures ``rates_here`` in a process of its own and prints them as JSON."""
    return [sys.executable, "-m", "scripts.bench.formats", str(repository), str(seconds), *map(str, batches)]


def _side(repository: Path, seconds: float) -> Callable[[], dict[int, float]]:
    command = in_process(repository, seconds, BATCHES)

    def run() -> dict[int, float]:
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
        return {int(batch): rate for batch, rate in json.loads(done.stdout).items()}

    return run


def rates_here(repository: Path, seconds: float, batches: Sequence[int]) -> dict[int, float]:
    """Return the pictures a second of a bundle's image encoder in this process, by batch."""
    import torch

    from gateway.inference.bundle import IMAGE_MODEL, read_manifest
    from scripts.export.formats.makers import maker

    torch.set_num_threads(cores())
    manifest = read_manifest(repository)
    if engine := manifest.exported_with.get("quantized_engine"):
        torch.backends.quantized.engine = engine
    model = maker(manifest.format_name).load(repository / IMAGE_MODEL / "1", torch.device("cpu"), manifest.target)
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
    json.dump(rates_here(Path(sys.argv[1]), float(sys.argv[2]), [int(batch) for batch in sys.argv[3:]]), sys.stdout)
