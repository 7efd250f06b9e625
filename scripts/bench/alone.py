"""The image encoder and the decoder alone, in processes of their own: what the cores can do without any service."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench.machine import cores
from scripts.bench.pictures import photographs
from scripts.bench.report import ROOT
from scripts.export.record import image_sizing
from scripts.triton.server import STUBS


@dataclass(frozen=True, slots=True)
class Setting:
    """How the encoder is run.

    Attributes:
        processes: at the same time.
        threads: of each.
        batch: rows of one call.
    """

    processes: int
    threads: int
    batch: int

    def words(self) -> str:
        """Return it in words."""
        return f"{self.processes} x {self.threads} threads, batch {self.batch}"


@dataclass(frozen=True, slots=True)
class Alone:
    """What was measured: pictures a second of all processes, and processor seconds a picture."""

    rate: float
    core_s: float


def settings(repository: Path) -> list[Setting]:
    """Return the ways of using all cores that are tried: the one that a repository is served with is among them."""
    own, served = cores(), image_sizing(repository)
    shapes = {(1, own), (own, 1), (served.instances, served.threads)} | ({(own // 2, 2)} if own >= 4 else set())
    batches = sorted({1, 8, 16, 32, served.max_batch})
    return [Setting(processes, threads, batch) for processes, threads in sorted(shapes) for batch in batches]


def encoder(repository: Path, setting: Setting, seconds: float) -> Alone:
    """Measure the exported encoder, in the environment that Triton's own processes have."""
    words = ["encoder", str(repository), str(setting.threads), str(setting.batch), str(seconds)]
    return _together([words] * setting.processes, STUBS)


def decoder(size_px: int, seconds: float) -> Alone:
    """Measure decode and view of the common picture, on one core a process."""
    return _together([["decoder", str(size_px), str(seconds)]] * cores(), {})


def _together(commands: list[list[str]], environment: dict[str, str]) -> Alone:
    """Run processes at the same time; each waits until all are warm."""
    import os

    started = [
        subprocess.Popen(
            [sys.executable, "-m", "scripts.bench.alone", *words],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for words in commands
    ]
    for process in started:
        assert process.stdout is not None  # noqa: S101 - opened above
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None  # noqa: S101
        process.stdin.write("go\n")
        process.stdin.flush()
    found = [json.loads(process.communicate()[0]) for process in started]
    pictures = sum(each["pictures"] for each in found)
    return Alone(
        sum(each["pictures"] / each["elapsed_s"] for each in found), sum(e["core_s"] for e in found) / pictures
    )


def _encoding(repository: Path, threads: int, batch: int) -> tuple[Callable[[], Any], int]:
    import torch

    from gateway.inference.bundle import read_manifest

    torch.set_num_threads(threads)
    torch._C._jit_set_profiling_mode(False)  # noqa: SLF001, FBT003 - as Triton runs it
    if engine := read_manifest(repository).exported_with.get("quantized_engine"):
        torch.backends.quantized.engine = engine  # likewise
    module = torch.jit.load(str(repository / "clip_image" / "1" / "model.pt")).eval()  # type: ignore[no-untyped-call]
    side = read_manifest(repository).image.size_px
    pixels = torch.randint(0, 255, (batch, side, side, 3), dtype=torch.uint8)

    def once() -> None:
        with torch.inference_mode():
            module(pixels)

    return once, batch


def _decoding(size_px: int) -> tuple[Callable[[], Any], int]:
    from gateway.decoding.decoder import DecodeLimits, inspect
    from gateway.decoding.plugins import accepted_formats
    from gateway.decoding.preprocess import Job, prepare
    from gateway.observability.stage_timer import StageTimer

    limits = DecodeLimits(
        max_bytes=1 << 24, max_pixels=50_000_000, max_side_px=10_000, min_side_px=32, max_frames=500, sampled_frames=16,
        timeout_s=60, formats=accepted_formats(heic=False, isolated=True),
    )  # fmt: skip
    jobs = [
        Job(data, inspect(data, limits), limits, frozenset({"center"}), size_px, size_px, 0) for data in photographs(8)
    ]

    def once() -> None:
        for job in jobs:
            prepare(job, StageTimer(), None)

    return once, len(jobs)


def main() -> None:
    """Be one of the processes: say when warm, wait, measure, print."""
    kind, *words = sys.argv[1:]
    seconds = float(words[-1])
    if kind == "encoder":
        once, pictures = _encoding(Path(words[0]), int(words[1]), int(words[2]))
    else:
        once, pictures = _decoding(int(words[0]))
    once()
    once()
    print("warm", flush=True)
    sys.stdin.readline()
    start, used, calls = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < start + seconds:
        once()
        calls += 1
    elapsed, core_s = time.perf_counter() - start, time.process_time() - used
    print(json.dumps({"pictures": calls * pictures, "elapsed_s": elapsed, "core_s": core_s}))


if __name__ == "__main__":
    main()
