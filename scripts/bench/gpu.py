"""A GPU: the encoder alone by batch, through Triton with ready tensors, and through REST from JPEG.

``make bench DEVICE=cuda PRECISION=fp16 PRICE_PER_HOUR=...``. Where no GPU is to be had the section says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gateway.inference.bundle import read_manifest
from scripts.bench.alternate import alternate, medians
from scripts.bench.client import closed_loop, upload
from scripts.bench.encoder import exported
from scripts.bench.machine import cores
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.report import ROOT, Section, Table, Target
from scripts.bench.stack import Stack, stack

BATCHES = (1, 8, 32, 64, 128, 256)
TRITON_BATCHES = (1, 8, 64)
IN_FLIGHT = (16, 64, 256)
REPLICAS = (1, 4)
CLIENTS = 4
LABELS = ("a cat", "a dog", "a car", "a house", "something else")
ANCHORS = (
    ("clip-retrieval, clip_inference offline", "1500", "RTX 3080", "its documentation: samples/s, offline, no service"),
    ("clip-as-service", "286", "TITAN RTX", "its documentation"),
)
"""What other projects say of themselves, on other hardware and in other years: quoted, not measured here."""


def measure(plan: Plan) -> Section:
    """Measure on a GPU; without one, say so."""
    import torch

    if not torch.cuda.is_available():
        reason = "not measured: no CUDA device"
        targets = tuple(Target(name, "figures", reason, met=None) for name in ("encoder", "Triton", "REST from JPEG"))
        how = "On a machine with an NVIDIA GPU and a CUDA build of torch: `make bench DEVICE=cuda`."
        return Section("GPU", targets, (_anchors(),), (how,))
    name = torch.cuda.get_device_name()
    return measured(plan, "cuda", "fp16" if plan.precision == "int8" else plan.precision, name)


def measured(plan: Plan, device: str, precision: str, name: str) -> Section:
    """Measure a device; ``cpu`` too, by hand, to try the section itself where there is no GPU."""
    repository = exported(plan.model, precision, device)
    alone = alternate({"alone": lambda: _alone(repository, device, plan.seconds / 3)}, plan.rounds)["alone"]
    by_batch = medians({str(batch): [rates[str(batch)] for rates in alone] for batch in BATCHES})
    most = read_manifest(repository).image_max_batch
    through: dict[str, float] = {}
    for replicas in REPLICAS:
        with stack(plan.model, precision, device, {"REPLICAS": str(replicas)}) as running:
            sides: dict[str, Callable[[], float]] = {}
            if replicas == REPLICAS[0]:
                for batch in (one for one in TRITON_BATCHES if one <= most):
                    sides[f"Triton, batches of {batch}"] = _triton(running, batch, plan.seconds)
            for in_flight in IN_FLIGHT:
                sides[f"REST, {replicas} replicas, {in_flight} in flight"] = _rest(running, in_flight, plan.seconds)
            through |= medians(alternate(sides, plan.rounds))
    best = max(rate for side, rate in through.items() if side.startswith("REST"))
    figures = {f"rest {device} {precision}": best}
    if os.environ.get("PRICE_PER_HOUR"):
        figures[f"rest {device} price per hour"] = plan.price_per_hour
    how = (
        f"{name}, {precision}, {cores()} cores. Ready tensors are sent by {CLIENTS} processes, one request each at a "
        f"time; JPEG of 640 x 480 with {len(LABELS)} labels by one. Clients share the cores."
    )
    return Section(
        "GPU",
        (),
        (
            Table(("encoder alone, batch", "pictures/s"), tuple((b, f"{rate:.0f}") for b, rate in by_batch.items())),
            Table(("through", "pictures/s"), tuple((side, f"{rate:.0f}") for side, rate in through.items())),
            _anchors(),
        ),
        (how,),
        figures,
    )


def _anchors() -> Table:
    return Table(("quoted, not measured", "pictures/s", "on", "from"), ANCHORS)


def _alone(repository: Path, device: str, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "scripts.bench.gpu", "alone", str(repository), device, str(seconds)]
    run = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    rates: dict[str, float] = json.loads(run.stdout)
    return rates


def _alone_here(repository: Path, device: str, seconds: float) -> dict[int, float]:
    """Measure the exported encoder in this process, from pixels on the device to vectors on the host."""
    import torch

    from scripts.export.formats.torchscript import load

    torch._C._jit_set_profiling_mode(False)  # noqa: SLF001, FBT003 - as Triton runs it
    model = load(str(repository / "clip_image" / "1" / "model.pt"), torch.device(device))
    side = read_manifest(repository).image.size_px
    rates = {}
    with torch.inference_mode():
        for batch in BATCHES:
            pixels = torch.randint(0, 255, (batch, side, side, 3), dtype=torch.uint8, device=device)
            for _ in range(3):
                model(pixels).cpu()
            times: list[float] = []
            end = time.perf_counter() + seconds
            while (start := time.perf_counter()) < end or not times:
                model(pixels).cpu()
                times.append(time.perf_counter() - start)
            rates[batch] = batch / statistics.median(times)
    return rates


def _triton(running: Stack, batch: int, seconds: float) -> Callable[[], float]:
    side = read_manifest(running.repository).image.size_px

    def run() -> float:
        begin = time.time() + 5  # by then all clients have connected and warmed up
        words = [f"{running.host}:{running.grpc_port}", str(side), str(batch), str(begin), str(seconds)]
        command = [sys.executable, "-m", "scripts.bench.gpu", "client", *words]
        clients = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(CLIENTS)]
        said = [client.communicate()[0] for client in clients]
        if any(client.returncode for client in clients):
            raise RuntimeError("a client of Triton failed; its output is above")
        return sum(float(one) for one in said)

    return run


def _client(address: str, side: int, batch: int, begin: float, seconds: float) -> float:
    """Send ready tensors one request after the other; return pictures a second."""
    from tritonclient.grpc import InferenceServerClient, InferInput

    client = InferenceServerClient(address)
    given = InferInput("pixels", [batch, side, side, 3], "UINT8")
    given.set_data_from_numpy(np.random.default_rng(0).integers(0, 255, (batch, side, side, 3), dtype=np.uint8))
    for _ in range(3):
        client.infer("clip_image", [given])
    time.sleep(max(0.0, begin - time.time()))
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        client.infer("clip_image", [given])
        done += batch
    return done / passed


def _rest(running: Stack, in_flight: int, seconds: float) -> Callable[[], float]:
    fields = [("labels", label) for label in LABELS]
    requests = [upload("/v1/classify", [picture], fields) for picture in photographs()]

    def run() -> float:
        load = asyncio.run(closed_loop((running.host, running.port), requests, in_flight, seconds, warm=in_flight))
        return load.served

    return run


def _main(words: Sequence[str]) -> None:
    """Run a measurement that needs a process of its own."""
    if words[0] == "alone":
        json.dump(_alone_here(Path(words[1]), words[2], float(words[3])), sys.stdout)
    else:
        address, side, batch, begin, seconds = words[1:]
        json.dump(_client(address, int(side), int(batch), float(begin), float(seconds)), sys.stdout)


if __name__ == "__main__":
    _main(sys.argv[1:])
