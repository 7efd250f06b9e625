"""Images a second through REST beside the encoder alone, in one run: ``python -m scripts.bench``.

The encoder alone is the bundle's own TorchScript model in a process of its own, with all cores, at its best batch. Both
are measured in turns, several rounds, and medians are printed with the machine they were measured on. Load generator,
gateway and Triton share the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
LABELS = ("a cat", "a dog", "a car", "a house", "something else")
BATCHES = (1, 2, 4, 8, 16, 32)
FIRST_PORT = 18_400
START_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: seconds of each measurement, rounds of all of them, requests in flight."""

    seconds: float
    rounds: int
    concurrency: tuple[int, ...]


def machine() -> str:
    """Return processor, usable cores, memory and versions on one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def photographs(count: int = 16, size: tuple[int, int] = (640, 480)) -> list[bytes]:
    """Return JPEGs with the spectrum of photographs: smoothed noise over gradients, about 50 KB each."""
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        small = rng.integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        noise = rng.normal(0, 6, (size[1], size[0], 3))
        picture = Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=85)
        made.append(out.getvalue())
    return made


@contextmanager
def stack(model: str, precision: str, device: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Run a stack of its own; yields the gateway's address and the bundle."""
    repository = Path(os.environ.get("BENCH_REPOSITORY", ROOT / ".cache" / "bench-bundle"))
    ports = ("GATEWAY_PORT", "TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
    environment = {name: str(FIRST_PORT + number) for number, name in enumerate(ports)}
    environment |= {"MODEL": model, "PRECISION": precision, "DEVICE": device, "REQUEST_TIMEOUT_S": "120"}
    environment |= {"MODEL_REPOSITORY": str(repository), "DATA_DIR": str(folder / "data"), "LOG_LEVEL": "warning"}
    environment |= {"GATEWAY_API_KEYS": "", "GATEWAY_API_KEYS_FILE": ""}  # on loopback, for as long as it is measured
    process = subprocess.Popen([sys.executable, "-m", "scripts.serve"], cwd=ROOT, env={**os.environ, **environment})
    address = f"http://127.0.0.1:{FIRST_PORT}"
    try:
        end = time.monotonic() + START_TIMEOUT_S
        while not is_ready(address):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit("bench: the stack did not become ready; its output is above.")
            time.sleep(0.5)
        yield address, repository
    finally:
        process.terminate()
        process.wait()


def is_ready(address: str) -> bool:
    """Return whether /readyz answers 200."""
    try:
        return httpx2.get(f"{address}/readyz", timeout=5).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False


def encoder_alone(repository: Path, device: str, seconds: float) -> dict[int, float]:
    """Return images a second of the image tower by batch, measured in a fresh process with all cores."""
    command = [sys.executable, "-m", "scripts.bench", "--encoder", str(repository), "--device", device]
    run = subprocess.run([*command, "--seconds", str(seconds)], cwd=ROOT, check=True, capture_output=True, text=True)
    return {int(batch): rate for batch, rate in json.loads(run.stdout).items()}


def measure_encoder(repository: Path, device: str, seconds: float) -> None:
    """Print, as JSON, images a second by batch; the body of ``encoder_alone``'s process."""
    import torch

    from gateway.bundle import read_manifest

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch._C._jit_set_profiling_mode(False)  # noqa: SLF001, FBT003 - as Triton runs it
    side = read_manifest(repository).image.size_px
    where = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    model = torch.jit.load(  # type: ignore[no-untyped-call]
        repository / "clip_image" / "1" / "model.pt", map_location=where
    )
    rates = {}
    with torch.inference_mode():
        for batch in BATCHES:
            pixels = torch.randint(0, 255, (batch, side, side, 3), dtype=torch.uint8, device=where)
            for _ in range(2):
                model(pixels).cpu()
            start, done = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                model(pixels).cpu()
                done += batch
            rates[batch] = done / (time.perf_counter() - start)
    print(json.dumps(rates))


async def through_rest(address: str, pictures: list[bytes], in_flight: int, seconds: float) -> tuple[float, float]:
    """Return images a second and the median latency in milliseconds with ``in_flight`` uploads at a time."""
    limits = httpx2.Limits(max_connections=in_flight)
    latencies: list[float] = []
    async with httpx2.AsyncClient(base_url=address, timeout=120, limits=limits) as client:

        async def ask(number: int) -> None:
            files = {"file": ("p.jpg", pictures[number % len(pictures)])}
            start = time.perf_counter()
            answer = await client.post("/v1/classify", files=files, data={"labels": list(LABELS)})
            answer.raise_for_status()
            latencies.append(time.perf_counter() - start)

        async def worker(number: int, end: float) -> None:
            while time.perf_counter() < end:
                await ask(number)
                number += in_flight

        await asyncio.gather(*(ask(number) for number in range(min(in_flight, 8))))
        latencies.clear()
        start = time.perf_counter()
        await asyncio.gather(*(worker(number, start + seconds) for number in range(in_flight)))
        elapsed = time.perf_counter() - start
    return len(latencies) / elapsed, statistics.median(latencies) * 1e3


def run(model: str, precision: str, device: str, plan: Plan) -> None:
    """Measure in turns and print the table."""
    pictures = photographs()
    alone: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    rest: dict[int, list[tuple[float, float]]] = {in_flight: [] for in_flight in plan.concurrency}
    with (
        tempfile.TemporaryDirectory() as folder,
        stack(model, precision, device, Path(folder)) as (address, repository),
    ):
        for number in range(plan.rounds):
            print(f"round {number + 1} of {plan.rounds} ...", file=sys.stderr, flush=True)
            for batch, rate in encoder_alone(repository, device, plan.seconds / 2).items():
                alone[batch].append(rate)
            for in_flight in plan.concurrency:
                rest[in_flight].append(asyncio.run(through_rest(address, pictures, in_flight, plan.seconds)))
    print(
        f"\n{machine()}\n{model}, {precision}; JPEG 640 x 480; medians of {plan.rounds} rounds of {plan.seconds:g} s\n"
    )
    print("| encoder alone, batch | images/s |\n|---|---|")
    rates = {batch: statistics.median(values) for batch, values in alone.items()}
    for batch, rate in rates.items():
        print(f"| {batch} | {rate:.1f} |")
    best = max(rates.values())
    print("\n| REST upload, in flight | images/s | of the best alone | median latency, ms |\n|---|---|---|---|")
    for in_flight, values in rest.items():
        rate, latency = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"| {in_flight} | {rate:.1f} | {rate / best:.0%} | {latency:.0f} |")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=os.environ.get("BENCH_MODEL", "random:ViT-B/32"))
    parser.add_argument("--precision", default=os.environ.get("PRECISION", "fp32"))
    parser.add_argument("--device", default=os.environ.get("DEVICE", "auto"))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--encoder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.encoder:
        measure_encoder(given.encoder, given.device, given.seconds)
    else:
        plan = Plan(given.seconds, given.rounds, tuple(given.concurrency))
        run(given.model, given.precision, given.device, plan)


if __name__ == "__main__":
    main()
